// A model with a thousand tensors and ten rules has ten thousand verdicts. People want to know of each rule whether it
// holds and how close it was, so verdicts are grouped by rule and the nearest subject stands for all.
//
// Nothing is computed here that a verification did not measure: these functions select and sort. All of them keep the
// order of the report among equals, so that the same verification gives the same report.
#include "libconvert/report/summary.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <string>
#include <tuple>

#include "fmt/format.h"
#include "formats/base/counted.h"
#include "formats/base/text.h"
#include "formats/q4/encoders.h"
#include "libconvert/base/text_table.h"
#include "libconvert/judge/proof_names.h"
#include "libconvert/judge/verify_issues.h"
#include "libconvert/model/stats.h"

namespace q4 {
namespace {

// How far a value is on the wrong side of its limit, in units of the limit: comparable within one rule. NaN, which
// breaks every gate, is farthest.
double Excess(const GateVerdict& verdict) {
  const double distance = verdict.is_maximum ? verdict.value - verdict.limit : verdict.limit - verdict.value;
  const double excess = verdict.limit == 0 ? distance : distance / std::fabs(verdict.limit);
  return std::isnan(excess) ? HUGE_VAL : excess;
}

// Gates also have findings that no verdict tells: a rule that matches nothing, a tensor without statistics.
bool RestatesVerdict(const VerifyFinding& finding) {
  for (const Issue& issue : {kNmseTooHigh, kSqnrTooLow, kAbsErrorTooHigh, kGateBreached, kWorseThanBaseline}) {
    if (finding.issue == issue.number) return true;
  }
  return false;
}

// NaN compares false with everything and would break the order that sorting needs; here it is the worst there is.
double RankOf(double error) { return std::isnan(error) ? HUGE_VAL : error; }

template <typename T, typename Rank>
void KeepLargest(std::vector<T>* values, std::size_t count, const Rank& rank) {
  std::stable_sort(values->begin(), values->end(), [&](const T& a, const T& b) { return rank(a) > rank(b); });
  if (values->size() > count) values->resize(count);
}

// "4 kept equal, 7 recomputed bit for bit, 2 bounded, not proven: a.weight, b.weight"
std::string ComparisonDetail(const VerifyReport& report) {
  std::map<TensorProof, std::uint64_t> count;
  std::string names;
  constexpr std::uint64_t kShown = 3;
  bool is_calibrated = false;
  for (const VerifyTensor& tensor : report.tensors) {
    is_calibrated |= tensor.proof == TensorProof::kBounded && FindQ4Encoder(tensor.encoder)->calibrated;
    if (++count[tensor.proof] > kShown || tensor.proof != TensorProof::kBounded) continue;
    names += (names.empty() ? ": " : ", ") + Printable(tensor.name);
  }
  if (count[TensorProof::kBounded] > kShown) names += ", ...";
  std::string text;
  const auto add = [&](TensorProof proof, std::string_view what) {
    if (count[proof] != 0) text += fmt::format("{}{} {}", text.empty() ? "" : ", ", Grouped(count[proof]), what);
  };
  add(TensorProof::kEqual, "kept equal");
  add(TensorProof::kRecomputed, "recomputed bit for bit");
  add(TensorProof::kSample, "in part");
  add(TensorProof::kNotCompared, "not compared");
  add(TensorProof::kFailed, "wrong");
  add(TensorProof::kBounded, "bounded, not proven" + names);
  if (is_calibrated) text += "; --calibration with the file that is recorded computes them again";
  if (report.against_original) text += "; with the original of the weights that were taken over, not with their files";
  return text.empty() ? "no tensors" : text;
}

}  // namespace

std::vector<CheckMade> ChecksMade(const VerifyReport& report) {
  using Extent = CheckMade::Extent;
  const bool is_whole = report.shards == report.shard_count;
  std::vector<CheckMade> checks;
  checks.push_back({"integrity", Extent::kWhole, "every byte has a right digest or is a checked constant"});
  checks.push_back({"self-consistency", Extent::kWhole, "codes, scales, statistics and provenance agree"});
  if (report.source.empty()) {
    checks.push_back({"comparison", Extent::kNone, "no source was given"});
  } else {
    const bool all = std::all_of(report.tensors.begin(), report.tensors.end(), [](const VerifyTensor& tensor) {
      return tensor.proof != TensorProof::kNotCompared && tensor.proof != TensorProof::kSample;
    });
    checks.push_back({"comparison", all && is_whole ? Extent::kWhole : Extent::kPart, ComparisonDetail(report)});
  }
  switch (report.strength.policy) {
    case VerifyStrength::Policy::kUnknown:
      checks.push_back({"policy", Extent::kNone, "the container records no options that can be read"});
      break;
    case VerifyStrength::Policy::kSettings:
      checks.push_back({"policy", Extent::kPart,
                        "type, block size, nesting and encoder; which tensors are quantized was decided by another "
                        "version, or by tensors of other shards"});
      break;
    case VerifyStrength::Policy::kWhole:
      checks.push_back({"policy", Extent::kWhole, "each tensor is treated as the recorded options ask"});
  }
  return checks;
}

std::string_view ExtentName(CheckMade::Extent extent) {
  constexpr std::string_view kNames[] = {"none", "part", "whole"};
  return kNames[static_cast<std::size_t>(extent)];
}

std::string_view ProofName(TensorProof proof) { return kProofNames[static_cast<std::size_t>(proof)]; }

std::string SampleText(const VerifyReport& report) {
  return fmt::format("a sample of {} %, --sample-seed {}", report.sample_percent, report.sample_seed);
}

std::string EvaluatedText(const Evaluation& evaluation) {
  return fmt::format("{} {} of {} sequences", Grouped(evaluation.compared),
                     evaluation.task == "embedding" ? "embeddings" : "predictions", Grouped(evaluation.sequences));
}

std::string EvaluatedAgainstText(const Evaluation& evaluation) {
  std::string text = evaluation.original.empty() ? "a model in memory" : evaluation.original;
  if (evaluation.original_is_source) {
    text += *evaluation.original_is_source ? ", which the container was made from"
                                           : ", which is not what the container was made from";
  }
  return text;
}

std::string EvaluationNumberText(double value) { return std::isnan(value) ? "none" : fmt::format("{:.6f}", value); }

std::string RatioText(const AbsmaxComparison& absmax) {
  if (absmax.tensors == 0) return {};
  const double ratio = absmax.Ratio();
  return std::isfinite(ratio) ? fmt::format("{:.4f}", ratio) : "infinite";
}

std::string AbsmaxText(const VerifyReport& report) {
  if (!report.compared_absmax) return {};
  if (report.absmax.tensors == 0) {
    const bool has_passed = std::any_of(report.tensors.begin(), report.tensors.end(), [](const VerifyTensor& tensor) {
      return tensor.quantized() && tensor.proof == TensorProof::kEqual;
    });
    return has_passed ? "not measured: the source has 4 bits too; --against the original of it tells"
                      : "not measured: no quantized tensor was compared and found right";
  }
  const VerifyTensor* worst = nullptr;
  for (const VerifyTensor& tensor : report.tensors) {
    if (tensor.absmax.tensors == 0) continue;
    if (worst == nullptr || tensor.absmax.Ratio() > worst->absmax.Ratio()) worst = &tensor;
  }
  const bool is_one = report.absmax.tensors == 1;
  std::string text = fmt::format("{} of absmax' squared error over {} {}", RatioText(report.absmax),
                                 Grouped(report.absmax.tensors), is_one ? "tensor" : "tensors");
  if (!is_one) text += fmt::format(", at most {}, in '{}'", RatioText(worst->absmax), Printable(worst->name));
  return text;
}

std::string BaselineEncodersText(const VerifyReport& report) {
  std::string text;
  for (const EncoderChange& change : report.baseline_encoders) {
    text += fmt::format("{}{} had the encoder {} in the baseline and {} {}", text.empty() ? "" : ", ",
                        Counted(change.tensors, "tensor"), Printable(change.before),
                        change.tensors == 1 ? "has" : "have", Printable(change.after));
  }
  return text;
}

std::vector<GateSummary> SummarizeGates(const VerifyReport& report) {
  std::vector<GateSummary> summaries;
  // A rule of a gate file may set several limits, and hold for tensors and layers at once; each of these is a group of
  // its own. The map only finds the group; the order is that in which groups first appear.
  std::map<std::tuple<std::string, std::string, bool, GateVerdict::Scope>, std::size_t> at;
  for (const GateVerdict& verdict : report.gates) {
    const auto [found, is_new] =
        at.try_emplace({verdict.gate, verdict.statistic, verdict.is_maximum, verdict.scope}, summaries.size());
    if (is_new) summaries.push_back({&verdict, 0, 0, true});
    GateSummary& summary = summaries[found->second];
    ++summary.subjects;
    summary.broken += !verdict.passed;
    summary.one_limit = summary.one_limit && verdict.limit == summary.closest->limit;
    // A broken verdict always beats one that holds. Among equals the distance from the limit decides.
    const bool worse = summary.closest->passed == verdict.passed ? Excess(verdict) > Excess(*summary.closest)
                                                                 : summary.closest->passed;
    if (worse) summary.closest = &verdict;
  }
  return summaries;
}

std::vector<const GateVerdict*> BrokenGates(const VerifyReport& report) {
  std::vector<const GateVerdict*> broken;
  for (const GateVerdict& verdict : report.gates) {
    if (!verdict.passed) broken.push_back(&verdict);
  }
  return broken;
}

std::vector<const GateVerdict*> BrokenGatesWorstFirst(const VerifyReport& report) {
  std::vector<const GateVerdict*> broken = BrokenGates(report);
  KeepLargest(&broken, broken.size(), [](const GateVerdict* verdict) { return Excess(*verdict); });
  return broken;
}

std::vector<const VerifyFinding*> ProblemsBesideGates(const VerifyReport& report) {
  // A finding of a broken gate names the tensor; those of groups and of the model name none. A finding is dropped only
  // if both agree, its issue number and its tensor: the same issue on another tensor tells of something that no verdict
  // shows.
  std::set<std::string> broken_on;
  for (const GateVerdict* verdict : BrokenGates(report)) {
    broken_on.insert(verdict->scope == GateVerdict::Scope::kTensor ? verdict->subject : "");
  }
  std::vector<const VerifyFinding*> problems;
  for (const VerifyFinding& finding : report.findings) {
    if (!RestatesVerdict(finding) || !broken_on.contains(finding.tensor)) problems.push_back(&finding);
  }
  return problems;
}

std::uint64_t UnlistedFindings(const VerifyReport& report) {
  return report.finding_count - std::min<std::uint64_t>(report.finding_count, report.findings.size());
}

std::vector<const VerifyTensor*> WorstTensors(const VerifyReport& report, std::size_t count) {
  std::vector<const VerifyTensor*> tensors;
  for (const VerifyTensor& tensor : report.tensors) {
    if (tensor.quantized() && tensor.has_stats) tensors.push_back(&tensor);
  }
  KeepLargest(&tensors, count, [](const VerifyTensor* tensor) { return RankOf(Derive(tensor->stats).nmse); });
  return tensors;
}

std::vector<RankedBlock> RankedBlocks(const VerifyReport& report, std::size_t count) {
  // With a source, the worst blocks of each tensor are known by value. Without one, the statistics that the container
  // recorded still name the single worst block and its sum.
  std::vector<RankedBlock> blocks;
  for (const VerifyTensor& tensor : report.tensors) {
    if (!tensor.quantized()) continue;
    for (const WorstBlock& block : tensor.worst_blocks) blocks.push_back({&tensor, &block, block.block, block.sum_e2});
    if (tensor.worst_blocks.empty() && tensor.has_stats && tensor.stats.count != 0) {
      blocks.push_back({&tensor, nullptr, tensor.stats.worst_block, tensor.stats.worst_block_e2});
    }
  }
  KeepLargest(&blocks, count, [](const RankedBlock& block) { return RankOf(block.sum_e2); });
  return blocks;
}

std::string ElementPosition(const Shape& shape, std::uint64_t index) {
  if (shape.empty()) return fmt::format("[{}]", index);
  std::vector<std::uint64_t> position(shape.size());
  // From the last axis, which varies fastest, to the first, which takes what is left.
  for (std::size_t i = shape.size(); i-- > 0;) {
    const std::uint64_t extent = std::max<std::uint64_t>(shape[i], 1);
    position[i] = i == 0 ? index : index % extent;
    index /= extent;
  }
  return fmt::format("[{}]", fmt::join(position, ", "));
}

}  // namespace q4
