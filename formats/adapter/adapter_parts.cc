// A name is cut at the part that says what it is; what stands before it is the module, and what stands behind it must
// be one of the few endings that PEFT writes.
#include "formats/adapter/adapter_parts.h"

#include <algorithm>
#include <array>
#include <optional>

#include "fmt/format.h"
#include "formats/adapter/adapter_issues.h"
#include "formats/base/status.h"
#include "formats/base/text.h"

namespace q4 {
namespace {

constexpr std::string_view kModelPrefix = "base_model.model.";
constexpr std::string_view kWayOut =
    "merge it with PEFT (merge_and_unload(), then save_pretrained()) and convert the result";

struct PartName {
  std::string_view part;
  const SourceTensor* AdaptedModule::*place;
  bool of_embedding;
};
constexpr std::array<PartName, 5> kParts = {{{"lora_A", &AdaptedModule::a, false},
                                             {"lora_B", &AdaptedModule::b, false},
                                             {"lora_embedding_A", &AdaptedModule::a, true},
                                             {"lora_embedding_B", &AdaptedModule::b, true},
                                             {"lora_magnitude_vector", &AdaptedModule::magnitude, false}}};

std::vector<std::string_view> PartsOfName(std::string_view name) {
  std::vector<std::string_view> parts;
  for (std::size_t begin = 0; begin <= name.size();) {
    const std::size_t end = std::min(name.find('.', begin), name.size());
    parts.push_back(name.substr(begin, end - begin));
    begin = end + 1;
  }
  return parts;
}

class PartsReading {
 public:
  PartsReading(const AdapterConfig& config, std::string_view path) : config_(config), path_(path) {}

  absl::StatusOr<AdapterParts> Run(const std::vector<SourceTensor>& tensors) {
    for (const SourceTensor& tensor : tensors) Q4_RETURN_IF_ERROR(Place(tensor));
    for (const auto& [name, module] : parts_.modules) Q4_RETURN_IF_ERROR(Check(name, module));
    return std::move(parts_);
  }

 private:
  absl::Status Refuse(const Issue& issue, const SourceTensor& tensor, std::string detail) const {
    return Fail(issue, path_, tensor.name, std::move(detail));
  }
  absl::Status Unknown(const SourceTensor& tensor) const {
    return Refuse(kAdapterTensor, tensor, std::string(kWayOut));
  }

  absl::Status Place(const SourceTensor& tensor) {
    std::string_view name = tensor.name;
    if (name.starts_with(kModelPrefix)) name.remove_prefix(kModelPrefix.size());
    const std::vector<std::string_view> words = PartsOfName(name);
    std::size_t begin = 0;  // of the word, in the name
    for (std::size_t i = 0; i < words.size(); begin += words[i].size() + 1, ++i) {
      const std::string module(name.substr(0, begin == 0 ? 0 : begin - 1));
      const std::string rest(name.substr(std::min(name.size(), begin + words[i].size() + 1)));
      for (const PartName& part : kParts) {
        if (words[i] == part.part) return PlaceFactor(tensor, part, module, rest);
      }
      // The copy that was trained, and the one that it stands for.
      if (words[i] == "modules_to_save") return PlaceSaved(tensor, module, rest);
      if (words[i] == "original_module") {
        parts_.unused.push_back(&tensor);
        return absl::OkStatus();
      }
      // lora_E, lora_diag, lora_ranknum, lora_arrow, hada_w1_a, ia3_l, oft_r, vera_lambda_b, trainable_tokens_delta
      if (words[i].starts_with("lora_") || words[i].starts_with("hada_") || words[i].starts_with("lokr_") ||
          words[i].starts_with("ia3_") || words[i].starts_with("oft_") || words[i].starts_with("boft_") ||
          words[i].starts_with("vera_") || words[i].starts_with("trainable_tokens_") || words[i] == "token_adapter" ||
          words[i] == "prompt_embeddings" || words[i] == "adaption_prompt") {
        return Unknown(tensor);
      }
    }
    // base_layer is the module itself, inside of what holds its factors.
    std::string own;
    bool is_copy = false;
    for (const std::string_view word : words) {
      if (word == "base_layer") continue;
      // PEFT asks for the end of a module's name, and of no whole part of it.
      is_copy |= std::any_of(config_.copies.begin(), config_.copies.end(),
                             [&own](const std::string& end) { return !own.empty() && own.ends_with(end); });
      own += (own.empty() ? "" : ".") + std::string(word);
    }
    return PlaceReplaced(tensor, std::move(own), is_copy);
  }

