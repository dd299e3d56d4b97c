// Gates: limits on error statistics, as ordered rules in a JSON file.
//
//   {"rules": [{"name": "every weight", "max_nmse": 0.012, "min_cosine": 0.99},
//              {"match": "\\.down_proj\\.", "max_nmse": 0.02},
//              {"scope": "role", "match": "^o_proj$", "max_bias": 1e-6},
//              {"scope": "model", "min_sqnr_db": 20},
//              {"scope": "evaluation", "max_kl_mean": 0.02, "min_top1_agreement": 0.98}]}
//
// docs/schema/gate.schema.json is the schema, docs/gates.md the manual; gate_judge.h holds a model against them.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/base/file.h"
#include "formats/base/status.h"
#include "libconvert/base/name_pattern.h"
#include "libconvert/judge/verify_issues.h"
#include "libconvert/judge/verify_report.h"

namespace q4 {

// A statistic that can be limited.
struct GateStatistic {
  std::string_view name;  // as in the JSON report: "nmse"
  // Infinite where the report says null for "infinite". `bias` is its magnitude here, `clipped_share` clipped / count.
  // Q4Stats are those of a tensor or the added ones of a group. Null for what is not computed of them.
  double (*value)(const Q4Stats& stats);
  // Of errors beside absmax', which are measured on request; else null.
  double (*of_absmax)(const AbsmaxComparison& absmax) = nullptr;

  // Whether it is a number of an evaluation (evaluation.h).
  bool of_evaluation() const { return value == nullptr && of_absmax == nullptr; }
};
// Those of weights, in the order of docs/gates.md. Static.
std::span<const GateStatistic> GateStatistics();
// REQUIRES: there is one of that name.
const GateStatistic& GateStatisticNamed(std::string_view name);

// One limit of a rule: "max_nmse": 0.01.
struct GateLimit {
  // Of the static table; never null in a parsed gate.
  const GateStatistic* statistic = nullptr;
  bool is_maximum = true;       // at most, else at least
  std::optional<double> limit;  // null in the file: what earlier rules demand is lifted
};

// Selects subjects of one scope and limits some of their statistics.
struct GateRule {
  std::string name;  // "rule 3" when the file gives none
  GateVerdict::Scope scope = GateVerdict::Scope::kTensor;
  std::optional<NamePattern> match;         // over names of tensors, layers or roles; nullopt: all
  std::optional<Q4Scheme> scheme;           // "type": only such tensors
  std::optional<Q4Encoder> encoder;         // only such tensors
  std::optional<std::uint32_t> block_size;  // only such tensors
  bool optional = false;                    // may match nothing, and what was not measured
  // At least one.
  std::vector<GateLimit> limits;
  const Issue* issue = &kGateBreached;  // what a breach is reported as
};

// For each subject (a quantized tensor, a layer, a role, the model), statistic and direction, the last rule that
// matches and limits it decides.
struct Gate {
  std::string file;  // "" for flags
  std::vector<GateRule> rules;
};

// Parses a gate file. `file` is named in errors: not JSON, an unknown key or statistic, a wrong type or value, a rule
// without any limit (exit code 3); a regular expression that does not compile (1, as on the command line). By issue:
// kGateShape, kGateUnknownKey, kGateValue, kGateEmptyRule, kGateScope; kBadPattern, kPatternNotUtf8.
absl::StatusOr<Gate> ParseGate(std::string_view json, const std::string& file);

// The name of the gate that the tools carry: libconvert/judge/default_gate.json, embedded when they were built.
inline constexpr std::string_view kDefaultGateName = "default";
extern const std::string_view kDefaultGateJson;

// Reads and parses the gate file `path`, or the default gate if that is kDefaultGateName. The file may have as many
// bytes as a config.json. A file that is called "default" needs a path in front ("./default").
absl::StatusOr<Gate> LoadGate(FileSystem& fs, const std::string& path);

// One limit on a number of an evaluation, as it is typed: "kl_mean <= 0.02", "top1_agreement >= 0.98". `flag` is the
// rule's name in verdicts and what errors name: kBadLimit (exit code 1).
absl::StatusOr<Gate> ParseEvaluationLimit(std::string_view text, std::string_view flag);

// Whether a rule that is not optional limits an error beside absmax'.
bool NeedsAbsmaxComparison(const std::vector<Gate>& gates);
// kGateNeedsAbsmax if so. `way`: what to do about it.
absl::Status CheckNeedsNoAbsmax(const std::vector<Gate>& gates, std::string_view way);

// kGateNeedsEvaluation for the first rule on numbers of an evaluation that is not optional. `way`: what to do about it.
absl::Status CheckNeedsNoEvaluation(const std::vector<Gate>& gates, std::string_view way);

// A flag: one limit for every quantized tensor and for the model. `flag` ("--max-nmse") is the rule's name in verdicts,
// `issue` what a breach is reported as; it must be static. Matching nothing is no breach: a model without quantized
// tensors passes.
Gate FlagGate(std::string_view flag, std::string_view statistic, bool is_maximum, double limit, const Issue& issue);

}  // namespace q4
