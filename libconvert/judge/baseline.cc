// Reading is lenient where gates are strict: a report of another version may have more fields, so only the few that are
// needed are looked for, and whatever lacks them is no baseline (kNoBaseline).
// Judging is by subject: the NMSE of each one is looked up in a map of the new report.
#include "libconvert/judge/baseline.h"

#include <algorithm>
#include <limits>
#include <map>
#include <utility>

#include "fmt/format.h"
#include "formats/base/json_value.h"
#include "formats/base/limits.h"
#include "formats/q4/encoders.h"
#include "libconvert/judge/six_digits.h"
#include "libconvert/judge/verify_issues.h"
#include "libconvert/model/stats.h"

namespace q4 {
namespace {

using Scope = GateVerdict::Scope;

// The report, whose provenance is a member of any depth that a container may have. A report of a model has a few KiB
// for each tensor; the limit keeps a wrong file from filling memory.
constexpr std::uint64_t kReportBytes = std::uint64_t{64} << 20;
constexpr int kReportJsonDepth = limits::kConfigJsonDepth + 1;

bool IsText(const Json* json, std::string_view text) {
  return json != nullptr && json->is_string() && json->get_ref<const std::string&>() == text;
}

// JSON has no infinity: it is null there, and demands nothing.
std::optional<double> NmseOf(const Json& stats) {
  const Json* nmse = FindMember(stats, "nmse");
  return nmse != nullptr && nmse->is_number() ? std::optional(nmse->get<double>()) : std::nullopt;
}

// A list of objects with names. False if it is anything else. `add` may have been called for earlier items when it is
// false: the caller gives up the whole baseline then.
template <typename Add>
bool ForEachNamed(const Json* list, const Add& add) {
  if (list == nullptr || !list->is_array()) return false;
  return std::all_of(list->begin(), list->end(), [&](const Json& item) {
    const Json* name = FindMember(item, "name");
    if (name == nullptr || !name->is_string()) return false;
    add(item, name->get<std::string>());
    return true;
  });
}

// The NMSE of each subject of a report.
std::map<std::pair<Scope, std::string>, double> NmseBySubject(const VerifyReport& report) {
  constexpr double kNone = std::numeric_limits<double>::quiet_NaN();
  std::map<std::pair<Scope, std::string>, double> nmse;
  for (const VerifyTensor& tensor : report.tensors) {
    // An unquantized tensor has no error. So a baseline of 0, of a tensor that was unquantized, breaks when it no
    // longer is.
    double value = 0;
    if (tensor.quantized()) value = tensor.has_stats ? Derive(tensor.stats).nmse : kNone;
    nmse[{Scope::kTensor, tensor.name}] = value;
  }
  // Groups exist only where tensors have statistics, so there is always something to derive from.
  for (const VerifyGroup& group : report.groups) {
    const Scope scope = group.kind == VerifyGroup::Kind::kLayer ? Scope::kLayer : Scope::kRole;
    nmse[{scope, group.name}] = Derive(group.stats.total).nmse;
  }
  nmse[{Scope::kModel, ""}] = report.model.tensors == 0 ? 0 : Derive(report.model.total).nmse;
  return nmse;
}

// As Subject::Place of gate_judge.cc.
std::string PlaceOf(const BaselineEntry& entry) {
  switch (entry.scope) {
    case Scope::kTensor:
      return TensorPlace(entry.name);
    case Scope::kLayer:
      return "layer '" + entry.name + "'";
    case Scope::kRole:
      return "role '" + entry.name + "'";
    case Scope::kEvaluation:  // no entry is of one
    case Scope::kModel:
      break;
  }
  return "model";
}

}  // namespace

absl::StatusOr<Baseline> ParseBaseline(std::string_view json, const std::string& path, double slack) {
  Q4_ASSIGN_OR_RETURN(const Json document, ParseJson(json, path, kReportJsonDepth, limits::kReportValueBytes));
  Baseline baseline{path, {}, slack};
  // `is_report` ends up false at the first thing that a report cannot have; later steps then do nothing.
  bool is_report = IsText(FindMember(document, "document"), "q4verify-report");
  // A baseline without any would pass everything, so it is none.
  bool has_nmse = false;
  const auto add = [&](Scope scope, const std::string& name, std::optional<double> nmse, std::string encoder = {}) {
    has_nmse = has_nmse || nmse;
    baseline.entries.push_back({scope, name, nmse, std::move(encoder)});
  };
  is_report =
      is_report && ForEachNamed(FindMember(document, "tensors"), [&](const Json& tensor, const std::string& name) {
        const Json* stats = FindMember(tensor, "stats");
        // Statistics, or unquantized and so without error, or quantized without statistics.
        if (stats != nullptr && stats->is_object()) {
          const Json* encoder = FindMember(tensor, "encoder");
          add(Scope::kTensor, name, NmseOf(*stats),
              encoder != nullptr && encoder->is_string() ? encoder->text() : std::string());
        } else if (IsText(FindMember(tensor, "scheme"), "raw")) {
          baseline.entries.push_back({Scope::kTensor, name, 0, {}});
        } else {
          baseline.entries.push_back({Scope::kTensor, name, std::nullopt, {}});
        }
      });
  // Reports from before groups existed lack the list; then only tensors and the model are judged.
  if (const Json* groups = FindMember(document, "groups"); is_report && groups != nullptr) {
    is_report = ForEachNamed(groups, [&](const Json& group, const std::string& name) {
      const Json* stats = FindMember(group, "stats");
      const Scope scope = IsText(FindMember(group, "kind"), "layer") ? Scope::kLayer : Scope::kRole;
      if (stats != nullptr) add(scope, name, NmseOf(*stats));
    });
  }
  if (const Json* model = FindMember(document, "model"); model != nullptr) add(Scope::kModel, "", NmseOf(*model));
  if (!is_report || !has_nmse) return Fail(kNoBaseline, path, {});
  return baseline;
}

absl::StatusOr<Baseline> LoadBaseline(FileSystem& fs, const std::string& path, double slack) {
  Q4_ASSIGN_OR_RETURN(const std::string json, ReadWholeFile(fs, path, kReportBytes));
  return ParseBaseline(json, path, slack);
}

void JudgeBaseline(const Baseline& baseline, FindingList* findings, VerifyReport* report) {
  report->baseline = baseline.path;
  const auto nmse_by_subject = NmseBySubject(*report);
  std::map<std::string, std::string_view> encoders;
  for (const VerifyTensor& tensor : report->tensors) {
    if (tensor.quantized()) encoders.emplace(tensor.name, Q4EncoderName(tensor.encoder));
  }
  std::map<std::pair<std::string, std::string>, std::uint64_t> changes;
  for (const BaselineEntry& entry : baseline.entries) {
    const auto at = nmse_by_subject.find({entry.scope, entry.name});
    const std::string& tensor = entry.scope == Scope::kTensor ? entry.name : std::string();
    if (at == nmse_by_subject.end()) {
      // Layers and roles that are gone are not missed: their tensors are.
      if (entry.scope == Scope::kTensor) {
        findings->Add(tensor, kBaselineTensorGone, report->path, PlaceOf(entry), baseline.path);
      }
      continue;
    }
    const auto encoder = encoders.find(tensor);
    const bool is_other = !entry.encoder.empty() && encoder != encoders.end() && encoder->second != entry.encoder;
    if (is_other) ++changes[{entry.encoder, std::string(encoder->second)}];
    // After the look-up: a tensor must still be there even if nothing is demanded of its error.
    if (!entry.nmse) continue;
    GateVerdict verdict;
    verdict.gate = "baseline";
    verdict.scope = entry.scope;
    verdict.subject = entry.name;
    verdict.statistic = "nmse";
    // Relative: an NMSE of 0 stays the limit 0, whatever the slack.
    verdict.limit = *entry.nmse * (1 + baseline.slack);
    verdict.value = at->second;
    verdict.passed = verdict.value <= verdict.limit;  // false for NaN
    if (!verdict.passed) {
      findings->Add(tensor, kWorseThanBaseline, report->path, PlaceOf(entry),
                    "nmse: " +
                        GotExpected(SixDigits(verdict.value, verdict.limit),
                                    "at most " + SixDigits(verdict.limit, verdict.value)) +
                        (is_other ? fmt::format("; the encoder was {}, now it is {}", entry.encoder, encoder->second)
                                  : std::string()));
    }
    report->gates.push_back(std::move(verdict));
  }
  for (const auto& [names, tensors] : changes) {
    report->baseline_encoders.push_back({names.first, names.second, tensors});
  }
}

}  // namespace q4
