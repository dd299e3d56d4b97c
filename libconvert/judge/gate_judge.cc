// Subjects on one side, rules on the other. For each subject a Judge first finds, for every statistic and direction,
// the last rule that limits it, and then holds those limits in the order of the file. One Judge per gate: gates do not
// see each other's rules.
#include "libconvert/judge/gate_judge.h"

#include <algorithm>
#include <limits>
#include <map>
#include <optional>
#include <utility>

#include "fmt/format.h"
#include "formats/base/counted.h"
#include "libconvert/judge/evaluation_issues.h"
#include "libconvert/judge/six_digits.h"
#include "libconvert/judge/verify_groups.h"
#include "libconvert/judge/verify_issues.h"

namespace q4 {
namespace {

using Scope = GateVerdict::Scope;

// Something that can be judged.
struct Subject {
  Scope scope;
  std::string name;
  const VerifyTensor* tensor = nullptr;      // of scope kTensor
  const Q4Stats* stats = nullptr;            // nullptr when there are none
  const AbsmaxComparison* absmax = nullptr;  // where stats are
  const Evaluation* evaluation = nullptr;    // of scope kEvaluation

  // nullopt where there is none of that name: of tensors without statistics, of what was not measured, of an
  // evaluation of another task.
  std::optional<double> Value(const GateStatistic& statistic) const {
    if (evaluation != nullptr) return evaluation->Number(statistic.name);
    if (stats == nullptr) return std::nullopt;
    if (statistic.of_absmax == nullptr) return statistic.value(*stats);
    return absmax->tensors == 0 ? std::nullopt : std::optional(statistic.of_absmax(*absmax));
  }
  // As in messages: "tensor 'x'", "role 'q_proj'", "model".
  std::string Place() const {
    switch (scope) {
      case Scope::kTensor:
        return TensorPlace(name);
      case Scope::kLayer:
        return "layer '" + name + "'";
      case Scope::kRole:
        return "role '" + name + "'";
      case Scope::kEvaluation:
        return "evaluation";
      case Scope::kModel:
        break;
    }
    return "model";
  }
};

// Tensors by name, layers, roles, model: the order of the report.
std::vector<Subject> SubjectsOf(const VerifyReport& report) {
  std::vector<Subject> subjects;
  for (const VerifyTensor& tensor : report.tensors) {
    // What was kept has no error to limit.
    if (!tensor.quantized()) continue;
    const Q4Stats* const stats = tensor.has_stats ? &tensor.stats : nullptr;
    subjects.push_back({Scope::kTensor, tensor.name, &tensor, stats, &tensor.absmax});
  }
  for (const VerifyGroup& group : report.groups) {
    const Scope scope = group.kind == VerifyGroup::Kind::kLayer ? Scope::kLayer : Scope::kRole;
    subjects.push_back({scope, group.name, nullptr, &group.stats.total, &group.absmax});
  }
  // A model without statistics is no subject: its totals would be zeros that pass.
  if (report.model.tensors != 0) {
    subjects.push_back({Scope::kModel, "", nullptr, &report.model.total, &report.absmax});
  }
  if (report.evaluation) subjects.push_back({Scope::kEvaluation, "", nullptr, nullptr, nullptr, &*report.evaluation});
  return subjects;
}

bool Matches(const GateRule& rule, const Subject& subject) {
  if (rule.scope != subject.scope) return false;
  // subject.tensor is there: ParseGate allows type, block size and encoder with scope "tensor" only.
  if (rule.scheme && *rule.scheme != subject.tensor->scheme) return false;
  if (rule.block_size && *rule.block_size != subject.tensor->block_size) return false;
  if (rule.encoder && *rule.encoder != subject.tensor->encoder) return false;
  return !rule.match || rule.match->Matches(subject.name);
}

// Why a rule matches nothing, as far as one can see: what has such a name and is no subject, or which names there are.
std::string WhyNothing(const GateRule& rule, const std::vector<Subject>& subjects, const VerifyReport& report) {
  constexpr std::size_t kShown = 3;
  if (rule.scope == Scope::kEvaluation) return "there is no evaluation";
  if (rule.scope == Scope::kTensor) {
    std::uint64_t kept = 0, other = 0;
    for (const VerifyTensor& tensor : report.tensors) {
      if (rule.match && !rule.match->Matches(tensor.name)) continue;
      ++(tensor.quantized() ? other : kept);
    }
    if (other != 0)
      return Counted(other, "tensor of such a name is", "tensors of such a name are") +
             " of another type, block size or encoder";
    if (kept != 0)
      return Counted(kept, "tensor of such a name is not quantized, so that it has no error",
                     "tensors of such a name are not quantized, so that they have no error");
  }
  std::string names;
  std::size_t count = 0;
  for (const Subject& subject : subjects) {
    if (subject.scope != rule.scope) continue;
    if (++count <= kShown) names += fmt::format("{}'{}'", names.empty() ? "" : ", ", subject.name);
  }
  if (count == 0 || rule.scope == Scope::kModel) return "nothing is quantized";
  return fmt::format("no name matches; there are {}{}", names, count > kShown ? ", ..." : "");
}

// One gate at work on one report. Appends to both lists as it goes.
class Judge {
 public:
  Judge(const Gate& gate, FindingList* findings, VerifyReport* report)
      : gate_(gate), findings_(*findings), report_(*report), matched_(gate.rules.size()) {}

