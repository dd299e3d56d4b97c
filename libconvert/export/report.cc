// How an export's report is printed: JSON for programs, a few lines for people.
#include <string>

#include "fmt/format.h"
#include "formats/base/json_value.h"
#include "formats/base/text.h"
#include "libconvert/base/version.h"
#include "libconvert/export/export.h"

namespace q4 {

std::string ExportReportJson(const ExportReport& report) {
  const bool bnb = report.format == ExportFormat::kBnb;
  Json json;
  json["tool"] = "q4export";
  json["version"] = kQ4Version;
  json["input"] = report.input;
  json["output"] = report.output;
  json["to"] = bnb ? "bnb" : "safetensors";
  json["files"] = Json::array();
  for (const ExportedFile& file : report.files) json["files"].push_back({{"name", file.name}, {"bytes", file.bytes}});
  json["tensors"] = {{"quantized", report.quantized_tensors},
                     {"dequantized", report.dequantized_tensors},
                     {"kept", report.kept_tensors},
                     {"left_out", report.left_out_tensors}};
  json["parameters"] = report.parameters;
  json["tensor_bytes"] = report.tensor_bytes;
  json["overflowed"] = report.overflowed;
  if (bnb) {
    json["quant_type"] = report.quant_type;
    json["double_quant"] = report.double_quant;
    json["skip_modules"] = report.skip_modules ? Json(*report.skip_modules) : Json(nullptr);
  }
  json["warnings"] = report.warnings;
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string ExportReportText(const ExportReport& report) {
  std::uint64_t bytes = 0;
  for (const ExportedFile& file : report.files) bytes += file.bytes;
  std::string text = fmt::format("{}: {} in {} file{}\n", Printable(report.output, 4096), HumanBytes(bytes),
                                 report.files.size(), report.files.size() == 1 ? "" : "s");
  text += fmt::format("{} tensors {}, {} kept as they are", report.quantized_tensors + report.dequantized_tensors,
                      report.format == ExportFormat::kBnb ? "in 4 bits" : "dequantized", report.kept_tensors);
  if (report.left_out_tensors != 0) text += fmt::format(", {} left out", report.left_out_tensors);
  text += fmt::format(", {} parameters\n", report.parameters);
  if (report.format == ExportFormat::kBnb) {
    text += fmt::format("bitsandbytes {}, double quantization {}, modules to skip: {}\n", report.quant_type,
                        report.double_quant ? "on" : "off",
                        report.skip_modules ? fmt::to_string(report.skip_modules->size()) : "the library's defaults");
  }
  return text;
}

}  // namespace q4
