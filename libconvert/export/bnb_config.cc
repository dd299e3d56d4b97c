// First the skip list (MakeBnbConfig): which modules transformers would quantize by itself, and which the container
// holds quantized. Then the text, key by key as save_pretrained writes it.
#include "libconvert/export/bnb_config.h"

#include <algorithm>
#include <cstdint>
#include <map>
#include <set>
#include <string_view>
#include <utility>

#include "fmt/format.h"
#include "formats/base/json_edit.h"
#include "formats/base/json_value.h"
#include "formats/base/text.h"
#include "formats/bnb/layout.h"
#include "libconvert/export/export_issues.h"
#include "libconvert/model/bnb_record.h"
#include "libconvert/policy/diffusers.h"
#include "libconvert/policy/fused_layers.h"
#include "libconvert/policy/loadable.h"
#include "libconvert/policy/module_names.h"
#include "libconvert/policy/policy.h"
#include "libconvert/policy/rules.h"
#include "libconvert/policy/skip_modules.h"
#include "libconvert/scheme/scheme.h"

namespace q4 {
namespace {

// A matrix that belongs to a module: what a linear layer's weight looks like.
bool IsModuleMatrix(const SourceTensor& tensor) { return tensor.shape.size() == 2 && tensor.name.ends_with(".weight"); }

// The policy's words for a weight that transformers transposes before it quantizes it.
bool IsStoredTransposed(const Decision& decision) { return decision.reason.starts_with("Conv1D"); }

// Routed experts are no linear layers to transformers 5, which holds them in fused parameters: it never looks whether
// they are to be skipped.
bool IsExpert(const Decision& decision) { return decision.reason == kExpertWeight; }

// The default policy's decision for every tensor, by name and shape alone: a matrix that was kept because its dtype or
// its values could not be quantized is still a linear layer to transformers.
absl::StatusOr<std::vector<Decision>> DefaultDecisions(std::vector<SourceTensor> tensors,
                                                       const std::string& config_json) {
  for (SourceTensor& tensor : tensors) {
    // Any dtype that the policy quantizes would do.
    tensor.dtype = DType::kF32;
    // The policy keeps empty matrices, which are linear layers all the same.
    tensor.elems = std::max<std::uint64_t>(tensor.elems, 1);
  }
  return DecideTensors(tensors, config_json, {});
}

// See BnbConfig::weights_dtype. Of two with equally many elements the wider range stands, whatever the tensors' order.
DType WeightsDType(const ModelPart& part) {
  std::map<DType, std::uint64_t> elements;
  for (const ModelPart::Tensor& at : part.tensors) {
    const Q4Tensor& tensor = *at.tensor;
    if (tensor.quantized()) elements[tensor.dtype] += tensor.elems;
  }
  DType most = DType::kF32;
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
    if (elements[dtype] > elements[most]) most = dtype;
  }
  return most;
}

// Whether a loader that takes it for a regular expression would take it for anything but itself. A dot is let through:
// every module below another has one, and loaders' own lists are written so. An empty entry would end every name.
bool IsPlainEntry(std::string_view entry) {
  return !entry.empty() && entry.find_first_of("^$*+?{}[]\\|()") == std::string_view::npos;
}

// The dtype that all quantized weights have, or "".
std::string_view CommonDType(const ModelPart& part) {
  std::string_view common;
  for (const ModelPart::Tensor& at : part.tensors) {
    const Q4Tensor& tensor = *at.tensor;
    if (!tensor.quantized()) continue;
    const std::string_view name = TorchDTypeName(tensor.dtype);
    if (!common.empty() && common != name) return "";
    common = name;
  }
  return common;
}

}  // namespace

