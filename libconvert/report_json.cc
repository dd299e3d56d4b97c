#include "libconvert/report_json.h"

#include "formats/base/digest.h"
#include "formats/base/json_value.h"
#include "libconvert/json_document.h"
#include "libconvert/stats_json.h"

namespace q4 {
namespace {

const char* SchemeName(Q4Scheme scheme) {
  switch (scheme) {
    case Q4Scheme::kNf4:
      return "nf4";
    case Q4Scheme::kFp4:
      return "fp4";
    case Q4Scheme::kRaw:
      break;
  }
  return "raw";
}

}  // namespace

std::string VerifyReportJson(const VerifyReport& report) {
  Json json = NewDocument("q4verify-report");
  json["path"] = report.path;
  json["source"] = TextOrNull(report.source);
  json["passed"] = report.passed();
  json["root_sha256"] = HexOf(report.root);
  json["shards"] = report.shards;
  json["shard_count"] = report.shard_count;
  json["file_bytes"] = report.file_bytes;
  json["chunks"] = report.chunks;
  json["embedded_files"] = report.embedded_files;
  json["source_bytes"] = report.source_bytes;
  json["stats_recomputed"] = report.stats_recomputed;
  json["finding_count"] = report.finding_count;
  json["findings"] = Json::array();
  for (const VerifyFinding& finding : report.findings) {
    json["findings"].push_back(
        {{"issue", finding.issue}, {"tensor", TextOrNull(finding.tensor)}, {"message", finding.message}});
  }
  json["model"] = report.model.tensors == 0 ? Json(nullptr) : ModelStatsJson(report.model);
  json["tensors"] = Json::array();
  for (const VerifyTensor& tensor : report.tensors) {
    Json entry;
    entry["name"] = tensor.name;
    entry["scheme"] = SchemeName(tensor.scheme);
    entry["elems"] = tensor.elems;
    entry["passed"] = tensor.passed;
    entry["compared"] = tensor.compared;
    entry["stats"] = tensor.has_stats ? StatsJson(tensor.stats) : Json(nullptr);
    json["tensors"].push_back(std::move(entry));
  }
  return JsonReportText(json);
}

}  // namespace q4
