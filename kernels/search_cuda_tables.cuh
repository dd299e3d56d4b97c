// What the device code of the encoder mse looks up (docs/numerics.md Q9): the values of the codes that t and -t select.
//
// A candidate scale and the same with a minus sign (Q9.4) share their work: one look-up of t = fl(u * f) gives the
// value of the code of t and that of the code of -t. As t grows, the first climbs at the bounds of Q2.3 and the second
// falls at their mirror images, so the line falls into pieces, the *states*, on which both are constant.
//
// The state is found as in cuda_tables.cuh: the line is cut into cells of width 1/128, one addition finds the cell, and
// no cell holds two of the *thresholds* between states inside, so that one comparison settles it. A threshold x is
// passed by every t > x. The image of bound b is passed by every -t <= b, hence by every t >= -b: its threshold is the
// float below -b.
//
// Cells are found by rounding to nearest where t and -t are wanted: then the borders lie between NF4's bound 0.0398 and
// the image 0.0455 of another. Where the code of t is all that is wanted, cells are found by rounding up, which puts
// FP4's smallest bounds of either sign into different ones. (Which code a zero has does not matter here: code 0 and
// code 8 of FP4 have values that are equal, and add the same to every sum.)
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <limits>

#include "kernels/codebook.h"
#include "kernels/cuda_tables.cuh"
#include "kernels/numeric.h"

namespace q4::cuda {

// Between 2^16 and 2^17 an ulp is 1/128.
inline constexpr float kTrialMagic = 0x1.8p+16f;
inline constexpr int kTrialCellsPerUnit = 128;
// Candidates' factors are at most 1.283, elements over the largest magnitude at most 1 and a few ulps: |t| stays below
// 1.289. Other t are brought to +-kTrialLimit before, beyond which no bound lies.
inline constexpr float kTrialLimit = 1.28125f;
inline constexpr int kLastTrialCell = 165, kFirstTrialCell = -kLastTrialCell;
inline constexpr int kTrialCells = kLastTrialCell - kFirstTrialCell + 1;
inline constexpr int kMostStates = 31;

struct TrialState {
  float value, mirrored;  // of the code of t, of the code of -t
};
struct TrialCell {
  float threshold;      // inside the cell, or +infinity
  std::uint32_t state;  // of t at or below it; the next one is that of t above it
};
struct TrialTable {
  TrialCell cells[kTrialCells];
  TrialState states[kMostStates];
  int used_states;
  bool is_exact;  // no cell holds two thresholds
};

// The largest float below v. REQUIRES: v is finite and not 0.
constexpr float FloatBelow(float v) {
  const auto bits = std::bit_cast<std::uint32_t>(v);
  return std::bit_cast<float>(v > 0 ? bits - 1 : bits + 1);
}

// Whether a book's candidates come with either sign, so that both values are wanted (Q9.4).
constexpr bool TriesBothSigns(CodeBook book) { return !CodesCarrySign(book); }

constexpr TrialTable TrialTableOf(CodeBook book) {
  const CodeBookTables& tables = TablesOf(book);
  const bool both = TriesBothSigns(book);
  TrialTable result{};
  // Both lists of thresholds ascend; they are merged.
  int passed = 0, fallen = 0, states = 0;
  float thresholds[kMostStates] = {};
  const auto value_of = [&](int count) { return tables.values[tables.order[static_cast<std::size_t>(count)]]; };
  const auto image = [&](int k) { return FloatBelow(-tables.bounds[static_cast<std::size_t>(14 - k)]); };
  for (;;) {
    result.states[states] = {value_of(passed), both ? value_of(15 - fallen) : 0.0f};
    const bool bound_left = passed < 15, image_left = both && fallen < 15;
    if (!bound_left && !image_left) break;
    const bool take_bound =
        bound_left && (!image_left || tables.bounds[static_cast<std::size_t>(passed)] < image(fallen));
    thresholds[states++] = take_bound ? tables.bounds[static_cast<std::size_t>(passed)] : image(fallen);
    take_bound ? ++passed : ++fallen;
  }
  result.used_states = states + 1;
  result.is_exact = true;
  for (int c = kFirstTrialCell; c <= kLastTrialCell; ++c) {
    // [below, above] where the nearest integer tells the cell, else (below, above].
    const double below = (both ? c - 0.5 : c - 1.0) / kTrialCellsPerUnit;
    const double above = (both ? c + 0.5 : c) / kTrialCellsPerUnit;
    int base = 0, inside = 0;
    for (int k = 0; k < states; ++k) {
      const auto threshold = static_cast<double>(thresholds[k]);
      const bool all_pass = both ? threshold < below : threshold <= below;
      base += all_pass;
      inside += !all_pass && threshold < above;
    }
    if (inside > 1) result.is_exact = false;
    result.cells[c - kFirstTrialCell] = {inside > 0 ? thresholds[base] : std::numeric_limits<float>::infinity(),
                                         static_cast<std::uint32_t>(base)};
  }
  return result;
}

// By BookIndex. Global memory: threads copy it side by side.
static __device__ const TablePerBook<TrialTable> kTrialTables = ForEachBook(TrialTableOf);

// The proofs: one comparison is enough in every cell, and no t leaves the table.
constexpr bool TrialTablesAreExact() {
  for (std::size_t book = 0; book < kCodeBookCount; ++book) {
    if (!TrialTableOf(static_cast<CodeBook>(book)).is_exact) return false;
    for (const float bound : kCodeBooks[book].bounds) {
      if (bound >= kTrialLimit || -bound >= kTrialLimit) return false;
    }
    for (const float f : kCodeBooks[book].trials) {
      if (f * (1 + 0x1p-18f) * kTrialCellsPerUnit > kLastTrialCell) return false;
    }
    for (const float f : kCodeBooks[book].few_trials) {
      if (f * (1 + 0x1p-18f) * kTrialCellsPerUnit > kLastTrialCell) return false;
    }
  }
  return kTrialLimit * kTrialCellsPerUnit < kLastTrialCell;
}
static_assert(TrialTablesAreExact());

// Shared memory by its own 32-bit addresses: a pointer would cost 64-bit arithmetic for every element.
__device__ inline std::uint32_t SharedAddress(const void* p) {
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(p));
}
__device__ inline TrialCell LoadTrialCell(std::uint32_t address) {
  TrialCell cell;
  asm("ld.shared.v2.b32 {%0, %1}, [%2];" : "=f"(cell.threshold), "=r"(cell.state) : "r"(address));
  return cell;
}
__device__ inline TrialState LoadTrialState(std::uint32_t address) {
  TrialState state;
  asm("ld.shared.v2.b32 {%0, %1}, [%2];" : "=f"(state.value), "=f"(state.mirrored) : "r"(address));
  return state;
}

