// What the encoder feedback costs, before it runs: it takes a hundred times the work of the others, and who starts it
// for a large model should know.
#pragma once

#include <string>

#include "formats/source/checkpoint.h"
#include "kernels/kernels.h"
#include "libconvert/plan/plan.h"

namespace q4 {

// Products and sums of numerics Q17, of all tensors of a plan whose codes are chosen as a whole.
struct FeedbackCost {
  double factor = 0;  // in fp64: a factor for each input, where tensors share it
  double codes = 0;   // in fp32
  std::size_t tensors = 0;

  // About, on the cores: by what was measured of a core with these kernels (docs/quality.md), which others differ from
  // by a factor of two or so.
  double CoreSeconds(const KernelTable& kernels) const;
};

FeedbackCost FeedbackCostOf(const Checkpoint& checkpoint, const ConversionPlan& plan);

// "40 s", "12 min", "3.4 h", "2.5 days".
std::string AboutSeconds(double seconds);

}  // namespace q4
