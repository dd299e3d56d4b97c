// Every tensor of the container becomes one tensor of the same name and shape. Those that keep their dtype and were
// never quantized are copied chunk by chunk; all others are decoded or converted. Then config.json must no longer call
// the model quantized.
#include "libconvert/export/safetensors.h"

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "formats/base/json_edit.h"
#include "formats/base/json_value.h"
#include "formats/bnb/layout.h"
#include "libconvert/export/export_issues.h"
#include "libconvert/policy/diffusers.h"

namespace q4 {
namespace {

// The keys under which `config` names a dtype. Older configurations have "torch_dtype", some have both: loaders take
// either, and one that stayed would contradict the tensors.
std::vector<std::string> DTypeKeys(const Json& config) {
  std::vector<std::string> keys;
  for (const char* key : {"torch_dtype", "dtype"}) {
    if (config.contains(key)) keys.emplace_back(key);
  }
  return keys;
}

// `dtype`: torch's name of the dtype that was asked for, or "".
absl::StatusOr<std::string> DequantizedConfigText(const ModelPart& part, std::string_view dtype) {
  const std::string name = part.In("config.json");
  Q4_ASSIGN_OR_RETURN(const Json json, ParseModelJson(part.config_json, name));
  if (!json.is_object()) return Fail(kExportConfig, {}, name);
  // It described how the source was quantized. The tensors written here are not, and a loader that believed it would
  // look for packed codes.
  std::vector<JsonEdit> edits = {{"quantization_config", std::nullopt}};
  // Every key of a diffusers component is an argument of its class, and none has one of this name.
  if (!dtype.empty() && DiffusersClassOf(part.config_json).empty()) {
    if (DTypeKeys(json).empty()) edits.push_back({"dtype", Json(dtype)});
    for (const std::string& key : DTypeKeys(json)) edits.push_back({key, Json(dtype)});
    // The parts of a composite model have configurations of their own, which may name another dtype.
    for (const auto& [key, value] : json.items()) {
      if (!key.ends_with("_config") || !value.is_object()) continue;
      Json inside = value;
      for (const std::string& inner : DTypeKeys(value)) inside[inner] = dtype;
      if (inside != value) edits.push_back({key, std::move(inside)});
    }
  }
  return EditJson(part.config_json, name, edits);
}

class Safetensors final : public Exporter {
 public:
  absl::Status Check(const ExportOptions&, bool) const override { return absl::OkStatus(); }

  absl::Status Plan(const ExportOptions& options, ExportPlan* plan) const override {
    for (std::uint32_t source = 0; source < plan->sources.size(); ++source) {
      const Q4Tensor& tensor = *plan->sources[source].tensor;
      // IsQuantizable() is F32, F16 and BF16. F64, integers and FP8 are no weights that a narrower float could stand
      // for.
      const bool converts = IsQuantizable(tensor.dtype) && options.dtype.has_value();
      ExportTensor target{tensor.name, converts ? *options.dtype : tensor.dtype, tensor.shape, 0, source};
      target.bytes = tensor.elems * ItemSize(target.dtype);
      // Copied, not converted to the same dtype: NaN payloads stay as they are.
      if (!tensor.quantized() && target.dtype == tensor.dtype) {
        AddStoredTarget(source, Q4Part::kData, std::move(target), plan);
      } else {
        AddConvertedTarget(source, std::move(target), plan);
      }
    }
    return absl::OkStatus();
  }

  absl::StatusOr<std::vector<SmallFile>> SmallFiles(const std::vector<ModelPart>& parts, const ExportOptions& options,
                                                    const ExportPlan&, ExportReport*) const override {
    const std::string_view dtype = options.dtype ? TorchDTypeName(*options.dtype) : std::string_view();
    std::vector<SmallFile> files;
    for (const ModelPart& part : parts) {
      // A dequantized checkpoint needs no words about its quantization, so none is made up.
      if (part.config_json.empty()) continue;
      Q4_ASSIGN_OR_RETURN(std::string text, DequantizedConfigText(part, dtype));
      files.push_back({part.In("config.json"), std::move(text)});
    }
    return files;
  }
};

}  // namespace

const Exporter& SafetensorsExporter() {
  static const Safetensors kExporter;
  return kExporter;
}

}  // namespace q4
