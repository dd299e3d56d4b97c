#include "libconvert/export/safetensors.h"

#include <utility>

#include "formats/base/json_value.h"
#include "formats/base/limits.h"
#include "formats/exchange/bnb.h"
#include "libconvert/export/export_issues.h"

namespace q4 {

void PlanSafetensorsTargets(std::optional<DType> dtype, ExportPlan* plan) {
  for (std::uint32_t source = 0; source < plan->sources.size(); ++source) {
    const Q4Tensor& tensor = *plan->sources[source].tensor;
    const bool converts = IsQuantizable(tensor.dtype) && dtype.has_value();
    ExportTensor target{tensor.name, converts ? *dtype : tensor.dtype, tensor.shape, 0, source};
    target.bytes = tensor.elems * ItemSize(target.dtype);
    if (!tensor.quantized() && target.dtype == tensor.dtype) {
      AddCopiedTarget(source, Q4Part::kData, std::move(target), plan);
    } else {
      AddConvertedTarget(source, std::move(target), plan);
    }
  }
}

absl::StatusOr<std::string> DequantizedConfigText(const std::string& config_json, std::optional<DType> dtype) {
  Q4_ASSIGN_OR_RETURN(Json json, ParseJson(config_json, "config.json", limits::kConfigJsonDepth));
  if (!json.is_object()) return Fail(kExportConfig, {}, "config.json");
  const bool had_quantization = json.erase("quantization_config") > 0;
  if (!dtype && !had_quantization) return config_json;
  if (dtype) json[json.contains("torch_dtype") ? "torch_dtype" : "dtype"] = TorchDTypeName(*dtype);
  return DumpSorted(json) + "\n";
}

}  // namespace q4
