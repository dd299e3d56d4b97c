// The documents of docs/schema/convert.schema.json. Keys stand in the order in which they are set here; docs/schema
// says what they mean, and every change of them is one of the schema.
#include "libconvert/report/json.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "formats/base/digest.h"
#include "formats/base/json_value.h"
#include "formats/base/limits.h"
#include "formats/base/strict_json.h"
#include "formats/base/text.h"
#include "libconvert/convert/feedback_cost.h"
#include "libconvert/convert/memory_needs.h"
#include "libconvert/convert_report/convert_report.h"
#include "libconvert/convert_report/totals.h"
#include "libconvert/model/provenance_view.h"
#include "libconvert/model/stats_json.h"
#include "libconvert/scheme/treatment.h"

namespace q4 {
namespace {

Json LeftOutJson(const std::vector<LeftOutFile>& files) {
  Json json = Json::array();
  for (const LeftOutFile& file : files) {
    json.push_back({{"name", file.name}, {"reason", file.reason}, {"warning", file.warning}});
  }
  return json;
}

// Who made it, with which options, of which files. Texts of shards are q4's own, so that they are read back. `planned`:
// digests are placeholders, which stay away.
Json ProvenanceOf(const std::vector<std::string>& documents, bool planned) {
  if (documents.empty()) return nullptr;
  const std::string text = JoinedProvenance(std::vector<std::string_view>(documents.begin(), documents.end()));
  absl::StatusOr<Json> document = ParseJson(text, {}, limits::kConfigJsonDepth);
  if (!document.ok()) return nullptr;
  for (const char* const part : {"source", "adapter"}) {
    if (!planned || !document->contains(part)) continue;
    for (Json& file : (*document)[part]["files"]) {
      file.erase("sha256");
      file.erase("xxh3");
    }
  }
  return *std::move(document);
}

Json GatesJson(const std::vector<GateVerdict>& gates) {
  Json json = Json::array();
  for (const GateVerdict& verdict : gates) json.push_back(VerdictJson(verdict));
  return json;
}

Json FindingsJson(const std::vector<VerifyFinding>& findings) {
  Json json = Json::array();
  for (const VerifyFinding& finding : findings) json.push_back(FindingJson(finding));
  return json;
}

}  // namespace

std::string PlanJson(const Checkpoint& checkpoint, const ConversionPlan& plan, const ConvertOptions& options,
                     unsigned threads, const std::string& output, const BoundOf& bound_of) {
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
  json["output"] = output.empty() ? Json(nullptr) : Json(output);
  json["source_bytes"] = plan.stored_bytes;
  json["output_bytes"] = plan.output_bytes;
  json["output_bytes_exact"] = !options.compression.zstd;
  json["part_bytes"] = std::move(shard_bytes);
  json["least_memory_bytes"] = GivenBound(bound_of, MinimumPipelineMemory(checkpoint, plan, options, threads));
  if (const FeedbackCost cost = FeedbackCostOf(checkpoint, plan); cost.tensors != 0) {
    json["feedback_core_seconds"] = cost.CoreSeconds(BestCpuKernels());
  }
  json["quantized_tensors"] = plan.quantized_tensors;
  json["kept_tensors"] = plan.kept_tensors;
  Json warnings = Json::array(), notes = Json::array();
  for (const Note& note : plan.notes) (note.warning ? warnings : notes).push_back(note.text);
  json["warnings"] = std::move(warnings);
  json["notes"] = std::move(notes);
  json["left_out"] = LeftOutJson(checkpoint.left_out());
  json["tensors"] = std::move(tensors);
  if (plan.choice != nullptr) json["choice"] = *plan.choice;
  std::vector<std::string> provenance;
  // The digests of the source files are not known yet.
  for (const PlannedShard& shard : plan.shards) {
    provenance.push_back(ProvenanceJson(checkpoint, options, shard.source_files, {}, {}));
  }
  json["provenance"] = ProvenanceOf(provenance, /*planned=*/true);
  return JsonReportText(json);
}

std::string ConvertReportJson(const ConvertReport& report, double seconds) {
  // Tensors are listed shard by shard, each shard's by name, as its index has them; "part" is the shard's index.
  Json outputs = Json::array();
  Json tensors = Json::array();
  // What broke a gate was not written.
  const bool passed = report.gate_findings.empty();
  for (std::size_t s = 0; s < report.shards.size(); ++s) {
    const ConvertedShard& shard = report.shards[s];
    if (passed) {
      outputs.push_back(
          {{"path", shard.path}, {"bytes", shard.seal.file_bytes}, {"root_sha256", HexOf(shard.seal.root)}});
    }
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
  json["passed"] = passed;
  json["outputs"] = std::move(outputs);
  // The list of shards; one file has none.
  json["index"] = !passed || report.index_path.empty() ? Json(nullptr) : Json(report.index_path);
  json["source_bytes"] = report.source_bytes;
  json["output_bytes"] = report.output_bytes;
  json["seconds"] = seconds;
  json["warnings"] = report.warnings;
  json["notes"] = report.notes;
  json["left_out"] = LeftOutJson(report.left_out);
  json["finding_count"] = report.gate_finding_count;
  json["findings"] = FindingsJson(report.gate_findings);
  json["gates"] = GatesJson(report.gates);
  json["provenance"] = ProvenanceOf(report.provenance, /*planned=*/report.shards.empty());
  json["totals"] = ModelStatsJson(TotalsOf(report));
  json["tensors"] = std::move(tensors);
  if (report.choice != nullptr) json["choice"] = *report.choice;
  return JsonReportText(json);
}

}  // namespace q4