  // Whether it limits anything about the subject.
  bool Hold(const Subject& subject) {
    // Limits in force, by statistic and direction, in the order in which their rules stand.
    std::map<std::pair<const GateStatistic*, bool>, std::size_t> rule_of;
    for (std::size_t i = 0; i < gate_.rules.size(); ++i) {
      if (!Matches(gate_.rules[i], subject)) continue;
      // Matched, even if a later rule decides: the rule found what it was written for.
      matched_[i] = true;
      for (const GateLimit& limit : gate_.rules[i].limits) rule_of[{limit.statistic, limit.is_maximum}] = i;
    }
    bool has_limit = false;
    for (std::size_t i = 0; i < gate_.rules.size(); ++i) {
      for (const GateLimit& limit : gate_.rules[i].limits) {
        const auto decides = rule_of.find({limit.statistic, limit.is_maximum});
        // Decided by a later rule, or lifted by it (null).
        if (decides == rule_of.end() || decides->second != i || !limit.limit) continue;
        has_limit = true;
        HoldLimit(gate_.rules[i], limit, subject);
      }
    }
    return has_limit;
  }

  // Looks whether rules match the subject, and at none of its statistics.
  void Match(const Subject& subject) {
    for (std::size_t i = 0; i < gate_.rules.size(); ++i) {
      if (Matches(gate_.rules[i], subject)) matched_[i] = true;
    }
  }

  // After all subjects. Not about any tensor, so the finding names none.
  void ReportRulesThatMatchNothing(const std::vector<Subject>& subjects) {
    for (std::size_t i = 0; i < gate_.rules.size(); ++i) {
      if (matched_[i] || gate_.rules[i].optional) continue;
      findings_.Add("", kGateMatchesNothing, report_.path,
                    fmt::format("{}, gate '{}'", gate_.file, gate_.rules[i].name),
                    WhyNothing(gate_.rules[i], subjects, report_));
    }
  }