// The table in shared memory, once for each of 16 lanes: 64-bit accesses are served 16 lanes at a time, and lane l
// reads column l % 16, so that no two of them meet in a bank. A cell names its state by address. 46,336 bytes.
struct SharedTrials {
  static constexpr int kColumns = 16;
  static constexpr std::uint32_t kRowBytes = kColumns * 8;

  TrialCell cells[kTrialCells][kColumns];
  TrialState states[kMostStates][kColumns];

  // By all threads of the thread block; a barrier must follow.
  __device__ void Fill(CodeBook book) {
    const TrialTable& table = kTrialTables.of[BookIndex(book)];
    for (int i = static_cast<int>(threadIdx.x); i < kTrialCells * kColumns; i += static_cast<int>(blockDim.x)) {
      const int column = i % kColumns;
      const TrialCell cell = table.cells[i / kColumns];
      cells[i / kColumns][column] = {cell.threshold, SharedAddress(&states[cell.state][column])};
    }
    for (int i = static_cast<int>(threadIdx.x); i < kMostStates * kColumns; i += static_cast<int>(blockDim.x)) {
      states[i / kColumns][i % kColumns] = table.states[i / kColumns];
    }
  }

  // One lane's column. `kBothSigns`: of a book whose candidates have either sign.
  template <bool kBothSigns>
  class Column {
   public:
    __device__ Column(const SharedTrials& trials, std::uint32_t lane)
        : origin_(SharedAddress(&trials.cells[-kFirstTrialCell][lane % kColumns]) - BitsOf(kTrialMagic) * kRowBytes) {}

    // REQUIRES: |t| below 1.289. The cell's number is in the low bits of the sum; both terms of the address wrap.
    __device__ TrialState At(float t) const {
      const float sum = kBothSigns ? __fadd_rn(t, kTrialMagic) : __fadd_ru(t, kTrialMagic);
      const TrialCell cell = LoadTrialCell(BitsOf(sum) * kRowBytes + origin_);
      return LoadTrialState(t > cell.threshold ? cell.state + kRowBytes : cell.state);
    }
    // The value of the code of t, which may be infinite but no NaN (Q9.2).
    __device__ float ValueOf(float t) const { return At(fminf(fmaxf(t, -kTrialLimit), kTrialLimit)).value; }

   private:
    std::uint32_t origin_;  // the shared-memory address for the bits of a sum of 0, modulo 2^32
  };
};

}  // namespace q4::cuda