  absl::Status PlaceFactor(const SourceTensor& tensor, const PartName& part, const std::string& module,
                           std::string_view rest) {
    const bool is_weight = !part.of_embedding && part.place != &AdaptedModule::magnitude;
    const SourceTensor* AdaptedModule::*place = part.place;
    // With or without the adapter's name before "weight"; what has no such ending may be followed by the name alone.
    std::string_view name = rest;
    if (rest == "weight" || rest.ends_with(".weight")) {
      if (part.of_embedding) return Unknown(tensor);
      name.remove_suffix(name.size() == 6 ? 6 : 7);
    } else if (rest == "bias" || rest.ends_with(".bias")) {
      if (part.part != "lora_B") return Unknown(tensor);
      place = &AdaptedModule::bias;
      name.remove_suffix(name.size() == 4 ? 4 : 5);
    } else if (is_weight) {
      return Unknown(tensor);
    }
    if (name.find('.') != std::string_view::npos) return Unknown(tensor);
    if (adapter_ && *adapter_ != name) {
      return Refuse(kAdapterParts, tensor,
                    fmt::format("the file holds several adapters, '{}' and '{}'; save the one that is wanted",
                                Printable(*adapter_), Printable(name)));
    }
    adapter_ = std::string(name);
    if (!IsQuantizable(tensor.dtype)) {
      return Refuse(kAdapterDType, tensor, GotExpected(std::string(DTypeName(tensor.dtype)), "F32, F16 or BF16"));
    }
    AdaptedModule& at = parts_.modules[module];
    if (at.*place != nullptr) {
      return Refuse(kAdapterParts, tensor, "'" + Printable((at.*place)->name) + "' is there as well; keep one of them");
    }
    at.*place = &tensor;
    at.is_embedding |= part.of_embedding;
    return absl::OkStatus();
  }

  absl::Status PlaceSaved(const SourceTensor& tensor, const std::string& module, std::string_view rest) {
    // modules_to_save.weight, modules_to_save.default.weight; deeper ones are of modules within, whose names may be
    // anything, so that the adapter's must be the usual one.
    if (rest.starts_with("default.")) rest.remove_prefix(8);
    if (rest.empty()) return Unknown(tensor);
    return PlaceReplaced(tensor, module.empty() ? std::string(rest) : module + "." + std::string(rest), true);
  }

  absl::Status PlaceReplaced(const SourceTensor& tensor, std::string own, bool is_copy) {
    const auto [at, is_new] = parts_.replaced.emplace(std::move(own), ReplacedTensor{&tensor, is_copy});
    if (is_new) return absl::OkStatus();
    return Refuse(kAdapterParts, tensor,
                  "'" + Printable(at->second.tensor->name) + "' is there as well; keep one of them");
  }

  absl::Status Check(const std::string& name, const AdaptedModule& module) const {
    const SourceTensor& any = module.a != nullptr      ? *module.a
                              : module.b != nullptr    ? *module.b
                              : module.bias != nullptr ? *module.bias
                                                       : *module.magnitude;
    const auto lacks = [&](std::string_view what) {
      return Refuse(
          kAdapterParts, any,
          fmt::format("'{}' of module '{}' is not there; look for a complete download", what, Printable(name)));
    };
    if (module.a == nullptr) return lacks(module.is_embedding ? "lora_embedding_A" : "lora_A");
    if (module.b == nullptr) return lacks(module.is_embedding ? "lora_embedding_B" : "lora_B");
    const std::string where = "adapter_config.json says otherwise; it is another adapter's, or was edited";
    if (config_.dora && module.magnitude == nullptr) return lacks("lora_magnitude_vector");
    if (!config_.dora && module.magnitude != nullptr) {
      return Refuse(kAdapterParts, *module.magnitude, "a magnitude of DoRA, and use_dora is not set; " + where);
    }
    if (config_.bias && module.bias == nullptr && !module.is_embedding) return lacks("lora_B.bias");
    if (!config_.bias && module.bias != nullptr) {
      return Refuse(kAdapterParts, *module.bias, "a bias, and lora_bias is not set; " + where);
    }
    for (const SourceTensor* factor : {module.a, module.b}) {
      if (factor->shape.size() >= 2) continue;
      return Refuse(kAdapterShape, *factor,
                    fmt::format("got {}, expected a matrix; a training on several GPUs saves such tensors where it "
                                "does not gather them first",
                                ShapeString(factor->shape)));
    }
    if (module.a->shape[0] != module.b->shape[1]) {
      return Refuse(kAdapterRank, *module.b,
                    fmt::format("got {} beside {} of '{}', expected one rank", ShapeString(module.b->shape),
                                ShapeString(module.a->shape), Printable(module.a->name)));
    }
    return absl::OkStatus();
  }

  const AdapterConfig& config_;
  const std::string_view path_;
  std::optional<std::string> adapter_;
  AdapterParts parts_;
};

}  // namespace

absl::StatusOr<AdapterParts> ReadAdapterParts(const AdapterConfig& config, const std::vector<SourceTensor>& tensors,
                                              std::string_view path) {
  return PartsReading(config, path).Run(tensors);
}

std::uint64_t RankOfFactors(const AdaptedModule& module) { return module.a->shape[0]; }

}  // namespace q4
