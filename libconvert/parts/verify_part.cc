// A shard that is opened alone is verified as any container is; the list has said which root it must have.
#include "libconvert/parts/verify_part.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <memory>
#include <utility>

#include "formats/base/counted.h"
#include "formats/base/json_value.h"
#include "formats/base/limits.h"
#include "formats/base/status.h"
#include "formats/base/text.h"
#include "libconvert/base/json_document.h"
#include "libconvert/judge/gate_judge.h"
#include "libconvert/model/open_model.h"
#include "libconvert/model/stats_json.h"
#include "libconvert/parts/parts_issues.h"

namespace q4 {
namespace {

constexpr const char* kPartDocument = "q4verify-part";

Json FindingsJson(const std::vector<VerifyFinding>& findings) {
  Json json = Json::array();
  for (const VerifyFinding& finding : findings) {
    json.push_back({{"issue", finding.issue}, {"tensor", TextOrNull(finding.tensor)}, {"message", finding.message}});
  }
  return json;
}

// What one report says of one shard.
struct ReportedShard {
  std::string root;
  bool compared = false;
  std::vector<VerifyFinding> findings;
  std::uint64_t finding_count = 0;
};

// Of a document that somebody may have edited: false where it is not of the form that VerifyPartJson() writes.
bool TakeFinding(const Json& json, VerifyFinding* finding) {
  const Json *issue = FindMember(json, "issue"), *tensor = FindMember(json, "tensor"),
             *message = FindMember(json, "message");
  if (issue == nullptr || !issue->is_number_unsigned() || message == nullptr || !message->is_string()) return false;
  finding->issue = static_cast<int>(issue->get<std::uint64_t>() % 10'000);
  if (tensor != nullptr && tensor->is_string()) finding->tensor = tensor->get<std::string>();
  // It goes to a terminal, whoever wrote it.
  finding->message = Printable(message->get<std::string>(), 4096);
  return true;
}

bool TakeShard(const Json& json, std::uint64_t* number, ReportedShard* shard) {
  const Json *at = FindMember(json, "number"), *root = FindMember(json, "root_sha256"),
             *compared = FindMember(json, "compared"), *count = FindMember(json, "finding_count"),
             *findings = FindMember(json, "findings");
  if (at == nullptr || !at->is_number_unsigned() || root == nullptr || !root->is_string() || compared == nullptr ||
      !compared->is_boolean() || count == nullptr || !count->is_number_unsigned() || findings == nullptr ||
      !findings->is_array()) {
    return false;
  }
  *number = at->get<std::uint64_t>();
  shard->root = root->get<std::string>();
  shard->compared = compared->get<bool>();
  shard->finding_count = count->get<std::uint64_t>();
  for (const Json& finding : *findings) {
    if (!TakeFinding(finding, &shard->findings.emplace_back())) return false;
  }
  return shard->findings.size() <= shard->finding_count;
}

struct ReadReport {
  std::string source;
  std::vector<std::pair<std::uint64_t, ReportedShard>> shards;  // numbers from 1
};

absl::StatusOr<ReadReport> ReadPart(FileSystem& fs, const std::string& path) {
  Q4_ASSIGN_OR_RETURN(const std::string text, ReadWholeFile(fs, path, limits::kShardIndexBytes));
  const auto wrong = [&] { return Fail(kVerifyPartsMixed, path, {}, "no report of q4verify --part --json"); };
  const absl::StatusOr<Json> json = ParseJson(text, path, /*max_depth=*/8);
  if (!json.ok()) return wrong();
  const Json *document = FindMember(*json, "document"), *shards = FindMember(*json, "shards"),
             *source = FindMember(*json, "source");
  if (document == nullptr || *document != kPartDocument || shards == nullptr || !shards->is_array()) return wrong();
  ReadReport report;
  if (source != nullptr && source->is_string()) report.source = source->get<std::string>();
  for (const Json& shard : *shards) {
    auto& [number, reported] = report.shards.emplace_back();
    if (!TakeShard(shard, &number, &reported)) return wrong();
  }
  return report;
}

void AddFindings(const std::vector<VerifyFinding>& findings, std::uint64_t count, VerifiedModel* model) {
  model->finding_count += count;
  for (const VerifyFinding& finding : findings) {
    if (model->findings.size() < kMaxFindings) model->findings.push_back(finding);
  }
}

}  // namespace

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
    shard.findings = std::move(verified.findings);
    shard.finding_count = verified.finding_count;
    report.finding_count += shard.finding_count;
  }
  return report;
}

