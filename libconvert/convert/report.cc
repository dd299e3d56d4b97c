// Plan and report as text and as JSON. Both forms of a document are made of the same functions for sizes, treatments
// and totals; derived figures (SQNR, percentages) are computed for output only and stored nowhere (numerics Q8.5).
//
// JSON keys stand in the order in which they are set here; docs/schema says what they mean, and every change of them is
// one of the schema. Names of tensors and files come from the input, so text passes them through Printable(): a name
// cannot move the cursor or forge a line. JSON escapes them by itself.
#include "libconvert/convert/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "formats/base/digest.h"
#include "formats/base/json_value.h"
#include "formats/base/text.h"
#include "libconvert/convert/memory_needs.h"
#include "libconvert/model/stats.h"
#include "libconvert/model/stats_json.h"
#include "libconvert/scheme/treatment.h"

namespace q4 {
namespace {

// Before compression: what a plan can know.
std::uint64_t PayloadBytes(const Q4Tensor& tensor) {
  std::uint64_t bytes = 0;
  for (const Q4Part part : Q4PartKindsOf(tensor)) bytes += Q4PartRawBytes(tensor, part);
  return bytes;
}

// A line for each treatment with its numbers of tensors and elements, in the order of their names. The same for a plan
// and for a finished conversion, so that a reader can hold one beside the other.
std::string TreatmentTable(const std::vector<const Q4Tensor*>& tensors) {
  struct Row {
    std::uint64_t tensors = 0, elems = 0, bytes = 0;
  };
  std::map<std::string, Row> rows;
  for (const Q4Tensor* tensor : tensors) {
    Row& row = rows[TreatmentName(*tensor)];
    ++row.tensors;
    row.elems += tensor->elems;
    row.bytes += PayloadBytes(*tensor);
  }
  std::string text;
  for (const auto& [name, row] : rows) {
    text += fmt::format("  {:<14} {:>7} tensors {:>16} elements {:>10}\n", name, row.tensors, row.elems,
                        HumanBytes(row.bytes));
  }
  return text;
}

Json LeftOutJson(const std::vector<LeftOutFile>& files) {
  Json json = Json::array();
  for (const LeftOutFile& file : files) {
    json.push_back({{"name", file.name}, {"reason", file.reason}, {"warning", file.warning}});
  }
  return json;
}

// " of F8_E4M3 'a.weight', 'a.weight_scale_inv'", " merged of BF16 'a.weight', 'a.lora_A.weight', 'a.lora_B.weight'":
// what a tensor is made of that is not stored as it is read.
std::string StoredText(const SourceTensor& source) {
  const StoredParts parts = StoredPartsOf(source);
  std::string text;
  for (const std::string_view name : parts.names) {
    const std::string_view verb = parts.merged ? " merged of " : " of ";
    text +=
        fmt::format("{} '{}'", text.empty() ? fmt::format("{}{}", verb, DTypeName(parts.dtype)) : ",", Printable(name));
  }
  return text;
}

// The error of the whole model; `tensors` is 0 where none is quantized.
ModelStats TotalsOf(const ConvertReport& report) {
  // Shards hold tensors in payload order, each sorted by name; the totals are defined in name order over all (Q8.11).
  std::map<std::string_view, const Q4Stats*> by_name;
  for (const ConvertedShard& shard : report.shards) {
    for (const Q4Tensor& tensor : shard.index.tensors) {
      if (tensor.has_stats) by_name.emplace(tensor.name, tensor.stats.get());
    }
  }
  ModelStats totals;
  for (const auto& [name, stats] : by_name) AddTensor(name, *stats, &totals);
  return totals;
}

}  // namespace

std::string PlanText(const Checkpoint& checkpoint, const ConversionPlan& plan, const ConvertOptions& options,
                     unsigned threads) {
  // A line for each tensor and file in the order of writing, then the summary: it stands where a long list ends.
  std::string text;
  std::vector<const Q4Tensor*> all;
  for (std::size_t s = 0; s < plan.shards.size(); ++s) {
    const PlannedShard& shard = plan.shards[s];
    // Counted from 1, as in the names of the files.
    if (plan.shards.size() > 1) {
      text += fmt::format("part {} of {}: {} bytes\n", s + 1, plan.shards.size(), shard.file_bytes);
    }
    for (const PlannedTensor& planned : shard.tensors) {
      // The dtype of the source and the shape of both: with --keep-dtype the treatment says what becomes of it.
      const Q4Tensor& tensor = shard.index.tensors[planned.tensor];
      const SourceTensor& source = checkpoint.tensors()[planned.source];
      all.push_back(&tensor);
      text += fmt::format("{:<14} {:>12}  {} {} {}{}  ({})\n", TreatmentName(tensor), PayloadBytes(tensor),
                          Printable(tensor.name), DTypeName(source.dtype), ShapeString(tensor.shape),
                          StoredText(source), Printable(planned.decision.reason));
    }
    for (const CompanionFile& file : shard.files) {
      text += fmt::format("{:<14} {:>12}  {}\n", "file", file.size, Printable(file.name));
    }
  }
  for (const LeftOutFile& file : checkpoint.left_out()) {
    text += fmt::format("{:<14} {:>12}  {}  ({})\n", "left out", "", Printable(Shown{file.name}), file.reason);
  }
  text += "\n" + TreatmentTable(all);
  text +=
      fmt::format("{} of {} tensors quantized\n", plan.quantized_tensors, plan.quantized_tensors + plan.kept_tensors);
  if (!plan.choice_text.empty()) text += "\n" + plan.choice_table + "\n" + plan.choice_text;
  text += fmt::format("source  {} bytes of tensors ({})\n", plan.stored_bytes, HumanBytes(plan.stored_bytes));
  text += fmt::format("output  {}{} bytes ({})\n", options.compression.zstd ? "at most " : "", plan.output_bytes,
                      HumanBytes(plan.output_bytes));
  // Of the cores, because a plan is made without starting a GPU.
  text += fmt::format("memory  at least {} bytes with {} threads (--max-memory)\n",
                      MinimumPipelineMemory(checkpoint, plan, options, threads), threads);
  return text;
}

std::string PlanJson(const Checkpoint& checkpoint, const ConversionPlan& plan, const ConvertOptions& options,
                     unsigned threads) {
  Json tensors = Json::array();
  // In the order of writing, which is that of the source.
  for (std::size_t s = 0; s < plan.shards.size(); ++s) {
    for (const PlannedTensor& planned : plan.shards[s].tensors) {
      const Q4Tensor& tensor = plan.shards[s].index.tensors[planned.tensor];
      Json entry;
      entry["name"] = tensor.name;
      const SourceTensor& source = checkpoint.tensors()[planned.source];
      entry["source_dtype"] = DTypeName(source.dtype);
      if (const StoredParts parts = StoredPartsOf(source); !parts.names.empty()) {
        entry["stored"] = {{"dtype", DTypeName(parts.dtype)}, {"tensors", Json(parts.names)}};
        if (parts.merged) entry["stored"]["merged"] = true;
      }
      entry["shape"] = tensor.shape;
      entry["quantized"] = tensor.quantized();
      entry["treatment"] = TreatmentName(tensor);
      entry["reason"] = planned.decision.reason;
      entry["bytes"] = PayloadBytes(tensor);
      entry["part"] = s;
      tensors.push_back(std::move(entry));
    }
  }
  // The documents call a shard "part", as its list of shards does (docs/glossary.md).
  Json shard_bytes = Json::array();
  for (const PlannedShard& shard : plan.shards) shard_bytes.push_back(shard.file_bytes);
  // With compression the planned sizes are upper bounds, and "output_bytes_exact" says so.
  Json json;
  json["document"] = "q4convert-plan";
  json["version"] = 1;
  json["source_bytes"] = plan.stored_bytes;
  json["output_bytes"] = plan.output_bytes;
  json["output_bytes_exact"] = !options.compression.zstd;
  json["part_bytes"] = std::move(shard_bytes);
  json["least_memory_bytes"] = MinimumPipelineMemory(checkpoint, plan, options, threads);
  json["quantized_tensors"] = plan.quantized_tensors;
  json["kept_tensors"] = plan.kept_tensors;
  Json warnings = Json::array(), notes = Json::array();
  for (const Note& note : plan.notes) (note.warning ? warnings : notes).push_back(note.text);
  json["warnings"] = std::move(warnings);
  json["notes"] = std::move(notes);
  json["left_out"] = LeftOutJson(checkpoint.left_out());
  json["tensors"] = std::move(tensors);
  if (plan.choice != nullptr) json["choice"] = *plan.choice;
  return JsonReportText(json);
}

std::string ConvertReportText(const ConvertReport& report, double seconds) {
  std::vector<const Q4Tensor*> all;
  for (const ConvertedShard& shard : report.shards) {
    for (const Q4Tensor& tensor : shard.index.tensors) all.push_back(&tensor);
  }
  // A model without a quantized tensor has no error to speak of: the line is left out.
  const ModelStats totals = TotalsOf(report);
  const DerivedStats derived = Derive(totals.total);
  std::string text = TreatmentTable(all) + report.choice_text;
  if (totals.tensors != 0) {
    text += fmt::format("error   SQNR {:.3f} dB, NMSE {:.6g}, largest error {:.6g} in '{}'\n", derived.sqnr_db,
                        derived.nmse, totals.total.max_abs_err, Printable(totals.max_abs_err_tensor));
  }
  // Percent of the tensors' bytes. A checkpoint without any must not divide by zero.
  text += fmt::format(
      "size    {} -> {} ({:.1f} %) in {:.2f} s\n", HumanBytes(report.source_bytes), HumanBytes(report.output_bytes),
      100.0 * static_cast<double>(report.output_bytes) / std::max(static_cast<double>(report.source_bytes), 1.0),
      seconds);
  // Paths are long and wanted whole: to be copied from the terminal.
  for (const ConvertedShard& shard : report.shards) {
    text += fmt::format("wrote   {}\nseal    sha256:{}\n", Printable(shard.path, 4096), HexOf(shard.seal.root));
  }
  if (!report.index_path.empty()) text += fmt::format("wrote   {}\n", Printable(report.index_path, 4096));
  return text;
}

std::string ConvertReportJson(const ConvertReport& report, double seconds) {
  // Tensors are listed shard by shard, each shard's by name, as its index has them; "part" is the shard's index.
  Json outputs = Json::array();
  Json tensors = Json::array();
  for (std::size_t s = 0; s < report.shards.size(); ++s) {
    const ConvertedShard& shard = report.shards[s];
    outputs.push_back(
        {{"path", shard.path}, {"bytes", shard.seal.file_bytes}, {"root_sha256", HexOf(shard.seal.root)}});
    for (const Q4Tensor& tensor : shard.index.tensors) {
      Json entry;
      entry["name"] = tensor.name;
      entry["dtype"] = DTypeName(tensor.dtype);
      entry["shape"] = tensor.shape;
      entry["treatment"] = TreatmentName(tensor);
      entry["part"] = s;
      if (tensor.has_stats) entry["stats"] = StatsJson(*tensor.stats);
      tensors.push_back(std::move(entry));
    }
  }
  Json json;
  json["document"] = "q4convert-report";
  json["version"] = 1;
  json["outputs"] = std::move(outputs);
  // The list of shards; one file has none.
  json["index"] = report.index_path.empty() ? Json(nullptr) : Json(report.index_path);
  json["source_bytes"] = report.source_bytes;
  json["output_bytes"] = report.output_bytes;
  json["seconds"] = seconds;
  json["warnings"] = report.warnings;
  json["notes"] = report.notes;
  json["left_out"] = LeftOutJson(report.left_out);
  json["totals"] = ModelStatsJson(TotalsOf(report));
  json["tensors"] = std::move(tensors);
  if (report.choice != nullptr) json["choice"] = *report.choice;
  return JsonReportText(json);
}

}  // namespace q4
