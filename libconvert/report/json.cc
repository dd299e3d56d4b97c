// For programs: everything that the verification found out, nothing rounded, and null for what does not exist, because
// JSON has no infinity and no NaN.
//
// Members are set in the order in which a person reads the document: what was verified, the verdict, findings, gates,
// totals, groups, and the long list of tensors almost at the end. docs/schema/verify.schema.json names every member, so
// a new one goes there too.
#include "libconvert/report/json.h"

#include "formats/base/digest.h"
#include "formats/base/json_value.h"
#include "formats/base/limits.h"
#include "libconvert/base/json_document.h"
#include "libconvert/model/stats_json.h"
#include "libconvert/report/summary.h"

namespace q4 {
namespace {

// Version 2 added groups, gates, scales, worst blocks and more of each tensor.
constexpr int kReportVersion = 2;  // 2: groups, gates, scales, worst blocks and more of each tensor

// The document itself, or null if it is none. The text comes out of the container and is as little to be trusted as a
// name: the depth is bounded as that of a config.json, and a text that does not parse must not cost the user the
// report.
Json ProvenanceJsonOf(const std::string& text, const std::string& path) {
  const absl::StatusOr<Json> provenance = ParseJson(text, path, limits::kConfigJsonDepth);
  return provenance.ok() ? *provenance : Json(nullptr);
}

const char* ScopeName(GateVerdict::Scope scope) {
  switch (scope) {
    case GateVerdict::Scope::kTensor:
      return "tensor";
    case GateVerdict::Scope::kLayer:
      return "layer";
    case GateVerdict::Scope::kRole:
      return "role";
    case GateVerdict::Scope::kEvaluation:
      return "evaluation";
    case GateVerdict::Scope::kModel:
      break;
  }
  return "model";
}

// Without the settings of the evaluation, which its own document has.
Json EvaluationJson(const Evaluation& evaluation) {
  Json json;
  json["path"] = evaluation.path;
  json["name"] = evaluation.name;
  json["task"] = evaluation.task;
  json["original"] = TextOrNull(evaluation.original);
  json["original_is_source"] = evaluation.original_is_source ? Json(*evaluation.original_is_source) : Json(nullptr);
  json["inputs"] = Json::object({{"kind", evaluation.inputs_kind},
                                 {"sha256", evaluation.inputs_sha256},
                                 {"sequences", evaluation.sequences},
                                 {"tokens", evaluation.tokens},
                                 {"truncated", evaluation.truncated},
                                 {"compared", evaluation.compared}});
  json["numbers"] = Json::object();
  for (const auto& [number, value] : evaluation.numbers) json["numbers"][number->name] = value;
  json["layers"] = Json::array();
  for (const EvaluatedLayer& layer : evaluation.layers) {
    json["layers"].push_back({{"name", layer.name}, {"rows", layer.rows}, {"relative_error", layer.error}});
  }
  return json;
}

Json WorstBlockJson(const WorstBlock& block) {
  Json json;
  json["block"] = block.block;
  json["sum_e2"] = block.sum_e2;
  json["scale"] = block.scale;
  // Indices are flat and row-major. The shape is beside them in the tensor, and a program wants the index.
  json["elements"] = Json::array();
  for (const WorstElement& element : block.elements) {
    json["elements"].push_back({{"index", element.index}, {"source", element.source}, {"decoded", element.decoded}});
  }
  return json;
}

// Null where it was not measured.
Json AbsmaxJson(const AbsmaxComparison& absmax) {
  if (absmax.tensors == 0) return nullptr;
  return {{"tensors", absmax.tensors},
          {"sum_e2", absmax.e2},
          {"absmax_sum_e2", absmax.absmax_e2},
          {"ratio", absmax.Ratio()}};
}

// Every tensor has the same members, whatever its scheme: block_size 0 and encoder "none" of a kept one are facts, null
// stands for what was not measured.
Json VerifyTensorJson(const VerifyTensor& tensor) {
  Json json;
  json["name"] = tensor.name;
  json["layer"] = TextOrNull(tensor.layer);
  json["role"] = TextOrNull(tensor.role);
  json["shape"] = tensor.shape;
  json["dtype"] = DTypeName(tensor.dtype);
  json["scheme"] = Q4SchemeName(tensor.scheme);
  json["encoder"] = Q4EncoderName(tensor.encoder);
  json["block_size"] = tensor.block_size;
  json["nested"] = tensor.nested;
  json["elems"] = tensor.elems;
  json["stored_bytes"] = tensor.stored_bytes;
  json["passed"] = tensor.passed;
  json["compared"] = tensor.compared;
  json["compared_elems"] = tensor.compared_elems;
  json["proof"] = ProofName(tensor.proof);
  json["stats"] = tensor.has_stats ? StatsJson(tensor.stats) : Json(nullptr);
  json["absmax"] = AbsmaxJson(tensor.absmax);
  // A kept tensor has no scales, which is not the same as none that were counted.
  json["scales"] = !tensor.quantized() ? Json(nullptr) : ScaleSpreadJson(tensor.scales);
  json["worst_blocks"] = Json::array();
  for (const WorstBlock& block : tensor.worst_blocks) json["worst_blocks"].push_back(WorstBlockJson(block));
  return json;
}

}  // namespace

// `value` is NaN when the statistic does not exist; it becomes null, and `passed` says that this breaks the gate.
Json VerdictJson(const GateVerdict& verdict) {
  Json json;
  json["gate"] = verdict.gate;
  json["scope"] = ScopeName(verdict.scope);
  json["subject"] = TextOrNull(verdict.subject);
  json["statistic"] = verdict.statistic;
  json["limit_is"] = verdict.is_maximum ? "maximum" : "minimum";
  json["limit"] = verdict.limit;
  json["value"] = verdict.value;
  json["passed"] = verdict.passed;
  return json;
}

Json FindingJson(const VerifyFinding& finding) {
  return {{"issue", finding.issue}, {"tensor", TextOrNull(finding.tensor)}, {"message", finding.message}};
}

// Names go in as the container has them, without Printable(): the JSON writer has its own escapes.
std::string VerifyReportJson(const VerifyReport& report) {
  Json json = NewDocument("q4verify-report", kReportVersion);
  json["path"] = report.path;
  json["source"] = TextOrNull(report.source);
  json["passed"] = report.passed();
  // What "passed" rests on.
  json["checks"] = Json::array();
  for (const CheckMade& check : ChecksMade(report)) {
    json["checks"].push_back({{"check", check.name}, {"extent", ExtentName(check.extent)}, {"detail", check.detail}});
  }
  json["root_sha256"] = HexOf(report.root);
  json["architecture"] = TextOrNull(report.architecture);
  json["model_type"] = TextOrNull(report.model_type);
  // Fewer shards than shard_count: one was given alone, and the totals are of that one.
  json["shards"] = report.shards;
  json["shard_count"] = report.shard_count;
  json["file_bytes"] = report.file_bytes;
  json["chunks"] = report.chunks;
  json["embedded_files"] = report.embedded_files;
  json["left_out"] = Json::array();
  for (const LeftOutFile& file : report.left_out) {
    json["left_out"].push_back(
        {{"name", file.name}, {"reason", file.reason}, {"warning", file.warning}, {"recorded", file.recorded}});
  }
  json["source_bytes"] = report.source_bytes;
  json["against_original"] = report.against_original;
  json["sample_percent"] = report.sample_percent;
  json["sample_seed"] = report.sample_percent < 100 ? Json(report.sample_seed) : Json(nullptr);
  json["only"] = TextOrNull(report.only);
  json["baseline"] = TextOrNull(report.baseline);
  json["baseline_encoders"] = Json::array();
  for (const EncoderChange& change : report.baseline_encoders) {
    json["baseline_encoders"].push_back(
        {{"before", change.before}, {"after", change.after}, {"tensors", change.tensors}});
  }
  json["stats_recomputed"] = report.stats_recomputed;
  // At most kMaxFindings are listed below; this counts all, so that a reader can tell.
  json["finding_count"] = report.finding_count;
  json["findings"] = Json::array();
  for (const VerifyFinding& finding : report.findings) {
    json["findings"].push_back(FindingJson(finding));
  }
  json["gates"] = Json::array();
  for (const GateVerdict& verdict : report.gates) json["gates"].push_back(VerdictJson(verdict));
  json["evaluation"] = report.evaluation ? EvaluationJson(*report.evaluation) : Json(nullptr);
  // Without any tensor that has statistics there is no total either; zeros would read as a model without error.
  json["model"] = report.model.tensors == 0 ? Json(nullptr) : ModelStatsJson(report.model);
  json["absmax"] = AbsmaxJson(report.absmax);
  json["scales"] = ScaleSpreadJson(report.scales);
  json["groups"] = Json::array();
  for (const VerifyGroup& group : report.groups) {
    json["groups"].push_back({{"kind", group.kind == VerifyGroup::Kind::kLayer ? "layer" : "role"},
                              {"name", group.name},
                              {"stats", ModelStatsJson(group.stats)},
                              {"absmax", AbsmaxJson(group.absmax)}});
  }
  json["tensors"] = Json::array();
  for (const VerifyTensor& tensor : report.tensors) json["tensors"].push_back(VerifyTensorJson(tensor));
  json["provenance"] = ProvenanceJsonOf(report.provenance, report.path);
  return JsonReportText(json);
}

}  // namespace q4
