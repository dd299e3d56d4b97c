// Reports are documents that somebody may have edited, cut off or mixed up: one that does not agree with itself proves
// nothing, whichever of its statements is the right one.
#include "libconvert/parts/merge_verified.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>
#include <memory>
#include <set>
#include <string_view>
#include <utility>

#include "formats/base/counted.h"
#include "formats/base/json_value.h"
#include "formats/base/limits.h"
#include "formats/base/status.h"
#include "formats/base/text.h"
#include "libconvert/base/json_document.h"
#include "libconvert/judge/gate_judge.h"
#include "libconvert/model/names.h"
#include "libconvert/model/open_model.h"
#include "libconvert/model/provenance_view.h"
#include "libconvert/model/stats_json.h"
#include "libconvert/parts/assign.h"
#include "libconvert/parts/parts_issues.h"
#include "libconvert/parts/verify_part.h"

namespace q4 {
namespace {

// What one report says of one shard.
struct ReportedShard {
  std::uint64_t number = 0;  // from 1
  std::string root;
  bool compared = false;
  bool passed = false;  // as it is written
  std::map<std::string, TensorProof, std::less<>> proofs;
  VerifyStrength::Policy policy = VerifyStrength::Policy::kUnknown;
  std::vector<VerifyFinding> findings;
  std::uint64_t finding_count = 0;
};

struct ReadReport {
  std::string path, source, tool_version;
  bool passed = false;  // as it is written
  std::vector<ReportedShard> shards;
};

bool TakeText(const Json& json, const char* name, std::string* text) {
  const Json* const member = FindMember(json, name);
  if (member == nullptr || !member->is_string()) return false;
  *text = member->get<std::string>();
  return true;
}

bool TakeNumber(const Json& json, const char* name, std::uint64_t* number) {
  const Json* const member = FindMember(json, name);
  if (member == nullptr || !member->is_number_unsigned()) return false;
  *number = member->get<std::uint64_t>();
  return true;
}

bool TakeBool(const Json& json, const char* name, bool* value) {
  const Json* const member = FindMember(json, name);
  if (member == nullptr || !member->is_boolean()) return false;
  *value = member->get<bool>();
  return true;
}

// These three: false where the document is not of the form that VerifyPartJson() writes.
bool TakeFinding(const Json& json, VerifyFinding* finding) {
  std::uint64_t issue = 0;
  if (!TakeNumber(json, "issue", &issue) || !TakeText(json, "message", &finding->message)) return false;
  finding->issue = static_cast<int>(issue % 10'000);
  // null where the finding concerns no tensor.
  TakeText(json, "tensor", &finding->tensor);
  // It goes to a terminal, whoever wrote it.
  finding->message = Printable(finding->message, 4096);
  return true;
}

bool TakeProofs(const Json& json, ReportedShard* shard) {
  const Json* const proofs = FindMember(json, "proofs");
  std::string policy;
  if (proofs == nullptr || !proofs->is_object() || !TakeText(json, "policy", &policy)) return false;
  const auto known = std::find(kPolicyNames.begin(), kPolicyNames.end(), policy);
  if (known == kPolicyNames.end()) return false;
  shard->policy = static_cast<VerifyStrength::Policy>(known - kPolicyNames.begin());
  for (std::size_t i = 0; i < kProofNames.size(); ++i) {
    const Json* const names = FindMember(*proofs, kProofNames[i]);
    if (names == nullptr) continue;
    if (!names->is_array()) return false;
    for (const Json& name : *names) {
      if (!name.is_string()) return false;
      shard->proofs.emplace(name.get<std::string>(), static_cast<TensorProof>(i));
    }
  }
  return true;
}

bool TakeShard(const Json& json, ReportedShard* shard) {
  const Json* const findings = FindMember(json, "findings");
  if (!TakeNumber(json, "number", &shard->number) || !TakeText(json, "root_sha256", &shard->root) ||
      !TakeBool(json, "compared", &shard->compared) || !TakeBool(json, "passed", &shard->passed) ||
      !TakeProofs(json, shard) || !TakeNumber(json, "finding_count", &shard->finding_count) || findings == nullptr ||
      !findings->is_array()) {
    return false;
  }
  for (const Json& finding : *findings) {
    if (!TakeFinding(finding, &shard->findings.emplace_back())) return false;
  }
  return true;
}

// What of the report contradicts the rest of it; "" for nothing.
std::string Contradiction(const ReadReport& report) {
  bool passed = true;
  for (const ReportedShard& shard : report.shards) {
    const std::string where = fmt::format("shard {}: ", shard.number);
    if (shard.passed != (shard.finding_count == 0)) {
      return where + fmt::format("\"passed\" is {}, and \"finding_count\" {}", shard.passed, shard.finding_count);
    }
    if (shard.findings.size() != std::min<std::uint64_t>(shard.finding_count, kMaxFindings)) {
      return where + fmt::format("{} findings are listed, and \"finding_count\" is {}", shard.findings.size(),
                                 shard.finding_count);
    }
    if (shard.compared && report.source.empty()) return where + "it was compared, and with no source";
    passed &= shard.passed;
  }
  if (report.passed != passed) {
    return fmt::format("\"passed\" is {}, and of its shards {}", report.passed, passed ? "all did" : "not all did");
  }
  return {};
}

absl::StatusOr<ReadReport> ReadPart(FileSystem& fs, const std::string& path) {
  Q4_ASSIGN_OR_RETURN(const std::string text, ReadWholeFile(fs, path, limits::kShardIndexBytes));
  const auto wrong = [&] { return Fail(kVerifyPartsMixed, path, {}, "no report of q4verify --part --json"); };
  const absl::StatusOr<Json> json = ParseJson(text, path, /*max_depth=*/8);
  if (!json.ok()) return wrong();
  ReadReport report;
  report.path = path;
  std::string document;
  std::uint64_t version = 0;
  const Json* const shards = FindMember(*json, "shards");
  if (!TakeText(*json, "document", &document) || document != kVerifyPartDocument ||
      !TakeNumber(*json, "version", &version) || !TakeText(*json, "tool_version", &report.tool_version) ||
      shards == nullptr || !shards->is_array()) {
    return wrong();
  }
  if (version != kVerifyPartVersion) {
    return Fail(kVerifyPartsMixed, path, "version",
                GotExpected(std::to_string(version), std::to_string(kVerifyPartVersion)));
  }
  // null without --against.
  TakeText(*json, "source", &report.source);
  if (!TakeBool(*json, "passed", &report.passed)) return wrong();
  for (const Json& shard : *shards) {
    if (!TakeShard(shard, &report.shards.emplace_back())) return wrong();
  }
  if (const std::string what = Contradiction(report); !what.empty()) {
    return Fail(kVerifyPartsMixed, path, {}, "it contradicts itself: " + what + "; verify that part again");
  }
  return report;
}

// The reports of a folder, by shard.
class Gathered {
 public:
  Gathered(const Q4Model& model, VerifiedModel* merged) : model_(model), merged_(*merged) {}

  absl::Status Add(ReadReport report) {
    const bool had_shards = !report.shards.empty();
    // Of a shard that has been written anew since, or of another model, it says nothing.
    std::erase_if(report.shards, [&](const ReportedShard& shard) {
      return shard.number == 0 || shard.number > model_.shards().size() ||
             shard.root != HexOf(model_.shards()[shard.number - 1]->seal().root);
    });
    if (report.shards.empty()) {
      if (had_shards) others_.push_back(report.path);
      return absl::OkStatus();
    }
    // What another version has looked at is not known.
    if (report.tool_version != kQ4Version) {
      return Fail(kVerifyPartsMixed, report.path, "tool_version",
                  GotExpected(Printable(report.tool_version, 100),
                              fmt::format("{}, this q4verify's; verify that part again by it", kQ4Version)));
    }
    if (!report.source.empty() &&
        std::find(merged_.sources.begin(), merged_.sources.end(), report.source) == merged_.sources.end()) {
      merged_.sources.push_back(report.source);
    }
    for (ReportedShard& shard : report.shards) {
      const auto [known, is_new] = by_number_.try_emplace(shard.number, shard);
      if (is_new) continue;
      const bool compared = known->second.compared || shard.compared;
      // What was wrong once is not made right by another look; of two that are right the one that compared says more.
      const bool says_more = known->second.finding_count == 0 && (shard.finding_count != 0 || shard.compared);
      if (says_more) known->second = std::move(shard);
      known->second.compared = compared;
    }
    return absl::OkStatus();
  }

  // kVerifyPartsMissing unless every shard is there.
  absl::Status CheckWhole() {
    std::string others;
    for (const std::string& path : others_) {
      merged_.notes.push_back(fmt::format("warning: {} tells of no shard that this model has", Printable(path, 4096)));
      if (others.empty()) others = fmt::format("; {} tells of others", Printable(path, 4096));
    }
    std::vector<std::uint64_t> missing;
    for (std::uint64_t number = 1; number <= model_.shards().size(); ++number) {
      if (!by_number_.contains(number)) missing.push_back(number);
    }
    if (missing.empty()) return absl::OkStatus();
    return Fail(kVerifyPartsMissing, model_.path(), {},
                fmt::format("{} of {}: {}{}", missing.size(), Counted(model_.shards().size(), "shard"),
                            ArrayText(missing), others));
  }

  const std::map<std::uint64_t, ReportedShard>& by_number() const { return by_number_; }

 private:
  const Q4Model& model_;
  VerifiedModel& merged_;
  std::map<std::uint64_t, ReportedShard> by_number_;  // from 1
  std::vector<std::string> others_;                   // paths of reports that count for no shard
};

void Describe(const Q4Model& model, VerifyReport* report) {
  report->root = model.root();
  report->shards = report->shard_count = static_cast<std::uint32_t>(model.shards().size());
  for (const auto& shard : model.shards()) {
    report->file_bytes += shard->seal().file_bytes;
    report->chunks += shard->index().chunks.size();
    report->embedded_files += shard->index().files.size();
  }
  report->provenance = ModelProvenance(model);
  if (const absl::StatusOr<ProvenanceView> view = ParseProvenance(report->provenance, model.path()); view.ok()) {
    report->left_out = view->left_out;
  }
  if (const auto config = model.ReadFile("config.json", limits::kConfigJsonBytes); config.ok()) {
    ModelNames names = ReadModelNames(*config);
    report->architecture = std::move(names.architecture);
    report->model_type = std::move(names.model_type);
  }
}

// What the parts found, before what the gates say: the cause first.
void AddFindings(const std::map<std::uint64_t, ReportedShard>& shards, VerifyReport* report) {
  std::vector<VerifyFinding> findings;
  std::uint64_t count = 0;
  for (const auto& [number, shard] : shards) {
    count += shard.finding_count;
    findings.insert(findings.end(), shard.findings.begin(), shard.findings.end());
  }
  std::set<std::string_view> failed;
  for (const VerifyFinding& finding : findings) failed.insert(finding.tensor);
  for (VerifyTensor& tensor : report->tensors) tensor.passed &= !failed.contains(tensor.name);
  findings.insert(findings.end(), report->findings.begin(), report->findings.end());
  if (findings.size() > kMaxFindings) findings.resize(kMaxFindings);
  report->findings = std::move(findings);
  report->finding_count += count;
}

void AddProofs(const std::map<std::uint64_t, ReportedShard>& shards, VerifyReport* report) {
  report->strength.policy = VerifyStrength::Policy::kWhole;
  for (const auto& [number, shard] : shards) {
    report->strength.policy = std::min(report->strength.policy, shard.policy);
    for (const auto& [name, proof] : shard.proofs) {
      const auto tensor = std::lower_bound(report->tensors.begin(), report->tensors.end(), name,
                                           [](const VerifyTensor& a, std::string_view b) { return a.name < b; });
      if (tensor == report->tensors.end() || tensor->name != name) continue;
      tensor->proof = proof;
      tensor->compared = proof != TensorProof::kNotCompared && proof != TensorProof::kSample;
      if (tensor->compared) tensor->compared_elems = tensor->elems;
    }
  }
}

}  // namespace

absl::StatusOr<std::vector<std::string>> VerifiedPartFiles(FileSystem& fs, const std::string& folder) {
  Q4_ASSIGN_OR_RETURN(std::vector<std::string> names, fs.ListDirectory(folder));
  std::erase_if(names, [](const std::string& name) { return !name.ends_with(".json"); });
  for (std::string& name : names) name = JoinPath(folder, name);
  return names;
}

absl::StatusOr<VerifiedModel> MergeVerifiedParts(FileSystem& fs, const std::string& path,
                                                 const std::optional<Sha256>& root, const std::string& folder,
                                                 const std::vector<Gate>& gates) {
  Q4_ASSIGN_OR_RETURN(const std::unique_ptr<Q4Model> model, OpenContainer(fs, path, root));
  VerifiedModel merged;
  Gathered gathered(*model, &merged);
  Q4_ASSIGN_OR_RETURN(const std::vector<std::string> files, VerifiedPartFiles(fs, folder));
  for (const std::string& file : files) {
    Q4_ASSIGN_OR_RETURN(ReadReport report, ReadPart(fs, file));
    Q4_RETURN_IF_ERROR(gathered.Add(std::move(report)));
  }
  Q4_RETURN_IF_ERROR(gathered.CheckWhole());
  std::vector<const Q4Index*> indexes;
  for (const auto& [number, shard] : gathered.by_number()) {
    merged.compared += shard.compared;
    indexes.push_back(&model->shards()[number - 1]->index());
  }
  if (merged.compared != 0 && merged.compared != indexes.size()) {
    return Fail(kVerifyPartsMixed, path, {},
                fmt::format("{} of {} were compared with a source", merged.compared, Counted(indexes.size(), "shard")));
  }
  VerifyReport& report = merged.report;
  report = JudgeConversion(gates, indexes, path);
  Describe(*model, &report);
  AddProofs(gathered.by_number(), &report);
  AddFindings(gathered.by_number(), &report);
  if (!merged.sources.empty()) report.source = merged.sources.front();
  report.stats_recomputed = merged.compared != 0;
  return merged;
}

std::string VerifiedModelJson(const VerifiedModel& model) {
  const VerifyReport& report = model.report;
  Json json = NewDocument("q4verify-parts");
  json["path"] = report.path;
  json["root_sha256"] = HexOf(report.root);
  json["shard_count"] = report.shard_count;
  json["compared"] = model.compared;
  json["sources"] = model.sources;
  json["passed"] = report.passed();
  json["finding_count"] = report.finding_count;
  json["findings"] = PartFindingsJson(report.findings);
  return JsonReportText(json);
}

std::string VerifiedModelText(const VerifiedModel& model) {
  const VerifyReport& report = model.report;
  return fmt::format("{}  {}, {} of them compared with the source\nroot    sha256:{}\n",
                     report.passed() ? "right " : "WRONG ", Counted(report.shard_count, "shard"), model.compared,
                     HexOf(report.root));
}

}  // namespace q4
