// Adapters of PEFT. The input is an adapter_config.json up to its first NUL, and names of tensors put together of words
// that belong together or nearly do, of any type and shape. What is accepted of the configuration says the same when it
// is written anew; of the tensors each has one place, each module has what its merge needs, and their order changes
// nothing.
#include <algorithm>
#include <array>
#include <cmath>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "formats/adapter/adapter_config.h"
#include "formats/adapter/adapter_parts.h"
#include "formats/base/json_value.h"
#include "tests/fuzz/fuzz_target.h"

namespace q4::fuzz {
namespace {

constexpr std::array<std::string_view, 24> kAdapterWords = {"base_model.model",
                                                            "lora_A",
                                                            "lora_B",
                                                            "weight",
                                                            "lora_embedding_A",
                                                            "lora_embedding_B",
                                                            "lora_magnitude_vector",
                                                            "bias",
                                                            "default",
                                                            "base_layer",
                                                            "modules_to_save",
                                                            "original_module",
                                                            "q",
                                                            "k",
                                                            "head",
                                                            "",
                                                            "lora_E",
                                                            "ia3_l",
                                                            "trainable_tokens_delta",
                                                            "prompt_embeddings",
                                                            "base_model",
                                                            "model",
                                                            "lora_",
                                                            "weights"};

std::vector<SourceTensor> AdapterTensorsOf(FuzzInput& input) {
  std::vector<SourceTensor> tensors;
  std::set<std::string> names;
  while (input.remaining() != 0 && tensors.size() < 24) {
    SourceTensor tensor;
    const std::uint8_t form = input.Byte();
    if (form >= 128) tensor.name = "base_model.model.";
    for (std::uint64_t words = 1 + form % 6; words > 0; --words) {
      tensor.name += std::string(kAdapterWords[input.Byte() % kAdapterWords.size()]) + (words > 1 ? "." : "");
    }
    const std::uint8_t type = input.Byte();
    constexpr std::array<DType, 4> kTypes = {DType::kF32, DType::kBF16, DType::kF16, DType::kF32};
    tensor.dtype = type < 240 ? kTypes[type % kTypes.size()] : static_cast<DType>(1 + type % kMaxDType);
    for (std::uint64_t rank = type % 16 < 12 ? 2 : type % 5; rank > 0; --rank) tensor.shape.push_back(input.Byte() % 8);
    if (!CountElements(tensor.shape, &tensor.elems) || !names.insert(tensor.name).second) continue;
    tensor.bytes = tensor.elems * ItemSize(tensor.dtype);
    tensor.extents.push_back({0, 0, tensor.bytes});
    tensors.push_back(std::move(tensor));
  }
  return tensors;
}

// The members that a merge asks for.
std::string JsonOf(const AdapterConfig& config) {
  Json json;
  json["peft_type"] = "lora";
  json["r"] = config.rank;
  json["lora_alpha"] = config.alpha;
  json["use_rslora"] = config.rslora;
  json["use_dora"] = config.dora;
  json["lora_bias"] = config.bias;
  json["fan_in_fan_out"] = config.fan_in_fan_out;
  json["ensure_weight_tying"] = config.keeps_ties;
  json["rank_pattern"] = Json::object();
  for (const auto& [module, rank] : config.rank_pattern) json["rank_pattern"][module] = rank;
  json["alpha_pattern"] = Json::object();
  for (const auto& [module, alpha] : config.alpha_pattern) json["alpha_pattern"][module] = alpha;
  json["modules_to_save"] = Json::array();
  for (const std::string& end : config.copies) json["modules_to_save"].push_back(end);
  json["base_model_name_or_path"] = config.base_model;
  return json.dump();
}

bool IsRank(std::uint64_t rank) { return rank >= 1 && rank <= kMostAdapterRank; }

void CheckConfig(const AdapterConfig& config) {
  Q4_FUZZ_CHECK(IsRank(config.rank) && std::isfinite(AdapterScale(config, config.alpha, config.rank)));
  for (const auto& [module, rank] : config.rank_pattern) Q4_FUZZ_CHECK(IsRank(rank));
  for (const auto& [module, alpha] : config.alpha_pattern) Q4_FUZZ_CHECK(std::isfinite(AdapterScale(config, alpha, 1)));
  for (const Note& note : config.notes) {
    Q4_FUZZ_CHECK(Printable(Shown{note.text}, std::numeric_limits<std::size_t>::max()) == note.text);
  }
  const auto again = ParseAdapterConfig(JsonOf(config), "adapter_config.json");
  Q4_FUZZ_CHECK(again.ok() && again->notes.empty());
  Q4_FUZZ_CHECK(again->rank == config.rank && again->alpha == config.alpha && again->rslora == config.rslora);
  Q4_FUZZ_CHECK(again->dora == config.dora && again->bias == config.bias && again->keeps_ties == config.keeps_ties);
  Q4_FUZZ_CHECK(again->fan_in_fan_out == config.fan_in_fan_out && again->base_model == config.base_model);
  Q4_FUZZ_CHECK(again->rank_pattern == config.rank_pattern && again->alpha_pattern == config.alpha_pattern);
  Q4_FUZZ_CHECK(again->copies == config.copies);
}

// Takes a tensor out of those that have no place yet.
void Use(const SourceTensor* tensor, std::set<const SourceTensor*>* unplaced) {
  if (tensor != nullptr) Q4_FUZZ_CHECK(unplaced->erase(tensor) == 1);
}

void CheckParts(const AdapterParts& parts, const AdapterConfig& config, const std::vector<SourceTensor>& tensors) {
  std::set<const SourceTensor*> unplaced;
  for (const SourceTensor& tensor : tensors) unplaced.insert(&tensor);
  for (const auto& [name, module] : parts.modules) {
    Q4_FUZZ_CHECK(module.a != nullptr && module.b != nullptr);
    Q4_FUZZ_CHECK((module.magnitude != nullptr) == config.dora);
    Q4_FUZZ_CHECK(module.bias == nullptr || config.bias);
    Q4_FUZZ_CHECK(module.bias != nullptr || !config.bias || module.is_embedding);
    Q4_FUZZ_CHECK(module.a->shape.size() >= 2 && module.b->shape.size() >= 2);
    Q4_FUZZ_CHECK(RankOfFactors(module) == module.b->shape[1]);
    for (const SourceTensor* part : {module.a, module.b, module.bias, module.magnitude}) {
      Q4_FUZZ_CHECK(part == nullptr || IsQuantizable(part->dtype));
      Use(part, &unplaced);
    }
  }
  for (const auto& [name, replaced] : parts.replaced) {
    Use(replaced.tensor, &unplaced);
    Q4_FUZZ_CHECK(replaced.tensor != nullptr);
  }
  for (const SourceTensor* tensor : parts.unused) Use(tensor, &unplaced);
  Q4_FUZZ_CHECK(unplaced.empty());
}

// The same in names, for lists in another order.
std::set<std::string> NamesOf(const AdapterParts& parts) {
  std::set<std::string> names;
  for (const auto& [name, module] : parts.modules) {
    std::string line = "module " + name;
    for (const SourceTensor* part : {module.a, module.b, module.bias, module.magnitude}) {
      line += '\0' + (part != nullptr ? part->name : std::string());
    }
    names.insert(line + (module.is_embedding ? "e" : ""));
  }
  for (const auto& [name, replaced] : parts.replaced) {
    names.insert("replaced " + name + '\0' + replaced.tensor->name + (replaced.is_copy ? '\1' : '\0'));
  }
  for (const SourceTensor* tensor : parts.unused) names.insert("unused " + tensor->name);
  return names;
}

}  // namespace
}  // namespace q4::fuzz

