// Error statistics of one block (docs/numerics.md Q8), one function per statistic. The scalar kernel calls all of them
// for each block; the SIMD kernels call those that rarely matter only for the blocks in which they might. The CUDA
// kernels share the table of intervals and repeat the rest (error_stats_cuda.cuh).
//
// x is the widened source element, y the decoded one before it is rounded to the output type, e = x - y in fp64.
// Functions that note a maximum keep the first index among equals, provided that blocks come in index order.
#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/kernels.h"
#include "kernels/numeric.h"

namespace q4 {

// A view of one block, or of any range of elements that share a scale. Owns nothing; cheap to copy.
struct StatsBlock {
  // Of x, and of the output that `overflow` is about.
  FloatType type;
  CodeBook book;
  // The slab's arrays and not the block's, so that indices in statistics are the slab's without adding.
  const void* x;              // the slab's elements
  const std::uint8_t* codes;  // the slab's packed codes
  // As decoded: what a reader multiplies with.
  float scale;
  std::uint64_t index;       // of the block, in the slab
  std::uint64_t begin, end;  // its elements [begin, end), counted from the slab's first

  // Of element i of the slab, which need not lie in the block: x (Q1.2), its code (Q3.1), y32 (Q6.1), and e, which is
  // one fp64 subtraction of two exactly widened numbers.
  float X(std::uint64_t i) const { return LoadElement(type, x, i); }
  std::uint8_t Code(std::uint64_t i) const { return UnpackCode(codes, i); }
  float Y(std::uint64_t i) const { return Decode(book, Code(i), scale); }
  double Error(std::uint64_t i) const { return static_cast<double>(X(i)) - static_cast<double>(Y(i)); }
};

// Q8.7: the sorted distinct code values; interval j lies between values[j] and values[j + 1]. FP4, which has two zeros,
// repeats its last value, so its interval 14 is empty. NF4 has 15 intervals, FP4 14.
struct ValueIntervals {
  // Exact: fp32 values widened.
  double values[16];

  // The half step in units of the scale (h of Q8.7); 0 for FP4's empty interval. Exact: an fp64 difference of
  // neighbouring fp32 values.
  constexpr double HalfGap(int j) const { return (values[j + 1] - values[j]) / 2; }
};

// Walks the code book in ascending order of values (Q2.3) and drops the second of FP4's zeros, which compare equal.
constexpr ValueIntervals IntervalsOf(CodeBook book) {
  const CodeBookTables& tables = TablesOf(book);
  ValueIntervals result{};
  int size = 0;
  for (const std::uint8_t code : tables.order) {
    const double v = static_cast<double>(tables.values[code]);
    if (size == 0 || v != result.values[size - 1]) result.values[size++] = v;
  }
  for (; size < 16; ++size) result.values[size] = result.values[size - 1];
  return result;
}

// The five sums of Q8.3 in the 16 lanes and the tree of Q7.1.
GroupSums SumBlock(const StatsBlock& block);
// Q8.1: adds to `hist`.
void CountCodes(const StatsBlock& block, SlabStats* stats);
// Q8.9: adds to `overflow`.
void CountOverflow(const StatsBlock& block, SlabStats* stats);
// Q8.2: raises max_abs_err, with its index.
void NoteMaxAbsError(const StatsBlock& block, SlabStats* stats);
// Q8.7: adds to `clipped` and raises max_gap_ratio. Blocks with |scale| < TINY take no part.
void NoteGapRatio(const StatsBlock& block, SlabStats* stats);

// Q8.1, Q8.7: zero_blocks, or tiny_blocks. `all_zero`: every x of the block is 0 or -0.
inline void CountZeroAndTiny(float scale, bool all_zero, SlabStats* stats) {
  stats->zero_blocks += all_zero;
  stats->tiny_blocks += !all_zero && std::fabs(scale) < kTiny;
}

// Q8.10. `e2` is the block's sum of squared errors. A NaN, which compares false, is no maximum. Call in index order, so
// that the smallest index wins among equals.
inline void NoteWorstBlock(std::uint64_t index, double e2, SlabStats* stats) {
  if (e2 > stats->worst_block_e2) {
    stats->worst_block_e2 = e2;
    stats->worst_block = index;
  }
}

// Q7.3: one more block of the group. Call in index order: the order of additions is part of the definition. Each sum is
// added on its own; no sum depends on another.
inline void AddToGroup(const GroupSums& block, GroupSums* group) {
  group->e += block.e;
  group->abs_e += block.abs_e;
  group->e2 += block.e2;
  group->x2 += block.x2;
  group->xy += block.xy;
}

// All of the above for one block, in the reference's order; `group` is that of the block.
void AddBlock(const StatsBlock& block, GroupSums* group, SlabStats* stats);

// The last step of every group: sums that infinite or NaN scales made NaN become the same NaN everywhere. Call once,
// after the last block of the slab.
void FinishGroups(GroupSums* groups, std::uint64_t count);

}  // namespace q4