absl::StatusOr<std::optional<KeptBnbConfig>> KeepBnbConfig(const ModelPart& part, const ExportOptions& options) {
  const bool all = std::all_of(part.tensors.begin(), part.tensors.end(), [](const ModelPart::Tensor& at) {
    return !at.tensor->quantized() || IsTakenOver(*at.tensor);
  });
  const bool dequantizes =
      options.experts == ExpertWeights::kDequantize || options.unloadable == ExpertWeights::kDequantize;
  if (!all || dequantizes || part.config_json.empty()) return std::nullopt;
  Q4_ASSIGN_OR_RETURN(const Json json, ParseModelJson(part.config_json, part.In("config.json")));
  const Json* const quantization = FindMember(json, "quantization_config");
  if (quantization == nullptr || !quantization->is_object()) return std::nullopt;
  KeptBnbConfig kept{part.config_json, {}};
  if (options.quant_storage || options.compute_dtype) {
    Json changed = *quantization;
    if (options.compute_dtype) changed["bnb_4bit_compute_dtype"] = TorchDTypeName(*options.compute_dtype);
    if (options.quant_storage) changed["bnb_4bit_quant_storage"] = TorchDTypeName(*options.quant_storage);
    const std::vector<JsonEdit> edits = {{"quantization_config", std::move(changed)}};
    Q4_ASSIGN_OR_RETURN(kept.text, EditJson(part.config_json, part.In("config.json"), edits));
  }
  if (const Json* const type = FindMember(*quantization, "bnb_4bit_quant_type"); type != nullptr && type->is_string()) {
    kept.config.quant_type = type->get<std::string>();
  }
  const Json* const nested = FindMember(*quantization, "bnb_4bit_use_double_quant");
  kept.config.double_quant = nested != nullptr && nested->is_boolean() && nested->get<bool>();
  const Json* const skip = FindMember(*quantization, "llm_int8_skip_modules");
  if (skip != nullptr && skip->is_array()) {
    kept.config.skip_modules.emplace();
    for (const Json& module : *skip) {
      if (module.is_string()) kept.config.skip_modules->push_back(module.get<std::string>());
    }
  }
  return kept;
}

// Goes over all tensors of the model, those that --tensor leaves out included: config.json speaks of the whole model.
absl::StatusOr<BnbConfig> MakeBnbConfig(const ModelPart& part, const ExportOptions& options) {
  std::vector<SourceTensor> tensors;
  std::vector<bool> quantized;
  std::uint64_t weights = 0, nested = 0;
  std::map<Q4Scheme, std::uint64_t> by_scheme;
  for (const ModelPart::Tensor& at : part.tensors) {
    const Q4Tensor& tensor = *at.tensor;
    SourceTensor info;
    info.name = at.name;
    info.dtype = tensor.dtype;
    info.shape = tensor.shape;
    info.elems = tensor.elems;
    tensors.push_back(std::move(info));
    quantized.push_back(tensor.quantized());
    weights += tensor.quantized();
    if (!BnbQuantTypeName(tensor.scheme).empty()) ++by_scheme[tensor.scheme];
    nested += tensor.quantized() && tensor.nested;
  }
  Q4_ASSIGN_OR_RETURN(const std::vector<Decision> defaults, DefaultDecisions(tensors, part.config_json));
  // What is written at 16 bits is a kept weight to a loader.
  if (options.unloadable == ExpertWeights::kDequantize) {
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      if (!IsLinearReason(defaults[i].reason)) quantized[i] = false;
    }
  }
  BnbConfig config;
  // That of most weights.
  Q4Scheme most = Q4Scheme::kNf4;
  // In the order of schemes, so that of two with equal counts NF4 stands, and the text never depends on the tensors'
  // order.
  for (const auto& [scheme, count] : by_scheme) {
    if (count > by_scheme[most]) most = scheme;
  }
  config.quant_type = BnbQuantTypeName(most);
  // Strictly more than half.
  config.double_quant = 2 * nested > weights;
  config.weights_dtype = WeightsDType(part);
  if (!DiffusersClassOf(part.config_json).empty()) {
    std::vector<bool> replaced;
    for (const Decision& decision : defaults) replaced.push_back(decision.quantize);
    Q4_ASSIGN_OR_RETURN(std::vector<std::string> skip, DiffusersModulesToSkip(tensors, quantized, replaced));
    // A list does not replace what diffusers spares by itself.
    if (!skip.empty()) config.skip_modules = std::move(skip);
    return config;
  }

  const ModuleNames names(part.config_json);
  bool defaults_hold = true;
  // The list of modules may be left out only if transformers would spare exactly the kept matrices by itself. A list
  // replaces its defaults, so one difference means that all of them must be listed.
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const std::string_view module = ModuleOf(tensors[i].name);
    if (quantized[i] && names.IsConverted(module)) {
      return Fail(
          kExportConverted, part.path, tensors[i].name,
          fmt::format("convert with --exclude '{}', or export --to safetensors", module.substr(module.rfind('.') + 1)));
    }
    if (!IsModuleMatrix(tensors[i]) || IsExpert(defaults[i])) continue;
    // GPT-2's Conv1D holds the weight as [in, out]. transformers quantizes [out, in], so blocks along the stored rows
    // are other blocks. Kept ones must be listed: transformers would replace them, which the default policy here does
    // not say.
    if (IsStoredTransposed(defaults[i])) {
      if (quantized[i]) return Fail(kExportTransposed, part.path, part.In(tensors[i].name));
      defaults_hold = false;
    }
    if (defaults[i].quantize != quantized[i]) defaults_hold = false;
  }
  if (!defaults_hold) {
    SkipList skip = ModulesToSkip(tensors, quantized, part.config_json);
    // The list itself writes an expression where a name alone would say more than it should (skip_modules.h).
    std::set<std::string> own;
    for (const std::string& module : skip.uncertain) {
      if (IsPlainEntry(module)) own.insert("^" + module + "$");
    }
    for (const std::string& entry : skip.entries) {
      if (!IsPlainEntry(entry) && !own.contains(entry)) {
        return Fail(kExportSkipName, part.path, "module '" + part.In(entry) + "'");
      }
    }
    config.skip_modules = std::move(skip.entries);
    if (!skip.uncertain.empty()) {
      config.warnings.push_back(
          fmt::format("the name of '{}'{} ends that of a quantized module, so that llm_int8_skip_modules cannot name "
                      "it for every loader: transformers 5 finds it, vLLM, diffusers and older versions may not",
                      Printable(skip.uncertain.front()),
                      skip.uncertain.size() == 1 ? "" : fmt::format(", and of {} more,", skip.uncertain.size() - 1)));
    }
  }
  std::vector<std::string> modules;
  for (const SourceTensor& tensor : tensors) modules.emplace_back(ModuleOf(tensor.name));
  std::string fused = FusedLayersWarning(FusedLayers(modules, quantized));
  if (!fused.empty()) config.warnings.push_back(std::move(fused));
  return config;
}

