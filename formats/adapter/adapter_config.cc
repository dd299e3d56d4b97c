// Each member of LoraConfig is in one of three lists: read, without effect on a merge, or refused when it is set. What
// is in none is a member of another version or tool, which PEFT ignores with a warning.
#include "formats/adapter/adapter_config.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>

#include "absl/strings/ascii.h"
#include "fmt/format.h"
#include "formats/adapter/adapter_issues.h"
#include "formats/base/json_value.h"
#include "formats/base/status.h"
#include "formats/base/text.h"

namespace q4 {
namespace {

constexpr std::string_view kCure =
    "merge it with PEFT (merge_and_unload(), then save_pretrained()) and convert the result";

// They say where adapters were put, how training went, or how an initialization was found that is in the factors.
constexpr std::array<std::string_view, 21> kWithoutEffect = {
    "task_type",           "auto_mapping",   "peft_version",    "revision",
    "inference_mode",      "target_modules", "exclude_modules", "lora_dropout",
    "layers_to_transform", "layers_pattern", "megatron_core",   "loftq_config",
    "eva_config",          "corda_config",   "lora_ga_config",  "runtime_config",
    "qalora_group_size",   "bias",           "peft_type",       "init_lora_weights",
    "base_model_class"};
constexpr std::array<std::string_view, 12> kRead = {"modules_to_save",
                                                    "ensure_weight_tying",
                                                    "r",
                                                    "lora_alpha",
                                                    "use_rslora",
                                                    "use_dora",
                                                    "lora_bias",
                                                    "fan_in_fan_out",
                                                    "rank_pattern",
                                                    "alpha_pattern",
                                                    "base_model_name_or_path",
                                                    "parent_library"};
// Set, they make another thing of the adapter.
struct RefusedOption {
  std::string_view name, why;
};
constexpr std::array<RefusedOption, 11> kRefused = {{
    {"alora_invocation_tokens", "activated LoRA changes weights from a token on, and cannot be merged at all"},
    {"arrow_config", "Arrow chooses among adapters for each token, and cannot be merged at all"},
    {"kasa_config", "KaSA also cuts singular values off the weights"},
    {"layer_replication", "the adapter is for a model with more layers"},
    {"megatron_config", "its layers are Megatron's"},
    {"monteclora_config", "it holds the state of a sampler"},
    {"target_parameters", "factors of whole parameters, as of experts in one tensor, are stored in another form"},
    {"trainable_token_indices", "it replaces single rows of an embedding"},
    {"use_bdlora", "its factors are block-diagonal"},
    {"use_qalora", "its factors are for pooled inputs"},
    {"velora_config", "it holds the state of a training"},
}};
// Ways to initialize that leave the weights as they are; others change them, and would again where the adapter is
// loaded.
constexpr std::array<std::string_view, 4> kHarmlessInits = {"gaussian", "eva", "orthogonal", "mica"};

template <std::size_t kSize>
bool IsAmong(const std::array<std::string_view, kSize>& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

// Not null, false, 0 or empty: what Python takes for true.
bool IsSet(const Json& value) {
  if (value.is_boolean()) return value.get<bool>();
  if (value.is_number()) return value.get<double>() != 0;
  if (value.is_string()) return !value.text().empty();
  return !value.empty();  // null is
}

class ConfigReading {
 public:
  ConfigReading(const Json& json, std::string_view path) : json_(json), path_(path) {}

  absl::StatusOr<AdapterConfig> Run() {
    if (!json_.is_object()) return Wrong("the document", "no object", "an object");
    Q4_RETURN_IF_ERROR(CheckMethod());
    AdapterConfig config;
    Q4_RETURN_IF_ERROR(Rank("r", FindMember(json_, "r"), &config.rank));
    Q4_RETURN_IF_ERROR(Alpha("lora_alpha", FindMember(json_, "lora_alpha"), &config.alpha));
    Q4_RETURN_IF_ERROR(Flag("use_rslora", &config.rslora));
    Q4_RETURN_IF_ERROR(Flag("use_dora", &config.dora));
    Q4_RETURN_IF_ERROR(Flag("lora_bias", &config.bias));
    Q4_RETURN_IF_ERROR(Flag("fan_in_fan_out", &config.fan_in_fan_out));
    Q4_RETURN_IF_ERROR(Flag("ensure_weight_tying", &config.keeps_ties));
    Q4_RETURN_IF_ERROR(Pattern("rank_pattern", &config.rank_pattern, &ConfigReading::Rank));
    Q4_RETURN_IF_ERROR(Pattern("alpha_pattern", &config.alpha_pattern, &ConfigReading::Alpha));
    if (const Json* saved = FindMember(json_, "modules_to_save"); saved != nullptr && !saved->is_null()) {
      const bool is_list = saved->is_array() &&
                           std::all_of(saved->begin(), saved->end(), [](const Json& name) { return name.is_string(); });
      if (!is_list) return Wrong("modules_to_save", Printable(saved->dump()), "a list of names");
      config.copies = saved->get<std::vector<std::string>>();
    }
    if (const Json* base = FindMember(json_, "base_model_name_or_path"); base != nullptr && base->is_string()) {
      config.base_model = base->text();
    }
    for (const auto& [name, value] : json_.items()) {
      if (IsAmong(kWithoutEffect, name) || IsAmong(kRead, name) || !IsSet(value)) continue;
      if (std::any_of(kRefused.begin(), kRefused.end(), [&key = name](const auto& r) { return r.name == key; }))
        continue;
      config.notes.push_back({false, fmt::format("adapter_config.json: '{}' is no option of LoRA that is known here, "
                                                 "and is ignored, as PEFT ignores it",
                                                 Printable(name))});
    }
    return config;
  }

 private:
  absl::Status Wrong(std::string_view member, std::string_view got, std::string_view expected) const {
    return Fail(kAdapterConfig, path_, member, GotExpected(got, expected));
  }

  absl::Status CheckMethod() const {
    const Json* type = FindMember(json_, "peft_type");
    if (type == nullptr || !type->is_string()) {
      return Wrong("peft_type", type == nullptr ? "no such member" : Printable(type->dump()), "\"LORA\"");
    }
    if (absl::AsciiStrToUpper(type->text()) != "LORA") {
      return Fail(kAdapterMethod, path_, "peft_type " + type->text(), kCure);
    }
    for (const RefusedOption& option : kRefused) {
      const Json* value = FindMember(json_, option.name);
      if (value == nullptr || !IsSet(*value)) continue;
      return Fail(kAdapterMethod, path_, option.name, fmt::format("{}; {}", option.why, kCure));
    }
    const Json* init = FindMember(json_, "init_lora_weights");
    if (init == nullptr || !init->is_string()) return absl::OkStatus();
    if (IsAmong(kHarmlessInits, absl::AsciiStrToLower(init->text()))) return absl::OkStatus();
    return Fail(kAdapterMethod, path_, "init_lora_weights " + init->text(),
                "loading it changes the model's weights first; save the adapter converted to plain LoRA "
                "(save_pretrained(path_initial_model_for_weight_conversion=...)), or " +
                    std::string(kCure));
  }

  absl::Status Flag(std::string_view name, bool* flag) const {
    const Json* value = FindMember(json_, name);
    if (value == nullptr || value->is_null()) return absl::OkStatus();
    if (!value->is_boolean()) return Wrong(name, Printable(value->dump()), "true or false");
    *flag = value->get<bool>();
    return absl::OkStatus();
  }

  absl::Status Rank(std::string_view name, const Json* value, std::uint64_t* rank) const {
    if (value == nullptr) return absl::OkStatus();  // PEFT's default
    if (!value->is_number_unsigned() || value->get<std::uint64_t>() < 1 ||
        value->get<std::uint64_t>() > kMostAdapterRank) {
      return Wrong(name, Printable(value->dump()), fmt::format("a whole number from 1 to {}", kMostAdapterRank));
    }
    *rank = value->get<std::uint64_t>();
    return absl::OkStatus();
  }

  absl::Status Alpha(std::string_view name, const Json* value, double* alpha) const {
    if (value == nullptr) return absl::OkStatus();  // PEFT's default
    if (!value->is_number() || !std::isfinite(value->get<double>()) || std::fabs(value->get<double>()) > 1e30) {
      return Wrong(name, Printable(value->dump()), "a number");
    }
    *alpha = value->get<double>();
    return absl::OkStatus();
  }

  template <typename T>
  absl::Status Pattern(std::string_view name, std::vector<std::pair<std::string, T>>* pattern,
                       absl::Status (ConfigReading::*read)(std::string_view, const Json*, T*) const) const {
    const Json* value = FindMember(json_, name);
    if (value == nullptr || value->is_null()) return absl::OkStatus();
    if (!value->is_object()) return Wrong(name, Printable(value->dump()), "an object");
    for (const auto& [key, member] : value->items()) {
      T number{};
      Q4_RETURN_IF_ERROR((this->*read)(fmt::format("{}.{}", name, key), &member, &number));
      pattern->emplace_back(key, number);
    }
    return absl::OkStatus();
  }

  const Json& json_;
  const std::string_view path_;
};

}  // namespace

absl::StatusOr<AdapterConfig> ParseAdapterConfig(std::string_view text, std::string_view path) {
  Q4_ASSIGN_OR_RETURN(const Json json, ParseModelJson(text, path));
  return ConfigReading(json, path).Run();
}

float AdapterScale(const AdapterConfig& config, double alpha, std::uint64_t rank) {
  const auto r = static_cast<double>(rank);
  return static_cast<float>(config.rslora ? alpha / std::sqrt(r) : alpha / r);
}

}  // namespace q4