Q4_FUZZ_TARGET(adapter) {
  using namespace q4;
  const std::string_view all = fuzz::TextOf(data, size);
  const std::string_view text = all.substr(0, all.find('\0'));
  const auto config = ParseAdapterConfig(text, "adapter_config.json");
  if (!config.ok()) {
    fuzz::CheckError(config.status());
    return 0;
  }
  fuzz::CheckConfig(*config);
  fuzz::FuzzInput input(data + std::min(text.size() + 1, size), size - std::min(text.size() + 1, size));
  const std::vector<SourceTensor> tensors = fuzz::AdapterTensorsOf(input);
  const std::vector<SourceTensor> reversed(tensors.rbegin(), tensors.rend());
  const auto parts = ReadAdapterParts(*config, tensors, "adapter_model.safetensors");
  const auto other = ReadAdapterParts(*config, reversed, "adapter_model.safetensors");
  Q4_FUZZ_CHECK(parts.ok() == other.ok());
  if (!parts.ok()) {
    fuzz::CheckError(parts.status());
    fuzz::CheckError(other.status());
    return 0;
  }
  fuzz::CheckParts(*parts, *config, tensors);
  Q4_FUZZ_CHECK(fuzz::NamesOf(*parts) == fuzz::NamesOf(*other));
  return 0;
}
