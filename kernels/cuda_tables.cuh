// The tables of kernels/codebook.h in the forms that device code looks them up. All are computed by the compiler from
// that header and sit in the device's memory; kernels copy what they use to shared memory, replicated so that no two
// lanes of an access meet in a bank.
//
// Where a table sits follows from how it is read. Constant memory serves one address to a whole warp at a time: right
// for tables that a thread block copies row by row, and for rare paths. Shared memory serves different addresses at
// once: right for a look-up per element. Each is `static`, hence a copy per .cu file: device code is not linked across
// files.
#pragma once

#include <array>
#include <cstdint>

#include "kernels/codebook.h"
#include "kernels/error_stats_block.h"
#include "kernels/numeric.h"

namespace q4::cuda {

// The place of a code book in the tables below, each a TablePerBook. Found by comparisons, which tell the compiler how
// few there are: with the plain number some kernels need more registers.
constexpr int BookIndex(CodeBook book) {
  int index = 0;
  for (int k = 1; k < int{kCodeBookCount}; ++k) index = book == static_cast<CodeBook>(k) ? k : index;
  return index;
}

// ---- Codes by intervals (Q2.3, Q10.4)
//
// The line is cut into cells of width 1/16, cell c being ((c - 1) / 16, c / 16]. No cell holds two decision bounds
// inside, so within a cell one comparison decides: the code is one of two. t lies in cell ceil(16 t), which one
// addition finds: between 2^19 and 2^20 an ulp is 1/16, so t + 1.5 * 2^19, rounded upward, has the bits of 1.5 * 2^19
// plus ceil(16 t). Rounding upward and not to nearest puts zero and the smallest positive number into different cells,
// as FP4 needs.
//
// The encoder's t is at most one ulp beyond 1 (Q4.5), so cells -16 to 17 occur. Other t are the caller's to avoid: they
// would lead outside the table.
inline constexpr float kCellMagic = 0x1.8p+19f;
inline constexpr int kFirstCell = -16, kLastCell = 17, kCells = kLastCell - kFirstCell + 1;

// Example: NF4's t = 0.3 lies in cell 5, (0.25, 0.3125], with bound 10, 0.292, inside: code 10 or 11, and t is above
// it, hence 11.
struct CodeCell {
  float bound;          // the decision bound inside the cell, or +infinity
  std::uint32_t codes;  // bits 28..31: the code of t <= bound; bits 24..27: that of t > bound
};

// Cell c is cells[c - kFirstCell].
struct CodeCells {
  CodeCell cells[kCells];
};

// How many of the ascending bounds are `limit` or less.
constexpr int CountAtMost(const std::array<float, 15>& bounds, float limit) {
  int count = 0;
  for (const float bound : bounds) count += bound <= limit;
  return count;
}

// `passed` bounds lie at or below the cell's lower end, and the end itself is not in the cell: so all t of the cell
// exceed them, which makes the count of Q2.3 at least that many. A bound that equals the upper end is not inside: no t
// of the cell exceeds it. Cells without a bound inside compare with infinity, which no t exceeds.
constexpr CodeCells CellsOf(CodeBook book) {
  const auto& bounds = TablesOf(book).bounds;
  const auto& order = TablesOf(book).order;
  CodeCells result{};
  for (int c = kFirstCell; c <= kLastCell; ++c) {
    const float below = static_cast<float>(c - 1) / 16, above = static_cast<float>(c) / 16;
    const int passed = CountAtMost(bounds, below);  // all t of the cell exceed these
    const bool has_bound = passed < 15 && bounds[static_cast<std::size_t>(passed)] < above;
    const std::uint32_t low = order[static_cast<std::size_t>(passed)];
    const std::uint32_t high = has_bound ? order[static_cast<std::size_t>(passed) + 1] : low;
    result.cells[c - kFirstCell] = {
        has_bound ? bounds[static_cast<std::size_t>(passed)] : std::numeric_limits<float>::infinity(),
        low << 28 | high << 24};
  }
  return result;
}

// The proof that one comparison is enough, for every code book, by looking. A code book without this property does not
// compile: it needs narrower cells.
constexpr bool EveryCellHasOneBoundAtMost() {
  for (const CodeBookTables& book : kCodeBooks) {
    for (int c = kFirstCell; c <= kLastCell; ++c) {
      int inside = 0;
      for (const float bound : book.bounds) {
        inside += bound > static_cast<float>(c - 1) / 16 && bound < static_cast<float>(c) / 16;
      }
      if (inside > 1) return false;
    }
  }
  return true;
}
static_assert(EveryCellHasOneBoundAtMost());

// By BookIndex. Constant memory: SharedCodeCells::Fill is its only reader.
static __constant__ constexpr TablePerBook<CodeCells> kCodeCells = ForEachBook(CellsOf);

// The table in shared memory, once for each of 16 lanes: 64-bit accesses are served 16 lanes at a time. Lane l uses
// column l % 16, so lanes of an access read different banks whatever cells they want. 34 cells, 4,352 bytes.
class SharedCodeCells {
 public:
  // By all threads of the thread block; a barrier must follow.
  __device__ void Fill(CodeBook book) {
    for (int i = static_cast<int>(threadIdx.x); i < kCells * kColumns; i += static_cast<int>(blockDim.x)) {
      cells_[i / kColumns][i % kColumns] = kCodeCells.of[BookIndex(book)].cells[i / kColumns];
    }
  }

