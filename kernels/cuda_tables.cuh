// The tables of kernels/codebook.h in the forms that device code looks them up. All are computed by the compiler from that header
// and sit in constant memory; kernels copy what they use to shared memory, replicated so that no two lanes of an access meet in a bank.
#pragma once

#include <array>
#include <cstdint>

#include "kernels/codebook.h"
#include "kernels/error_stats_block.h"
#include "kernels/numeric.h"

namespace q4::cuda {

constexpr int BookIndex(CodeBook book) { return book == CodeBook::kNf4 ? 0 : 1; }

// ---- Codes by intervals (Q2.3, Q10.4)
//
// The line is cut into cells of width 1/16, cell c being ((c - 1) / 16, c / 16]. No cell holds two decision bounds inside, so within
// a cell one comparison decides: the code is one of two. t lies in cell ceil(16 t), which one addition finds: with u = 2^-11,
//   t + (6144 + 127 u), rounded upward, is 6144 + u (ceil(2048 t) + 127)
// because u is the ulp there, and the bits of that sum above the lowest 7 hold floor((ceil(2048 t) + 127) / 128) = ceil(16 t),
// modulo 64. Rounding upward and not to nearest puts zero and the smallest positive number into different cells, as FP4 needs.
//
// The encoder's t is at most one ulp beyond 1 (Q4.5), so cells -15 to 17 occur. Other t, which only non-finite input makes, fall
// into some cell: the mask keeps every address inside the table.
inline constexpr float kCellMagic = 6144.0f + 127 * 0x1p-11f;
inline constexpr int kCells = 64;
inline constexpr std::uint32_t kCellShift = 7;

struct CodeCell {
  float bound;          // the decision bound inside the cell, or +infinity
  std::uint32_t codes;  // bits 28..31: the code of t <= bound; bits 24..27: that of t > bound
};

struct CodeCells {
  CodeCell cells[kCells];
};

constexpr int CountAtMost(const std::array<float, 15>& bounds, float limit) {
  int count = 0;
  for (const float bound : bounds) count += bound <= limit;
  return count;
}

constexpr CodeCells CellsOf(CodeBook book) {
  const auto& bounds = book == CodeBook::kNf4 ? kNf4Bounds : kFp4Bounds;
  const auto& order = book == CodeBook::kNf4 ? kNf4Order : kFp4Order;
  CodeCells result{};
  for (int c = -kCells / 2; c < kCells / 2; ++c) {
    const float below = static_cast<float>(c - 1) / 16, above = static_cast<float>(c) / 16;
    const int passed = CountAtMost(bounds, below);  // all t of the cell exceed these
    const bool has_bound = passed < 15 && bounds[static_cast<std::size_t>(passed)] < above;
    const std::uint32_t low = order[static_cast<std::size_t>(passed)];
    const std::uint32_t high = has_bound ? order[static_cast<std::size_t>(passed) + 1] : low;
    result.cells[static_cast<std::size_t>((c + kCells) % kCells)] = {
        has_bound ? bounds[static_cast<std::size_t>(passed)] : std::numeric_limits<float>::infinity(), low << 28 | high << 24};
  }
  return result;
}

constexpr bool EveryCellHasOneBoundAtMost(const std::array<float, 15>& bounds) {
  for (int c = -kCells / 2; c < kCells / 2; ++c) {
    int inside = 0;
    for (const float bound : bounds) {
      inside += bound > static_cast<float>(c - 1) / 16 && bound < static_cast<float>(c) / 16;
    }
    if (inside > 1) return false;
  }
  return true;
}
static_assert(EveryCellHasOneBoundAtMost(kNf4Bounds) && EveryCellHasOneBoundAtMost(kFp4Bounds));

static __constant__ constexpr CodeCells kCodeCells[2] = {CellsOf(CodeBook::kNf4), CellsOf(CodeBook::kFp4)};

// The table in shared memory, once for each of 16 lanes: 64-bit accesses are served 16 lanes at a time.
struct alignas(16) SharedCodeCells {
  static constexpr std::uint32_t kColumns = 16;
  CodeCell cells[kCells][kColumns];

  // By all threads of the thread block; a barrier must follow.
  __device__ void Fill(CodeBook book) {
    for (std::uint32_t i = threadIdx.x; i < kCells * kColumns; i += blockDim.x) {
      cells[i / kColumns][i % kColumns] = kCodeCells[BookIndex(book)].cells[i / kColumns];
    }
  }

  // Appends the code of t to `packed`, which moves up by four bits.
  __device__ std::uint32_t Append(std::uint32_t packed, float t, std::uint32_t lane) const {
    constexpr std::uint32_t kRowBytes = kColumns * sizeof(CodeCell);
    static_assert(kRowBytes == 1u << kCellShift);
    const std::uint32_t row = BitsOf(__fadd_ru(t, kCellMagic)) & ((kCells - 1) * kRowBytes);
    const std::uint32_t offset = row | (lane % kColumns) * static_cast<std::uint32_t>(sizeof(CodeCell));
    const CodeCell cell = *reinterpret_cast<const CodeCell*>(reinterpret_cast<const char*>(cells) + offset);
    const std::uint32_t codes = t > cell.bound ? cell.codes << 4 : cell.codes;
    return __funnelshift_l(codes, packed, 4);
  }
};

// ---- Values by code

struct CodeValueTable {
  float values[16];
};

constexpr CodeValueTable ValuesOf(CodeBook book) {
  CodeValueTable table{};
  for (std::size_t code = 0; code < 16; ++code) table.values[code] = (book == CodeBook::kNf4 ? kNf4Values : kFp4Values)[code];
  return table;
}

static __constant__ constexpr CodeValueTable kCodeValues[2] = {ValuesOf(CodeBook::kNf4), ValuesOf(CodeBook::kFp4)};

__device__ inline float CodeValueOf(CodeBook book, std::uint32_t code) { return kCodeValues[BookIndex(book)].values[code]; }

// ---- Nested scales (Q5.6)

struct NestedMapTable {
  float values[256];
};

constexpr NestedMapTable NestedMapOf() {
  NestedMapTable table{};
  for (std::size_t code = 0; code < 256; ++code) table.values[code] = kNestedMap[code];
  return table;
}

static __constant__ constexpr NestedMapTable kDeviceNestedMap = NestedMapOf();

// Q5.5: a multiply and a separate add. `map` is the table above or a copy.
__device__ inline float DecodeNestedScale(const float* map, std::uint32_t code, float absmax2, float offset) {
  return CanonicalNan(__fadd_rn(__fmul_rn(map[code], absmax2), offset));
}

}  // namespace q4::cuda
