// Three witnesses for quantized weights: configuration, side files, tensors. The first that names a method names it;
// what the tensors say is added, because a configuration that nothing bears out may be stale, and the user must know.
#include "formats/source/foreign.h"

#include <algorithm>
#include <utility>

#include "fmt/format.h"
#include "formats/base/json_value.h"
#include "formats/base/status.h"
#include "formats/base/text.h"
#include "formats/folder/adapters.h"
#include "formats/folder/quant_methods.h"
#include "formats/source/checkpoint_issues.h"

namespace q4 {
namespace {

constexpr std::string_view kModelConfig = "config.json";

std::string TensorPlace(const SourceTensor& tensor) { return fmt::format("tensor '{}'", tensor.name); }

// What a quantization_config, or a member that stands for one, says.
struct Claim {
  const QuantMethod* method = nullptr;  // nullptr: none that a loader knows
  std::string member;                   // that tells it, with its value
  std::string place;                    // the member to remove, where it is stale
};

// `place` is the path of `value` in its file. "load_in_4bit" goes before quant_method, as in transformers.
Claim ReadClaim(const Json& value, const std::string& place) {
  if (value.is_string()) return {FindQuantMethod(value.get<std::string>()), place, place};
  for (const auto& [flag, name] :
       {std::pair{"load_in_4bit", kBnb4Bit}, std::pair{"load_in_8bit", std::string_view("bitsandbytes 8-bit")}}) {
    if (HasAnyValue(value, flag)) return {&QuantMethodNamed(name), fmt::format("{}.{}", place, flag), place};
  }
  const Json* quant_method = FindMember(value, "quant_method");
  if (quant_method != nullptr && quant_method->is_string()) {
    const auto& name = quant_method->get_ref<const std::string&>();
    return {FindQuantMethod(name), fmt::format("{}.quant_method '{}'", place, name), place};
  }
  return {QuantMethodOfKeys(value), place, place};
}

// Where loaders look inside a configuration: at the top, and in the part that describes the text model (transformers'
// get_text_config(decoder=True)).
std::vector<std::pair<std::string, const Json*>> ConfigParts(const Json& config) {
  std::vector<std::pair<std::string, const Json*>> parts = {{"", &config}};
  for (const char* name : {"text_config", "decoder", "generator"}) {
    const Json* part = FindMember(config, name);
    if (part != nullptr && part->is_object()) parts.emplace_back(std::string(name) + ".", part);
  }
  return parts;
}

constexpr const char* kSections[] = {"quantization_config", "compression_config"};

// The first claim of a known method; else the first of any, with no method; nullopt where nothing is claimed. MLX says
// "quantization" and the sizes, ChatGLM a number of bits at the top.
std::optional<Claim> ConfigClaim(const Json& config) {
  std::optional<Claim> unknown;
  for (const auto& [prefix, part] : ConfigParts(config)) {
    for (const char* key : kSections) {
      const Json* value = FindMember(*part, key);
      if (value == nullptr || value->is_null()) continue;
      Claim claim = ReadClaim(*value, prefix + key);
      // What llm-compressor's older versions wrote.
      if (claim.method == nullptr && std::string_view(key) == "compression_config" && HasAnyValue(*value, "format")) {
        claim.method = &QuantMethodNamed("compressed-tensors");
      }
      if (claim.method != nullptr) return claim;
      if (!unknown) unknown = std::move(claim);
    }
    const Json* mlx = FindMember(*part, "quantization");
    if (mlx != nullptr && HasAnyValue(*mlx, "bits group_size mode")) {
      return Claim{&QuantMethodNamed("MLX"), prefix + "quantization", prefix + "quantization"};
    }
    if (HasAnyValue(*part, "quantization_bit")) {
      return Claim{&QuantMethodNamed("ChatGLM"), prefix + "quantization_bit", prefix + "quantization_bit"};
    }
  }
  return unknown;
}

// What a file of a quantizer claims. Members stand at the top, or in "quantization" (ModelOpt).
std::optional<Claim> FileClaim(const QuantFile& file, const Json& content) {
  const Json* inner = FindMember(content, "quantization");
  for (const Json* part : {&content, inner}) {
    if (part == nullptr || (file.keys.empty() ? !IsTruthy(*part) : !HasAnyValue(*part, file.keys))) continue;
    Claim claim = ReadClaim(*part, std::string(file.name));
    if (claim.method == nullptr) claim.method = &QuantMethodNamed(file.method);
    std::string told;
    AnyItem(file.keys, " ", [&](std::string_view key) {
      told = key;
      return HasAnyValue(*part, key);
    });
    claim.member = told;
    return claim;
  }
  return std::nullopt;
}

// What one text claims; of config.json also a method that no loader knows. Texts that are not JSON tell nothing:
// whoever needs them says so.
std::optional<Claim> ClaimOf(const SideText& text) {
  const absl::StatusOr<Json> json = ParseModelJson(text.text, text.path);
  if (!json.ok()) return std::nullopt;
  if (text.name == kModelConfig) return ConfigClaim(*json);
  const auto& files = QuantFiles();
  const auto file = std::find_if(files.begin(), files.end(), [&](const QuantFile& f) { return f.name == text.name; });
  return file != files.end() ? FileClaim(*file, *json) : std::nullopt;
}

std::string WayOut(const QuantMethod& method) {
  std::string text = "convert the checkpoint that it was made from";
  if (!method.dequantize.empty()) text += fmt::format(", or {}", method.dequantize);
  return text;
}

Foreign Quantized(const QuantMethod& method, const SideText& text, const Claim& claim, const QuantTensors& tensors) {
  Foreign foreign;
  foreign.name = method.name;
  foreign.file = text.path;
  foreign.where = claim.member;
  foreign.way_out = WayOut(method);
  if (tensors.tensor != nullptr) {
    foreign.evidence = fmt::format("as {} shows", TensorPlace(*tensors.tensor));
  } else {
    // Nothing else bears it out: a stale text is a usual cause, and costs the user one edit.
    foreign.way_out += "; if its weights are plain all the same, remove ";
    foreign.way_out += text.name == kModelConfig ? fmt::format("{} from {}", claim.place, text.name) : text.name;
  }
  return foreign;
}

}  // namespace

absl::Status ForeignStatus(const Foreign& foreign) {
  const Issue& issue = foreign.kind == Foreign::Kind::kAdapter ? kIsAdapter : kAlreadyQuantized;
  std::string detail = foreign.name;
  if (!foreign.evidence.empty()) detail += ", " + foreign.evidence;
  return Fail(issue, foreign.file, foreign.where, detail + "; " + foreign.way_out);
}

const QuantMethod* ClaimedMethod(const std::vector<SideText>& texts) {
  for (const SideText& text : texts) {
    const std::optional<Claim> claim = ClaimOf(text);
    if (claim && claim->method != nullptr) return claim->method;
  }
  return nullptr;
}

std::vector<QuantSection> QuantSections(const Json& config) {
  std::vector<QuantSection> sections;
  for (const auto& [prefix, part] : ConfigParts(config)) {
    for (const char* key : kSections) {
      const Json* value = FindMember(*part, key);
      if (value == nullptr || value->is_null()) continue;
      sections.push_back({prefix.empty() ? prefix : prefix.substr(0, prefix.size() - 1), key, value});
    }
  }
  return sections;
}

std::optional<Foreign> FindQuantization(const std::vector<SourceTensor>& tensors, const std::vector<SideText>& texts,
                                        std::string_view weights, std::vector<Note>* notes) {
  const QuantTensors found = FindQuantTensors(tensors);
  std::optional<Claim> ignored;
  for (const SideText& text : texts) {
    std::optional<Claim> claim = ClaimOf(text);
    if (claim && claim->method == nullptr) ignored = std::exchange(claim, std::nullopt);
    if (claim) return Quantized(*claim->method, text, *claim, found);
  }
  if (found.method != nullptr) {
    Foreign foreign;
    foreign.name = found.method->name;
    foreign.file = weights;
    foreign.where = TensorPlace(*found.tensor);
    foreign.way_out = WayOut(*found.method);
    return foreign;
  }
  if (ignored && notes != nullptr) {
    notes->push_back({false, fmt::format("config.json's {} is no quantization that a loader knows, and no tensor is "
                                         "stored so: the weights are taken as they are",
                                         Printable(ignored->member))});
  }
  return std::nullopt;
}

std::optional<Foreign> FindAdapter(const std::vector<SourceTensor>& tensors, std::string_view weights) {
  constexpr std::string_view kPeftPrefix = "base_model.";
  const SourceTensor* part = nullptr;
  bool all_of_peft = true, holds_matrix = false;
  for (const SourceTensor& tensor : tensors) {
    const bool is_part = AdapterKindOf(tensor.name) != nullptr;
    if (is_part && part == nullptr) part = &tensor;
    holds_matrix |= !is_part && tensor.shape.size() >= 2;
    all_of_peft &= std::string_view(tensor.name).starts_with(kPeftPrefix);
  }
  if (part == nullptr || (holds_matrix && !all_of_peft)) return std::nullopt;
  Foreign foreign;
  foreign.kind = Foreign::Kind::kAdapter;
  foreign.name = *AdapterKindOf(part->name);
  foreign.file = weights;
  foreign.where = TensorPlace(*part);
  foreign.way_out = kAdapterWayOut;
  return foreign;
}

}  // namespace q4
