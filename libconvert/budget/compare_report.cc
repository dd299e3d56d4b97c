#include "libconvert/budget/compare_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "formats/base/json_value.h"
#include "formats/base/text.h"
#include "formats/q4/encoders.h"
#include "libconvert/base/text_table.h"
#include "libconvert/model/stats_json.h"
#include "libconvert/scheme/treatment.h"

namespace q4 {
namespace {

std::string NameOf(const QuantSettings& settings) {
  Q4Tensor tensor;
  static_cast<QuantFormat&>(tensor) = settings;
  tensor.encoder = settings.encoder;
  return TreatmentName(tensor);
}

double Decibels(double nmse) { return -10 * std::log10(nmse); }

// "-": nothing is lost.
std::string DecibelText(double nmse) { return nmse == 0 ? "-" : fmt::format("{:.3f}", Decibels(nmse)); }
Json DecibelJson(double nmse) { return nmse == 0 ? Json(nullptr) : Json(Decibels(nmse)); }

}  // namespace

std::string ComparisonText(const Comparison& comparison, const ComparisonCommand& command, const TextStyle& style) {
  std::vector<std::string> headings = {"<", "<settings", "bits/weight", "size", "SQNR dB"};
  if (comparison.calibrated) headings.emplace_back("output dB");
  for (const char* heading : {"worst dB", "?2core s", "?1<worst tensor"}) headings.emplace_back(heading);
  Table table(headings);
  bool bounds = false, small_blocks = false;
  for (std::size_t i = 0; i < comparison.rows.size(); ++i) {
    const ComparedRow& row = comparison.rows[i];
    bounds = bounds || !row.bytes_exact;
    const std::string mark = i == comparison.chosen ? ">" : row.best ? "*" : "";
    std::vector<std::string> cells = {mark, NameOf(row.settings), fmt::format("{:.4f}", row.bits_per_weight),
                                      (row.bytes_exact ? "" : "~") + HumanBytes(row.bytes), DecibelText(row.nmse)};
    if (comparison.calibrated) cells.push_back(DecibelText(row.error()));
    cells.push_back(DecibelText(row.worst_nmse));
    cells.push_back(fmt::format("{:.2f}", row.core_seconds));
    cells.push_back(Printable(row.worst_tensor, kWholeName));
    table.Add(std::move(cells));
  }
  small_blocks = comparison.rows[comparison.chosen].settings.block_size == 32;
  const char* const error = comparison.calibrated ? "output dB" : "SQNR";
  std::string text = table.Text(style);
  text += fmt::format("\n  *  nothing with as many bits per weight, or fewer, has a better {}\n", error);
  text += fmt::format("  >  chosen: most {}, less {} dB (what a bit buys) for each bit\n", error, kDecibelsPerBit);
  if (bounds) text += "  ~  at most: compression, or elements that are not finite, make it less or more\n";
  if (small_blocks) text += "     (bitsandbytes takes blocks of 32 on CUDA from version 0.50 on)\n";
  text += fmt::format("source  {} of tensors\n\n{}\n", HumanBytes(comparison.source_bytes), command.line);
  return text;
}

std::string ComparisonJson(const Comparison& comparison, const ComparisonCommand& command) {
  Json rows = Json::array();
  for (std::size_t i = 0; i < comparison.rows.size(); ++i) {
    const ComparedRow& row = comparison.rows[i];
    Json json;
    json["settings"] = NameOf(row.settings);
    json["type"] = Q4SchemeName(row.settings.scheme);
    json["block_size"] = row.settings.block_size;
    json["double_quant"] = row.settings.nested;
    json["encoder"] = Q4EncoderName(row.settings.encoder);
    json["output_bytes"] = row.bytes;
    json["output_bytes_exact"] = row.bytes_exact;
    json["quantized_tensors"] = row.tensors;
    json["quantized_weights"] = row.weights;
    json["bits_per_weight"] = row.bits_per_weight;
    json["nmse"] = row.nmse;
    json["sqnr_db"] = DecibelJson(row.nmse);
    json["output_nmse"] = row.output_nmse ? Json(*row.output_nmse) : Json(nullptr);
    json["worst_tensor"] = row.worst_tensor.empty() ? Json(nullptr) : Json(row.worst_tensor);
    json["worst_nmse"] = row.worst_nmse;
    json["worst_sqnr_db"] = DecibelJson(row.worst_nmse);
    json["core_seconds"] = row.core_seconds;
    json["best_for_its_size"] = row.best;
    json["chosen"] = i == comparison.chosen;
    rows.push_back(std::move(json));
  }
  Json json;
  json["document"] = "q4convert-comparison";
  json["version"] = 1;
  json["source_bytes"] = comparison.source_bytes;
  json["calibrated"] = comparison.calibrated;
  json["decibels_per_bit"] = kDecibelsPerBit;
  json["command"] = Json(command.words);
  json["rows"] = std::move(rows);
  return JsonReportText(json);
}

}  // namespace q4