absl::StatusOr<std::string> BnbConfigText(const ModelPart& part, const BnbConfig& config,
                                          const ExportOptions& options) {
  std::vector<JsonEdit> edits;
  // Others than q4 may have written the container, so this text is as untrusted as any file.
  const std::string name = part.In("config.json");
  if (!part.config_json.empty()) {
    Q4_ASSIGN_OR_RETURN(const Json json, ParseModelJson(part.config_json, name));
    if (!json.is_object()) return Fail(kExportConfig, part.path, name);
    const std::string_view dtype = CommonDType(part);
    // Every key of a component is an argument of its class, and none has one of this name.
    if (DiffusersClassOf(part.config_json).empty() && !json.contains("dtype") && !json.contains("torch_dtype") &&
        !dtype.empty()) {
      edits.push_back({"dtype", Json(dtype)});
    }
  }
  // All keys that save_pretrained writes. Of the library's own defaults, the quant type is fp4: it is always stated
  // here.
  Json quantization;
  quantization["_load_in_4bit"] = true;
  quantization["_load_in_8bit"] = false;
  quantization["bnb_4bit_compute_dtype"] = TorchDTypeName(options.compute_dtype.value_or(config.weights_dtype));
  quantization["bnb_4bit_quant_storage"] = TorchDTypeName(options.quant_storage.value_or(DType::kU8));
  quantization["bnb_4bit_quant_type"] = config.quant_type;
  quantization["bnb_4bit_use_double_quant"] = config.double_quant;
  quantization["llm_int8_enable_fp32_cpu_offload"] = false;
  quantization["llm_int8_has_fp16_weight"] = false;
  quantization["llm_int8_skip_modules"] = config.skip_modules ? Json(*config.skip_modules) : Json(nullptr);
  // Settings of 8-bit loading: save_pretrained writes them for 4-bit models too.
  quantization["llm_int8_threshold"] = 6.0;
  quantization["load_in_4bit"] = true;
  quantization["load_in_8bit"] = false;
  quantization["quant_method"] = "bitsandbytes";
  edits.push_back({"quantization_config", std::move(quantization)});
  return EditJson(part.config_json.empty() ? "{}\n" : part.config_json, name, edits);
}

}  // namespace q4