std::string VerifyPartJson(const VerifyPartReport& report) {
  Json shards = Json::array();
  for (const VerifiedShard& shard : report.shards) {
    shards.push_back({{"number", shard.number + 1},
                      {"path", shard.path},
                      {"root_sha256", HexOf(shard.root)},
                      {"compared", shard.compared},
                      {"passed", shard.finding_count == 0},
                      {"finding_count", shard.finding_count},
                      {"findings", FindingsJson(shard.findings)}});
  }
  Json json = NewDocument(kPartDocument);
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

absl::StatusOr<VerifiedModel> MergeVerifiedParts(FileSystem& fs, const std::string& path,
                                                 const std::optional<Sha256>& root, const std::string& folder,
                                                 const std::vector<Gate>& gates) {
  Q4_ASSIGN_OR_RETURN(const std::unique_ptr<Q4Model> model, OpenContainer(fs, path, root));
  VerifiedModel merged;
  merged.path = path;
  merged.root = model->root();
  merged.shard_count = model->shards().size();
  std::map<std::uint64_t, ReportedShard> reported;  // by number, from 1
  Q4_ASSIGN_OR_RETURN(const std::vector<std::string> names, fs.ListDirectory(folder));
  for (const std::string& name : names) {
    if (!name.ends_with(".json")) continue;
    Q4_ASSIGN_OR_RETURN(ReadReport report, ReadPart(fs, JoinPath(folder, name)));
    if (!report.source.empty() &&
        std::find(merged.sources.begin(), merged.sources.end(), report.source) == merged.sources.end()) {
      merged.sources.push_back(report.source);
    }
    for (auto& [number, shard] : report.shards) {
      // Of a shard that has been written anew since, it says nothing.
      if (number == 0 || number > merged.shard_count || shard.root != HexOf(model->shards()[number - 1]->seal().root)) {
        continue;
      }
      const auto [known, is_new] = reported.try_emplace(number, shard);
      if (is_new) continue;
      known->second.compared |= shard.compared;
      // What was wrong once is not made right by another look.
      if (known->second.finding_count == 0) {
        const bool compared = known->second.compared;
        known->second = shard;
        known->second.compared = compared;
      }
    }
  }
  std::vector<std::uint64_t> missing;
  for (std::uint64_t number = 1; number <= merged.shard_count; ++number) {
    if (!reported.contains(number)) missing.push_back(number);
  }
  if (!missing.empty()) {
    return Fail(kVerifyPartsMissing, path, {},
                fmt::format("{} of {}: {}", missing.size(), Counted(merged.shard_count, "shard"), ArrayText(missing)));
  }
  std::vector<const Q4Index*> indexes;
  for (const auto& [number, shard] : reported) {
    merged.compared += shard.compared;
    AddFindings(shard.findings, shard.finding_count, &merged);
    indexes.push_back(&model->shards()[number - 1]->index());
  }
  if (merged.compared != 0 && merged.compared != merged.shard_count) {
    return Fail(kVerifyPartsMixed, path, {},
                fmt::format("{} of {} shards were compared with a source", merged.compared, merged.shard_count));
  }
  if (!gates.empty()) {
    const VerifyReport judged = JudgeConversion(gates, indexes, path);
    AddFindings(judged.findings, judged.finding_count, &merged);
  }
  return merged;
}

std::string VerifiedModelJson(const VerifiedModel& model) {
  Json json = NewDocument("q4verify-parts");
  json["path"] = model.path;
  json["root_sha256"] = HexOf(model.root);
  json["shard_count"] = model.shard_count;
  json["compared"] = model.compared;
  json["sources"] = model.sources;
  json["passed"] = model.finding_count == 0;
  json["finding_count"] = model.finding_count;
  json["findings"] = FindingsJson(model.findings);
  return JsonReportText(json);
}

std::string VerifiedModelText(const VerifiedModel& model) {
  std::string text =
      fmt::format("{}  {}, {} of them compared with the source\n", model.finding_count == 0 ? "right " : "WRONG ",
                  Counted(model.shard_count, "shard"), model.compared);
  return text + fmt::format("root    sha256:{}\n", HexOf(model.root));
}

}  // namespace q4
