#include "libconvert/convert/feedback_cost.h"

#include <set>
#include <string_view>

#include "fmt/format.h"
#include "libconvert/convert/memory_needs.h"

namespace q4 {
namespace {

// Products a second of one core (bench/feedback_bench.cc): the factor's in fp64, and the codes' in fp32. AVX3 as
// measured on an EPYC at rest; the others by what they made of AVX3 in one run on a busy one: AVX2 0.73 and 0.64, SSE4
// 0.41 and 0.28.
struct Pace {
  std::string_view kernels;  // the beginning of their name
  double factor, codes;
};
constexpr Pace kPaces[] = {{"AVX3", 13e9, 40e9}, {"AVX2", 9.5e9, 26e9}, {"", 5.3e9, 11e9}};

}  // namespace

double FeedbackCost::CoreSeconds(const KernelTable& kernels) const {
  const Pace* pace = kPaces;
  while (!std::string_view(kernels.name).starts_with(pace->kernels)) ++pace;
  return factor / pace->factor + codes / pace->codes;
}

FeedbackCost FeedbackCostOf(const Checkpoint& checkpoint, const ConversionPlan& plan) {
  FeedbackCost cost;
  std::set<const InputStatistics*> inputs;
  for (const FeedbackUse& use : FeedbackUses(checkpoint, plan)) {
    const auto columns = static_cast<double>(use.input->columns);
    ++cost.tensors;
    // Half a square for each row with the factor, one in each of two descents, half of one for each of two errors.
    cost.codes += 3.5 * static_cast<double>(use.tensor->elems) * columns;
    if (inputs.insert(use.input).second) {
      cost.factor += static_cast<double>(use.input->matrices) * columns * columns * columns / 6;
    }
  }
  return cost;
}

std::string AboutSeconds(double seconds) {
  if (seconds < 90) return fmt::format("{:.0f} s", seconds);
  if (seconds < 90 * 60) return fmt::format("{:.0f} min", seconds / 60);
  if (seconds < 36 * 3600) return fmt::format("{:.1f} h", seconds / 3600);
  return fmt::format("{:.1f} days", seconds / 86400);
}

}  // namespace q4
