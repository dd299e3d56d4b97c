// How an export's report is printed: JSON for programs, a few lines for people. Both say nothing about a single kind of
// export: what an exporter has to say comes as settings and as a summary. docs/schema/export.schema.json
// describes the JSON.
#include <string>
#include <type_traits>
#include <variant>

#include "fmt/format.h"
#include "formats/base/counted.h"
#include "formats/base/json_value.h"
#include "formats/base/text.h"
#include "libconvert/base/version.h"
#include "libconvert/export/exporter.h"
#include "libconvert/model/stats_json.h"

namespace q4 {
namespace {

// The alternatives of the variant are types that Json takes; only "none" has to be said.
Json JsonOf(const ExportSetting& setting) {
  return std::visit(
      [](const auto& value) {
        if constexpr (std::is_same_v<std::decay_t<decltype(value)>, std::monostate>) {
          return Json(nullptr);
        } else {
          return Json(value);
        }
      },
      setting.value);
}

// Asked of the row, so that a new exporter needs no line here.
bool IsDequantized(const ExportReport& report) {
  const ExporterRow* const row = FindExporter(report.to);
  return row != nullptr && row->weights == ExporterRow::Weights::kDequantized;
}

}  // namespace

std::string ExportReportJson(const ExportReport& report) {
  Json json;
  json["tool"] = "q4export";
  json["version"] = kQ4Version;
  json["input"] = report.input;
  json["output"] = report.output;
  json["to"] = report.to;
  json["files"] = Json::array();
  for (const ExportedFile& file : report.files) json["files"].push_back({{"name", file.name}, {"bytes", file.bytes}});
  json["tensors"] = {{"quantized", report.quantized_tensors},
                     {"dequantized", report.dequantized_tensors},
                     {"kept", report.kept_tensors},
                     {"left_out", report.left_out_tensors}};
  json["parameters"] = report.parameters;
  json["tensor_bytes"] = report.tensor_bytes;
  json["overflowed"] = report.overflowed;
  // Settings are members of the report itself, beside the fields that all exporters have.
  for (const ExportSetting& setting : report.settings) json[setting.key] = JsonOf(setting);
  json["warnings"] = report.warnings;
  return JsonReportText(json);
}

// Two or three lines. Warnings are not among them: the tool prints those to stderr.
std::string ExportReportText(const ExportReport& report) {
  std::uint64_t bytes = 0;
  for (const ExportedFile& file : report.files) bytes += file.bytes;
  std::string text = fmt::format("{}: {} in {}\n", Printable(report.output, 4096), HumanBytes(bytes),
                                 Counted(report.files.size(), "file"));
  // An exporter that keeps weights quantized says so even of a model without any.
  text += IsDequantized(report) ? Counted(report.dequantized_tensors, "tensor") + " dequantized"
                                : Counted(report.quantized_tensors, "tensor") + " in 4 bits";
  if (!IsDequantized(report) && report.dequantized_tensors != 0) {
    text += fmt::format(", {} dequantized", report.dequantized_tensors);
  }
  text += fmt::format(", {} kept as they are", report.kept_tensors);
  if (report.left_out_tensors != 0) text += fmt::format(", {} left out", report.left_out_tensors);
  text += fmt::format(", {} parameters\n", report.parameters);
  if (!report.summary.empty()) text += report.summary + "\n";
  return text;
}

}  // namespace q4
