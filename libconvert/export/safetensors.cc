#include "libconvert/export/safetensors.h"

#include <optional>
#include <string>
#include <utility>

#include "formats/base/json_value.h"
#include "formats/base/limits.h"
#include "formats/exchange/bnb.h"
#include "libconvert/export/export_issues.h"

namespace q4 {
namespace {

absl::StatusOr<std::string> DequantizedConfigText(const std::string& config_json, std::optional<DType> dtype) {
  Q4_ASSIGN_OR_RETURN(Json json, ParseJson(config_json, "config.json", limits::kConfigJsonDepth));
  if (!json.is_object()) return Fail(kExportConfig, {}, "config.json");
  const bool had_quantization = json.erase("quantization_config") > 0;
  if (!dtype && !had_quantization) return config_json;
  if (dtype) json[json.contains("torch_dtype") ? "torch_dtype" : "dtype"] = TorchDTypeName(*dtype);
  return DumpSorted(json) + "\n";
}

class Safetensors final : public Exporter {
 public:
  absl::Status Check(const ExportOptions&, bool) const override { return absl::OkStatus(); }

  absl::Status Plan(const ExportOptions& options, ExportPlan* plan) const override {
    for (std::uint32_t source = 0; source < plan->sources.size(); ++source) {
      const Q4Tensor& tensor = *plan->sources[source].tensor;
      const bool converts = IsQuantizable(tensor.dtype) && options.dtype.has_value();
      ExportTensor target{tensor.name, converts ? *options.dtype : tensor.dtype, tensor.shape, 0, source};
      target.bytes = tensor.elems * ItemSize(target.dtype);
      if (!tensor.quantized() && target.dtype == tensor.dtype) {
        AddStoredTarget(source, Q4Part::kData, std::move(target), plan);
      } else {
        AddConvertedTarget(source, std::move(target), plan);
      }
    }
    return absl::OkStatus();
  }

  absl::StatusOr<std::vector<SmallFile>> SmallFiles(const Q4Model&, const std::string& config_json,
                                                    const ExportOptions& options, const ExportPlan&,
                                                    ExportReport*) const override {
    if (config_json.empty()) return std::vector<SmallFile>();
    Q4_ASSIGN_OR_RETURN(std::string text, DequantizedConfigText(config_json, options.dtype));
    return std::vector<SmallFile>{{"config.json", std::move(text)}};
  }
};

}  // namespace

const Exporter& SafetensorsExporter() {
  static const Safetensors kExporter;
  return kExporter;
}

}  // namespace q4