 private:
  void HoldLimit(const GateRule& rule, const GateLimit& limit, const Subject& subject) {
    const std::optional<double> value = subject.Value(*limit.statistic);
    if (!value && subject.evaluation != nullptr) {
      if (rule.optional) return;
      std::string held;
      for (const auto& [number, _] : subject.evaluation->numbers)
        held += (held.empty() ? "" : ", ") + std::string(number->name);
      findings_.Add("", kEvaluationLacks, report_.path, subject.Place(),
                    fmt::format("gate '{}': {}; it holds {}", rule.name, limit.statistic->name, held));
    }
    const bool beside_absmax = limit.statistic->of_absmax != nullptr && subject.stats != nullptr;
    if (!value && beside_absmax) {
      if (rule.optional) return;
      // A tensor that failed has said why.
      const std::string_view tensor = subject.scope == Scope::kTensor ? std::string_view(subject.name) : "";
      if (tensor.empty() || !findings_.Failed(subject.name)) {
        findings_.Add(tensor, kNotBesideAbsmax, report_.path, subject.Place(), fmt::format("gate '{}'", rule.name));
      }
    }
    GateVerdict verdict;
    verdict.gate = rule.name;
    verdict.scope = subject.scope;
    verdict.subject = subject.name;
    verdict.statistic = limit.statistic->name;
    verdict.is_maximum = limit.is_maximum;
    verdict.limit = *limit.limit;
    verdict.value = value.value_or(std::numeric_limits<double>::quiet_NaN());
    // Written so that NaN breaks a limit.
    verdict.passed = limit.is_maximum ? verdict.value <= verdict.limit : verdict.value >= verdict.limit;
    // Without statistics there is one finding for the subject (kNoStatsToJudge), not one per limit.
    if (!verdict.passed && value) {
      const std::string what =
          GotExpected(SixDigits(verdict.value, verdict.limit),
                      fmt::format("{} {}", limit.is_maximum ? "at most" : "at least", verdict.limit));
      const bool is_flag = gate_.file.empty();  // then the issue says which statistic
      findings_.Add(subject.scope == Scope::kTensor ? subject.name : "", *rule.issue, report_.path, subject.Place(),
                    is_flag ? what : fmt::format("gate '{}': {}: {}", rule.name, verdict.statistic, what));
    }
    report_.gates.push_back(std::move(verdict));
  }

  const Gate& gate_;
  FindingList& findings_;
  VerifyReport& report_;
  // By rule: whether it matched any subject.
  std::vector<bool> matched_;
};

}  // namespace

void JudgeGates(const std::vector<Gate>& gates, FindingList* findings, VerifyReport* report) {
  const std::vector<Subject> subjects = SubjectsOf(*report);
  std::vector<Judge> judges;
  judges.reserve(gates.size());
  for (const Gate& gate : gates) judges.emplace_back(gate, findings, report);
  // Subjects outside, gates inside: verdicts come in the order of the report's subjects.
  for (const Subject& subject : subjects) {
    bool has_limit = false;
    for (Judge& judge : judges) has_limit = judge.Hold(subject) || has_limit;
    if (has_limit && subject.stats == nullptr && subject.evaluation == nullptr) {
      findings->Add(subject.name, kNoStatsToJudge, report->path, subject.Place());
    }
  }
  for (Judge& judge : judges) judge.ReportRulesThatMatchNothing(subjects);
}

// Groups and the model exist for what will have statistics; what these are plays no part.
VerifyReport JudgePlan(const std::vector<Gate>& gates, const std::vector<const Q4Index*>& shards,
                       const std::string& path) {
  VerifyReport report;
  report.path = path;
  for (const Q4Index* index : shards) {
    for (const Q4Tensor& planned : index->tensors) {
      VerifyTensor& tensor = report.tensors.emplace_back();
      tensor.name = planned.name;
      static_cast<QuantFormat&>(tensor) = planned;
      tensor.has_stats = planned.has_stats;
    }
  }
  std::sort(report.tensors.begin(), report.tensors.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  AssignGroups(&report.tensors);
  SumUpStats(&report);
  FindingList findings;
  const std::vector<Subject> subjects = SubjectsOf(report);
  for (const Gate& gate : gates) {
    Judge judge(gate, &findings, &report);
    for (const Subject& subject : subjects) judge.Match(subject);
    judge.ReportRulesThatMatchNothing(subjects);
  }
  findings.MoveTo(&report);
  return report;
}

// A report with as much in it as judging needs; convert.h passes its findings and verdicts on.
VerifyReport JudgeConversion(const std::vector<Gate>& gates, const std::vector<const Q4Index*>& shards,
                             const std::string& path) {
  VerifyReport report;
  report.path = path;
  for (const Q4Index* index : shards) {
    for (const Q4Tensor& tensor : index->tensors) report.tensors.push_back(DescribeTensor(*index, tensor));
  }
  // Shards list their own tensors; the report is sorted over all of them, as AssignGroups and SumUpStats want it.
  std::sort(report.tensors.begin(), report.tensors.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  AssignGroups(&report.tensors);
  SumUpStats(&report);
  FindingList findings;
  JudgeGates(gates, &findings, &report);
  findings.MoveTo(&report);
  return report;
}

}  // namespace q4
