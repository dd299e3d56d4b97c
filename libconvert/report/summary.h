// What a report shows first of a verification: gates by rule, problems that are no broken gate, worst tensors and
// blocks. Shared by the Markdown, JUnit and HTML reports. Pointers point into the report.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "libconvert/judge/verify_report.h"

namespace q4 {

// What the verdict rests on: a check, how much of it was made, and what that says or what is missing.
struct CheckMade {
  enum class Extent : std::uint8_t { kNone, kPart, kWhole };
  std::string_view name;  // "integrity", "self-consistency", "comparison", "policy"
  Extent extent = Extent::kNone;
  std::string detail;  // fit for a terminal
};
// These four, in that order.
std::vector<CheckMade> ChecksMade(const VerifyReport& report);
// "none", "part", "whole".
std::string_view ExtentName(CheckMade::Extent extent);
// "not_compared", "sample", "equal", "recomputed", "bounded", "failed".
std::string_view ProofName(TensorProof proof);

// "a sample of 5 %, --sample-seed 123": how much was compared, and how to compare the same again.
std::string SampleText(const VerifyReport& report);

// "496 predictions of 16 sequences": what the numbers of an evaluation are about.
std::string EvaluatedText(const Evaluation& evaluation);
// Whether the original is what the container was made from; "" where nobody can tell. Not escaped.
std::string EvaluatedAgainstText(const Evaluation& evaluation);
// As the documents print it: six decimals, or "none" of NaN.
std::string EvaluationNumberText(double value);

// "0.8190": the squared error in units of absmax'; "infinite"; "" where it was not measured.
std::string RatioText(const AbsmaxComparison& absmax);
// "0.8190 of absmax' squared error over 36 tensors, at most 0.8390, in 'x'": of the whole report, or why nothing was
// measured; "" where nobody asked. Fit for a terminal.
std::string AbsmaxText(const VerifyReport& report);

// "36 tensors had the encoder absmax in the baseline and have mse": "" where none has another. Fit for a terminal.
std::string BaselineEncodersText(const VerifyReport& report);

// All verdicts of one rule on subjects of one kind.
struct GateSummary {
  const GateVerdict* closest = nullptr;  // the worst broken one, else the one nearest to its limit; never null
  std::uint64_t subjects = 0;            // verdicts of the rule: tensors, layers or roles that it was held against
  std::uint64_t broken = 0;              // of these
  bool one_limit = true;                 // the same for all subjects; a baseline gives each its own
};

// In the order in which the rules first appear.
std::vector<GateSummary> SummarizeGates(const VerifyReport& report);

// The broken ones among report.gates, in their order.
std::vector<const GateVerdict*> BrokenGates(const VerifyReport& report);

// The same, farthest beyond its limit first, in units of the limit; a value that is not a number is farthest.
std::vector<const GateVerdict*> BrokenGatesWorstFirst(const VerifyReport& report);

// The listed findings without those that only repeat a broken gate, so that a report that shows both does not show one
// fault twice.
std::vector<const VerifyFinding*> ProblemsBesideGates(const VerifyReport& report);

// Findings that exist but were not listed: those beyond the first kMaxFindings.
std::uint64_t UnlistedFindings(const VerifyReport& report);

// Quantized tensors with statistics, largest NMSE first, at most `count`. An NMSE that is not a number comes first.
std::vector<const VerifyTensor*> WorstTensors(const VerifyReport& report, std::size_t count);

// A block of a quantized tensor, for the list of those with the largest sums of squared errors.
struct RankedBlock {
  const VerifyTensor* tensor = nullptr;  // never null
  const WorstBlock* values = nullptr;    // null without a source: then only place and sum are known
  std::uint64_t block = 0;               // its number in the tensor; it begins at element block * block_size
  double sum_e2 = 0;                     // of its elements
};
std::vector<RankedBlock> RankedBlocks(const VerifyReport& report, std::size_t count);

// Where element `index` of a tensor lies: "[12, 3456]", row-major; "[0]" of a scalar. An index behind the end, which
// only a damaged report could have, gives a first coordinate that is too large. Axes of size 0 are taken for 1.
std::string ElementPosition(const Shape& shape, std::uint64_t index);

}  // namespace q4