  // One lane's column.
  class Column {
   public:
    // Appends the code of t to `packed`, which moves up by four bits. REQUIRES: |t| <= 1 and one ulp. The sum is exact
    // where it matters (see above); its bits, times the size of a row, are an offset, and origin_ makes an address of
    // it. Arithmetic modulo 2^32 is intended: both terms wrap.
    __device__ std::uint32_t Append(std::uint32_t packed, float t) const {
      const std::uint32_t address = BitsOf(__fadd_ru(t, kCellMagic)) * kRowBytes + origin_;
      std::uint32_t bound, codes;
      // By hand, because a pointer would cost a 64-bit address calculation for every element.
      asm("ld.shared.v2.b32 {%0, %1}, [%2];" : "=r"(bound), "=r"(codes) : "r"(address));
      // The code is in the upper four bits of one word or of the other, and the funnel shift moves them in.
      return __funnelshift_l(t > FloatOf(bound) ? codes << 4 : codes, packed, 4);
    }

   private:
    friend class SharedCodeCells;
    std::uint32_t origin_;  // the shared-memory address for the bits of a sum of 0, modulo 2^32
  };

  // The column of a lane (0 to 31), to be kept in a register.
  __device__ Column ColumnOf(std::uint32_t lane) const {
    Column column;
    const auto address = static_cast<std::uint32_t>(__cvta_generic_to_shared(&cells_[-kFirstCell][lane % kColumns]));
    column.origin_ = address - BitsOf(kCellMagic) * kRowBytes;
    return column;
  }

 private:
  static constexpr int kColumns = 16;
  static constexpr std::uint32_t kRowBytes = kColumns * sizeof(CodeCell);
  CodeCell cells_[kCells][kColumns];
};

// ---- Values by code

struct CodeValueTable {
  float values[16];
};

constexpr CodeValueTable ValuesOf(CodeBook book) {
  CodeValueTable table{};
  for (std::size_t code = 0; code < 16; ++code) table.values[code] = TablesOf(book).values[code];
  return table;
}

// By BookIndex; for rare paths, and to fill tables in shared memory.
static __constant__ constexpr TablePerBook<CodeValueTable> kCodeValues = ForEachBook(ValuesOf);

// CodeValue of numeric.h, on the device. `code` is 0 to 15.
__device__ inline float CodeValueOf(CodeBook book, std::uint32_t code) {
  return kCodeValues.of[BookIndex(book)].values[code];
}

// ---- Nested scales (Q5.6)

struct NestedMapTable {
  float values[256];
};

constexpr NestedMapTable NestedMapOf() {
  NestedMapTable table{};
  for (std::size_t code = 0; code < 256; ++code) table.values[code] = kNestedMap[code];
  return table;
}

// In global memory: threads copy it side by side, and constant memory would serve them one by one.
static __device__ const NestedMapTable kDeviceNestedMap = NestedMapOf();

// Q5.5: a multiply and a separate add. `map` is the table above or a copy. DecodeScale of numeric.h, on the device.
__device__ inline float DecodeNestedScale(const float* map, std::uint32_t code, float absmax2, float offset) {
  return CanonicalNan(__fadd_rn(__fmul_rn(map[code], absmax2), offset));
}

}  // namespace q4::cuda
