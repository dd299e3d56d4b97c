// A shard that is opened alone is verified as any container is; the list has said which root it must have.
#include "libconvert/parts/verify_part.h"

#include <fmt/format.h>

#include <memory>
#include <utility>

#include "formats/base/status.h"
#include "formats/base/text.h"
#include "libconvert/base/json_document.h"
#include "libconvert/model/open_model.h"
#include "libconvert/model/stats_json.h"

namespace q4 {

Json PartFindingsJson(const std::vector<VerifyFinding>& findings) {
  Json json = Json::array();
  for (const VerifyFinding& finding : findings) {
    json.push_back({{"issue", finding.issue}, {"tensor", TextOrNull(finding.tensor)}, {"message", finding.message}});
  }
  return json;
}

absl::StatusOr<VerifyPartReport> VerifyPart(FileSystem& fs, const std::string& path, const VerifyOptions& options,
                                            const PartNumber& part, const ProgressCallback& progress) {
  Q4_ASSIGN_OR_RETURN(const std::unique_ptr<Q4Model> model, OpenContainer(fs, path, options.root));
  std::vector<std::uint64_t> bytes;
  for (const auto& shard : model->shards()) bytes.push_back(shard->seal().file_bytes);
  VerifyPartReport report;
  report.path = path;
  report.source = options.against;
  report.root = model->root();
  report.part = part;
  report.shard_count = bytes.size();
  const auto [first, end] = AssignShards(bytes, part.count)[part.index];
  for (std::size_t number = first; number < end; ++number) {
    const Q4Reader& reader = *model->shards()[number];
    VerifyOptions own = options;
    own.root = reader.seal().root;
    Q4_ASSIGN_OR_RETURN(VerifyReport verified, VerifyModel(fs, reader.path(), own, progress));
    VerifiedShard& shard = report.shards.emplace_back();
    shard.number = number;
    shard.path = reader.path();
    shard.root = reader.seal().root;
    shard.compared = !options.against.empty() && options.sample_percent >= 100;
    if (!options.against.empty()) {
      for (VerifyTensor& tensor : verified.tensors) {
        shard.proofs[static_cast<std::size_t>(tensor.proof)].push_back(std::move(tensor.name));
      }
    }
    shard.policy = verified.strength.policy;
    shard.findings = std::move(verified.findings);
    shard.finding_count = verified.finding_count;
    report.finding_count += shard.finding_count;
  }
  return report;
}

std::string VerifyPartJson(const VerifyPartReport& report) {
  Json shards = Json::array();
  for (const VerifiedShard& shard : report.shards) {
    Json proofs = Json::object();
    for (std::size_t i = 0; i < kProofNames.size(); ++i) {
      if (!shard.proofs[i].empty()) proofs[kProofNames[i]] = shard.proofs[i];
    }
    shards.push_back({{"number", shard.number + 1},
                      {"path", shard.path},
                      {"root_sha256", HexOf(shard.root)},
                      {"compared", shard.compared},
                      {"proofs", std::move(proofs)},
                      {"policy", kPolicyNames[static_cast<std::size_t>(shard.policy)]},
                      {"passed", shard.finding_count == 0},
                      {"finding_count", shard.finding_count},
                      {"findings", PartFindingsJson(shard.findings)}});
  }
  Json json = NewDocument(kVerifyPartDocument, kVerifyPartVersion);
  json["path"] = report.path;
  json["source"] = TextOrNull(report.source);
  json["root_sha256"] = HexOf(report.root);
  json["part"] = report.part.index;
  json["parts"] = report.part.count;
  json["shard_count"] = report.shard_count;
  json["passed"] = report.finding_count == 0;
  json["shards"] = std::move(shards);
  return JsonReportText(json);
}

std::string VerifyPartText(const VerifyPartReport& report) {
  std::string text = fmt::format("part    {} of {}: ", report.part.index, report.part.count);
  if (report.shards.empty()) return text + "nothing to do\n";
  text += fmt::format("{} of {}{}\n", report.shards.size(), Counted(report.shard_count, "shard"),
                      report.source.empty() ? "" : ", against " + Printable(report.source, 4096));
  for (const VerifiedShard& shard : report.shards) {
    text += fmt::format("{}  {}\n", shard.finding_count == 0 ? "right " : "WRONG ", Printable(shard.path, 4096));
  }
  return text;
}

}  // namespace q4
