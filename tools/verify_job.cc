#include "tools/verify_job.h"

#include <charconv>
#include <string>
#include <string_view>
#include <utility>

#include "fmt/format.h"
#include "formats/q4/shards.h"
#include "libconvert/judge/evaluation_reader.h"
#include "tools/usage_issues.h"

namespace q4 {
namespace {

// "0.5%" or "0.005": a share of the earlier error. Above 1 only with the unit: who writes 15 means 15 %, and 1500 %
// would pass whatever it was to catch. At most 100 times the error. The negated comparison refuses NaN, which
// from_chars reads.
absl::StatusOr<double> ParseShare(const std::string& text) {
  const char* const end = text.data() + text.size();
  double share = 0;
  const auto [rest, error] = std::from_chars(text.data(), end, share, std::chars_format::fixed);
  const std::string_view unit(rest, static_cast<std::size_t>(end - rest));
  if (unit == "%") share /= 100;
  if (error != std::errc() || (!unit.empty() && unit != "%") || !(share >= 0 && share <= 100)) {
    return Fail(kBadFlag, {}, "--baseline-slack", GotExpected(text, "a share such as 0.5% or 0.005, at most 10000%"));
  }
  if (unit.empty() && share > 1) {
    return Fail(kBadFlag, {}, "--baseline-slack", GotExpected(text, fmt::format("{}% or {}", text, share / 100)));
  }
  return share;
}

// What the statistics are held against, beside the limits of single flags: a gate file, an earlier report, an
// evaluation.
absl::Status LoadJudgement(const VerifyFlags& flags, VerifyOptions* options) {
  if (!flags.gate.empty()) {
    Q4_ASSIGN_OR_RETURN(Gate gate, LoadGate(PosixFileSystem(), flags.gate));
    options->gates.push_back(std::move(gate));
  }
  if (!flags.evaluation.empty()) {
    Q4_ASSIGN_OR_RETURN(options->evaluation, LoadEvaluation(PosixFileSystem(), flags.evaluation));
    for (const std::string& limit : flags.limits) {
      Q4_ASSIGN_OR_RETURN(Gate gate, ParseEvaluationLimit(limit, "--limit"));
      options->gates.push_back(std::move(gate));
    }
  } else {
    Q4_RETURN_IF_ERROR(
        CheckNeedsNoEvaluation(options->gates, "--evaluation FILE gives one, \"optional\" does without"));
  }
  // Whoever writes such a rule wants it measured.
  if (flags.against.empty()) {
    Q4_RETURN_IF_ERROR(CheckNeedsNoAbsmax(options->gates, "--against SOURCE gives it, \"optional\" does without"));
  } else if (NeedsAbsmaxComparison(options->gates)) {
    options->compare_absmax = true;
  }
  if (!flags.baseline.empty()) {
    Q4_ASSIGN_OR_RETURN(const double slack, ParseShare(flags.baseline_slack));
    Q4_ASSIGN_OR_RETURN(options->baseline, LoadBaseline(PosixFileSystem(), flags.baseline, slack));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<VerifyOptions> VerifyOptionsFrom(const VerifyFlags& flags, bool pipeline, CancelFlag* cancel) {
  VerifyOptions options;
  options.against = flags.against;
  options.adapter = flags.adapter;
  if (!flags.calibration.empty() && !pipeline) {
    Q4_ASSIGN_OR_RETURN(options.calibration, Calibration::Open(PosixFileSystem(), flags.calibration));
  }
  options.root = ParseQ4Root(flags.root);
  options.source_options.follow_symlinks = flags.follow_symlinks;
  options.threads = flags.threads;
  options.max_memory = flags.max_memory;
  options.max_nmse = flags.max_nmse;
  options.min_sqnr_db = flags.min_sqnr;
  options.max_abs_error = flags.max_abs_error;
  options.cancel = cancel;
  if (!flags.tensor.empty()) {
    Q4_ASSIGN_OR_RETURN(options.only, NamePattern::Parse(flags.tensor, "--tensor"));
  }
  options.sample_percent = flags.sample;
  // Written so that NaN is refused too.
  if (!(flags.sample > 0 && flags.sample <= 100)) {
    return Fail(kBadFlag, {}, "--sample", GotExpected(fmt::to_string(flags.sample), "more than 0, at most 100"));
  }
  options.sample_seed = flags.sample_seed;
  options.require_proof = flags.require_proof;
  options.compare_absmax = flags.compare_absmax;
  // Of a sample nothing is proven.
  if (flags.require_proof && flags.sample < 100) {
    return Fail(kBadFlag, {}, "--require-proof", "not with --sample");
  }
  Q4_RETURN_IF_ERROR(LoadJudgement(flags, &options));
  return options;
}

}  // namespace q4
