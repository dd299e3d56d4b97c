// The reference error statistics (docs/numerics.md Q8), one loop per statistic and block so that each can be read
// beside its definition; AddBlock at the end puts them together.
// A comparison with NaN is false, so a NaN, which only an infinite or NaN scale produces, is never a maximum.
// Comparisons are strict, so that the smallest index wins among equals (Q7.4).
#include <algorithm>
#include <cmath>
#include <cstdint>

#include "kernels/error_stats_block.h"
#include "kernels/scalar_kernels.h"

namespace q4 {
namespace {

// -0 counts as zero. The scale does not tell: a nested scale may decode to 0 where elements are not (Q5.11).
bool AllZero(const StatsBlock& block) {
  for (std::uint64_t i = block.begin; i < block.end; ++i) {
    if (MagnitudeBits(block.X(i)) != 0) return false;
  }
  return true;
}

}  // namespace

GroupSums SumBlock(const StatsBlock& block) {
  // Q7.1. Elements past the end of a tail block are skipped, not added as zeros.
  double e_lanes[16] = {}, abs_lanes[16] = {}, e2_lanes[16] = {}, x2_lanes[16] = {}, xy_lanes[16] = {};
  for (std::uint64_t i = block.begin; i < block.end; ++i) {
    // Widening is exact; the subtraction, each product and each addition rounds once, in fp64.
    const double x = static_cast<double>(block.X(i));
    const double y = static_cast<double>(block.Y(i));
    const double e = x - y;
    const std::uint64_t lane = (i - block.begin) % 16;
    e_lanes[lane] += e;
    abs_lanes[lane] += std::fabs(e);
    e2_lanes[lane] += e * e;
    x2_lanes[lane] += x * x;
    xy_lanes[lane] += x * y;
  }
  return {FoldLanes(e_lanes), FoldLanes(abs_lanes), FoldLanes(e2_lanes), FoldLanes(x2_lanes), FoldLanes(xy_lanes)};
}

void CountCodes(const StatsBlock& block, SlabStats* stats) {
  for (std::uint64_t i = block.begin; i < block.end; ++i) ++stats->hist[block.Code(i)];
}

void CountOverflow(const StatsBlock& block, SlabStats* stats) {
  for (std::uint64_t i = block.begin; i < block.end; ++i)
    // A NaN output is not counted: it is no overflow.
    stats->overflow += IsInfinite(RoundTo(block.type, block.Y(i)));
}

void NoteMaxAbsError(const StatsBlock& block, SlabStats* stats) {
  for (std::uint64_t i = block.begin; i < block.end; ++i) {
    const double error = std::fabs(block.Error(i));
    if (error > stats->max_abs_err) {
      stats->max_abs_err = error;
      stats->max_abs_err_index = i;
    }
  }
}

void NoteGapRatio(const StatsBlock& block, SlabStats* stats) {
  static constexpr TablePerBook<ValueIntervals> kIntervals = ForEachBook(IntervalsOf);
  const ValueIntervals& intervals = kIntervals.of[static_cast<std::size_t>(block.book)];
  // Written so that a NaN scale leaves as well.
  if (!(std::fabs(block.scale) >= kTiny)) return;
  const double scale = static_cast<double>(block.scale);
  for (std::uint64_t i = block.begin; i < block.end; ++i) {
    // A negative scale mirrors the values; u is then measured on the same axis, so intervals need no case of their own.
    const double u = static_cast<double>(block.X(i)) / scale;
    if (u < intervals.values[0] || u > intervals.values[15]) {
      ++stats->clipped;
      continue;
    }
    int j = 0;  // the smallest interval that holds u: as many inner values are strictly below it
    for (int k = 1; k < 15; ++k) j += u > intervals.values[k];
    const double ratio = std::fabs(block.Error(i)) / (intervals.HalfGap(j) * std::fabs(scale));
    stats->max_gap_ratio = ratio > stats->max_gap_ratio ? ratio : stats->max_gap_ratio;
  }
}

// The statistics are independent of one another; the sums are needed for the worst block too.
void AddBlock(const StatsBlock& block, GroupSums* group, SlabStats* stats) {
  const GroupSums sums = SumBlock(block);
  AddToGroup(sums, group);
  CountCodes(block, stats);
  CountOverflow(block, stats);
  CountZeroAndTiny(block.scale, AllZero(block), stats);
  NoteMaxAbsError(block, stats);
  NoteGapRatio(block, stats);
  NoteWorstBlock(block.index, sums.e2, stats);
}

void FinishGroups(GroupSums* groups, std::uint64_t count) {
  for (GroupSums* group = groups; group != groups + count; ++group) {
    *group = {CanonicalNan(group->e), CanonicalNan(group->abs_e), CanonicalNan(group->e2), CanonicalNan(group->x2),
              CanonicalNan(group->xy)};
  }
}

namespace scalar {

void ErrorStats(FloatType type, CodeBook book, const void* x, const std::uint8_t* codes, const float* scales,
                std::uint64_t n, std::uint32_t block_size, GroupSums* groups, SlabStats* stats) {
  *stats = SlabStats{};
  stats->count = n;
  for (std::uint64_t k = 0; k < BlockCount(n, block_size); ++k) {
    GroupSums* group = &groups[k / kScaleGroup];
    // A slab begins at a multiple of 256 blocks, so its groups are whole groups of the tensor (Q7.5).
    if (k % kScaleGroup == 0) *group = GroupSums{};
    const std::uint64_t begin = k * block_size;
    const std::uint64_t end = std::min(begin + block_size, n);
    AddBlock({type, book, x, codes, scales[k], k, begin, end}, group, stats);
  }
  FinishGroups(groups, GroupCount(BlockCount(n, block_size)));
}

}  // namespace scalar
}  // namespace q4
