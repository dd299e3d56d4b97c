// Error statistics of one block (docs/numerics.md Q8), one function per statistic. The scalar kernel calls all of them
// for each block; the SIMD kernels call those that rarely matter only for the blocks in which they might.
#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/kernels.h"
#include "kernels/numeric.h"

namespace q4 {

struct StatsBlock {
  FloatType type;
  CodeBook book;
  const void* x;              // the slab's elements
  const std::uint8_t* codes;  // the slab's packed codes
  float scale;
  std::uint64_t index;       // of the block
  std::uint64_t begin, end;  // its elements

  float X(std::uint64_t i) const { return LoadElement(type, x, i); }
  std::uint8_t Code(std::uint64_t i) const { return UnpackCode(codes, i); }
  float Y(std::uint64_t i) const { return Decode(book, Code(i), scale); }
  double Error(std::uint64_t i) const { return static_cast<double>(X(i)) - static_cast<double>(Y(i)); }
};

// Q8.7: the sorted distinct code values; interval j lies between values[j] and values[j + 1]. FP4, which has two zeros,
// repeats its last value, so its interval 14 is empty.
struct ValueIntervals {
  double values[16];

  constexpr double HalfGap(int j) const { return (values[j + 1] - values[j]) / 2; }
};

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

GroupSums SumBlock(const StatsBlock& block);                      // Q8.3, Q7.1
void CountCodes(const StatsBlock& block, SlabStats* stats);       // Q8.1: hist
void CountOverflow(const StatsBlock& block, SlabStats* stats);    // Q8.9
void NoteMaxAbsError(const StatsBlock& block, SlabStats* stats);  // Q8.2
void NoteGapRatio(const StatsBlock& block, SlabStats* stats);     // Q8.7: clipped and max_gap_ratio

// Q8.1, Q8.7
inline void CountZeroAndTiny(float scale, bool all_zero, SlabStats* stats) {
  stats->zero_blocks += all_zero;
  stats->tiny_blocks += !all_zero && std::fabs(scale) < kTiny;
}

// Q8.10
inline void NoteWorstBlock(std::uint64_t index, double e2, SlabStats* stats) {
  if (e2 > stats->worst_block_e2) {
    stats->worst_block_e2 = e2;
    stats->worst_block = index;
  }
}

// Q7.3
inline void AddToGroup(const GroupSums& block, GroupSums* group) {
  group->e += block.e;
  group->abs_e += block.abs_e;
  group->e2 += block.e2;
  group->x2 += block.x2;
  group->xy += block.xy;
}

// All of the above.
void AddBlock(const StatsBlock& block, GroupSums* group, SlabStats* stats);

// The last step of every group: sums that infinite or NaN scales made NaN become the same NaN everywhere.
void FinishGroups(GroupSums* groups, std::uint64_t count);

}  // namespace q4
