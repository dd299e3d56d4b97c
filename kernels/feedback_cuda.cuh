// Codes of whole rows on the device (docs/numerics.md Q17.5 to Q17.7): feedback.cc and feedback_scalar.cc, a tile of 32
// rows a thread block, from the first pass to the last. Device code alone; tests compile it for the host as well
// (tests/kernels/emulated_cuda.h).
//
// Sums of a panel: 32 rows x 64 columns, of as many products each as there are columns. A thread has 4 x 4 of them in
// registers, and adds to each one product after the other, by rising column: so rows and columns are what runs side by
// side, and no sum crosses threads. Errors and coefficients come through shared memory, 32 columns at a time, three
// times that under way. Codes of a panel: four threads a row, each with every fourth column's sum; the code of a column
// is found by all four alike, and what it changes is added to the sums of the later ones.
//
// Work: for an element and a column a product and an addition, in fp32 and unfused, that is two instructions of 128
// lanes; shared memory is read 32 bytes for 16 products, as much as it can bring while these are issued. The codes of a
// panel are a chain of 64 steps of some 200 cycles, beside 340,000 cycles for the sums of 11008 columns.
// Memory: errors are read once, coefficients once for each tile, from the second-level cache.
// Same bits: each operation is the definition's, correctly rounded, and each sum in its order.
#pragma once

#ifdef __CUDACC__
#include <cuda_pipeline.h>
#endif

#include <cstdint>

#include "kernels/cuda_tables.cuh"
#include "kernels/feedback_cuda.h"
#include "kernels/numeric.h"

namespace q4::cuda {

inline constexpr std::uint32_t kTileRows = kFeedbackTileRows, kTileColumns = kFeedbackPanel;
inline constexpr std::uint32_t kFeedbackThreads = 128;
inline constexpr std::uint32_t kRowLanes = kFeedbackThreads / kTileRows;  // threads of a row while codes are chosen
inline constexpr std::uint32_t kLaneColumns = kTileColumns / kRowLanes;   // columns of such a thread
inline constexpr std::uint32_t kTermsAtOnce = 32, kStages = 3;
inline constexpr std::uint32_t kSumStride = kTileColumns + 1;
static_assert(kTileRows == 32 && kRowLanes == 4);

// A tile's arrays in scratch memory, [column][kTileRows].
struct TileArrays {
  float *x, *scales, *errors;
  std::uint8_t* codes;
  __host__ __device__ static constexpr std::uint64_t Bytes(std::uint64_t columns) {
    return (columns * kTileRows * (3 * sizeof(float) + 1) + 255) / 256 * 256;
  }
  __device__ TileArrays(void* scratch, std::uint64_t tile, std::uint64_t columns) {
    x = reinterpret_cast<float*>(static_cast<unsigned char*>(scratch) + tile * Bytes(columns));
    scales = x + columns * kTileRows;
    errors = scales + columns * kTileRows;
    codes = reinterpret_cast<std::uint8_t*>(errors + columns * kTileRows);
  }
};

// What a thread block has in shared memory.
struct FeedbackShared {
  // Terms of sums that are under way; after them, a panel.
  union {
    struct {
      float errors[kStages][kTermsAtOnce][kTileRows];
      float coefficients[kStages][kTermsAtOnce][kTileColumns];
    } terms;
    struct {
      float x[kTileColumns][kTileRows], scales[kTileColumns][kTileRows], reciprocals[kTileColumns][kTileRows];
      float errors[kTileColumns][kTileRows];
      float matrix[kTileColumns][kTileColumns];
    } panel;
  };
  float sums[kTileRows * kSumStride];
  float values[16];        // of codes, by count of bounds below (Q2.3)
  std::uint8_t codes[16];  // the same
  double row_errors[kTileRows];
  std::uint32_t largest, is_done, better;  // of the old errors; whether they are known to be enough; a bit a row
};

// What stands at a place of the count of bounds below t.
struct CountedCodes {
  float bounds[15], values[16];
  std::uint8_t codes[16];
};
constexpr CountedCodes CountedCodesOf(CodeBook book) {
  const CodeBookTables& tables = TablesOf(book);
  CountedCodes result{};
  for (std::size_t k = 0; k < 15; ++k) result.bounds[k] = tables.bounds[k];
  for (std::size_t k = 0; k < 16; ++k) {
    result.values[k] = tables.values[tables.order[k]];
    result.codes[k] = tables.order[k];
  }
  return result;
}
static __constant__ constexpr TablePerBook<CountedCodes> kCountedCodes = ForEachBook(CountedCodesOf);

// ---- Packed codes, of which two tiles may share a byte

__device__ inline std::uint32_t StoredCode(const FeedbackMatrix& matrix, std::uint64_t elem) {
  const std::uint8_t byte = *static_cast<const volatile std::uint8_t*>(matrix.codes + elem / 2);
  return elem % 2 == 0 ? byte >> 4 : byte & 0x0F;
}

// A word at a time, since that is what the device can change as one. Memory is little-endian.
__device__ inline void StoreCode(const FeedbackMatrix& matrix, std::uint64_t elem, std::uint32_t code) {
  const std::uint32_t change = StoredCode(matrix, elem) ^ code;
  if (change == 0) return;
  const auto place = static_cast<std::uint32_t>(elem % 8);  // two to a byte, the even one in its upper half
  atomicXor(reinterpret_cast<unsigned int*>(matrix.codes) + elem / 8,
            change << (place / 2 * 8 + (place % 2 == 0 ? 4 : 0)));
}

// ---- Sums

// Has the errors and coefficients of `count` columns fetched, kTermsAtOnce of them or fewer. Inlined with a constant,
// its loops have no tests.
__device__ __forceinline__ void FetchTerms(FeedbackShared& shared, std::uint32_t stage, const float* errors,
                                           const float* coefficients, std::uint32_t count) {
  constexpr std::uint32_t kVector = 4;
  float* const to_errors = &shared.terms.errors[stage][0][0];
  float* const to_coefficients = &shared.terms.coefficients[stage][0][0];
  for (std::uint32_t at = threadIdx.x; at < count * (kTileRows / kVector); at += kFeedbackThreads) {
    __pipeline_memcpy_async(to_errors + at * kVector, errors + at * kVector, kVector * sizeof(float));
  }
  for (std::uint32_t at = threadIdx.x; at < count * (kTileColumns / kVector); at += kFeedbackThreads) {
    __pipeline_memcpy_async(to_coefficients + at * kVector, coefficients + at * kVector, kVector * sizeof(float));
  }
}

__device__ inline void AddTerm(const FeedbackShared& shared, std::uint32_t stage, std::uint32_t term, std::uint32_t row,
                               std::uint32_t column, float (&sums)[4][4]) {
  const float4 a = *reinterpret_cast<const float4*>(&shared.terms.errors[stage][term][row]);
  const float4 b = *reinterpret_cast<const float4*>(&shared.terms.coefficients[stage][term][column]);
  const float left[4] = {a.x, a.y, a.z, a.w}, right[4] = {b.x, b.y, b.z, b.w};
#pragma unroll
  for (std::uint32_t r = 0; r < 4; ++r) {
#pragma unroll
    for (std::uint32_t c = 0; c < 4; ++c) sums[r][c] = __fadd_rn(sums[r][c], __fmul_rn(left[r], right[c]));
  }
}

// shared.sums: those of a panel with its first `terms` coefficients, each from 0 on. By all threads, after a barrier; a
// barrier must follow before they are read.
__device__ inline void SumsOfPanel(FeedbackShared& shared, const float* errors, const float* coefficients,
                                   std::uint64_t terms) {
  const std::uint32_t row = threadIdx.x % 8 * 4, column = threadIdx.x / 8 * 4;
  const std::uint64_t steps = terms / kTermsAtOnce + (terms % kTermsAtOnce != 0);
  const auto fetch = [&](std::uint64_t step) {
    if (step < steps) {
      const std::uint64_t first = step * kTermsAtOnce, left = terms - first;
      const auto stage = static_cast<std::uint32_t>(step % kStages);
      const float* const from = errors + first * kTileRows;
      const float* const factors = coefficients + first * kTileColumns;
      if (left >= kTermsAtOnce) {
        FetchTerms(shared, stage, from, factors, kTermsAtOnce);
      } else {
        FetchTerms(shared, stage, from, factors, static_cast<std::uint32_t>(left));
      }
    }
    __pipeline_commit();  // also of nothing, so that as many are under way
  };
  float sums[4][4] = {};
  for (std::uint32_t step = 0; step + 1 < kStages; ++step) fetch(step);
  std::uint32_t stage = 0;
  for (std::uint64_t step = 0; step < steps; ++step) {
    __pipeline_wait_prior(kStages - 2);
    __syncthreads();  // all have fetched this step, and are done with the one before it
    fetch(step + kStages - 1);
    const std::uint64_t left = terms - step * kTermsAtOnce;
    if (left >= kTermsAtOnce) {
#pragma unroll 16
      for (std::uint32_t term = 0; term < kTermsAtOnce; ++term) AddTerm(shared, stage, term, row, column, sums);
    } else {
      for (std::uint32_t term = 0; term < left; ++term) AddTerm(shared, stage, term, row, column, sums);
    }
    stage = stage + 1 == kStages ? 0 : stage + 1;
  }
  __pipeline_wait_prior(0);
#pragma unroll
  for (std::uint32_t r = 0; r < 4; ++r) {
#pragma unroll
    for (std::uint32_t c = 0; c < 4; ++c) shared.sums[(row + r) * kSumStride + column + c] = sums[r][c];
  }
}

// ---- A pass (Q17.5, Q17.6)

struct Columns {
  std::uint64_t begin;
  std::uint32_t count;
};
__device__ inline Columns ColumnsOf(std::uint64_t columns, std::uint64_t panel) {
  const std::uint64_t begin = panel * kTileColumns, left = columns - begin;
  return {begin, left < kTileColumns ? static_cast<std::uint32_t>(left) : kTileColumns};
}

// The codes of a panel, whose sums are there. `coefficients`: its rows of the panel. By all threads, after a barrier.
__device__ inline void CodePanel(FeedbackShared& shared, const CountedCodes& table, const TileArrays& tile,
                                 Columns panel, const float* coefficients) {
  const std::uint64_t first = panel.begin * kTileRows;
  const std::uint32_t size = panel.count * kTileRows;
  for (std::uint32_t at = threadIdx.x; at < size; at += kFeedbackThreads) {
    const float scale = tile.scales[first + at];
    (&shared.panel.x[0][0])[at] = tile.x[first + at];
    (&shared.panel.scales[0][0])[at] = scale;
    (&shared.panel.reciprocals[0][0])[at] = __frcp_rn(SignedDivisor(scale));
    (&shared.panel.errors[0][0])[at] = tile.errors[first + at];
  }
  for (std::uint32_t at = threadIdx.x; at < panel.count * kTileColumns; at += kFeedbackThreads) {
    (&shared.panel.matrix[0][0])[at] = coefficients[at];
  }
  __syncthreads();

  const std::uint32_t row = threadIdx.x / kRowLanes, lane = threadIdx.x % kRowLanes;
  const std::uint32_t first_lane = threadIdx.x % 32 - lane;  // of the row, in its warp
  float sums[kLaneColumns];
#pragma unroll
  for (std::uint32_t s = 0; s < kLaneColumns; ++s) sums[s] = shared.sums[row * kSumStride + s * kRowLanes + lane];
#pragma unroll
  for (std::uint32_t s = 0; s < kLaneColumns; ++s) {
#pragma unroll 1
    for (std::uint32_t l = 0; l < kRowLanes; ++l) {
      const std::uint32_t c = s * kRowLanes + l;
      if (c >= panel.count) break;  // for all threads
      const float sum = __shfl_sync(0xFFFFFFFF, sums[s], static_cast<int>(first_lane + l));
      const float x = shared.panel.x[c][row], scale = shared.panel.scales[c][row];
      float target = __fadd_rn(x, sum);
      // Q17.6: nothing is made up for where a code has nothing to say, nor after an overflow.
      if (!IsFinite(target) || MagnitudeBits(scale) <= BitsOf(kTiny)) target = x;
      const float t = __fmul_rn(target, shared.panel.reciprocals[c][row]);
      std::uint32_t count = 0;
#pragma unroll
      for (std::uint32_t k = 0; k < 15; ++k) count += t > table.bounds[k];
      const float error = __fsub_rn(x, __fmul_rn(shared.values[count], scale));
      const float change = __fsub_rn(error, shared.panel.errors[c][row]);
      if (lane > l) sums[s] = __fadd_rn(sums[s], __fmul_rn(change, shared.panel.matrix[c][s * kRowLanes + lane]));
#pragma unroll
      for (std::uint32_t later = s + 1; later < kLaneColumns; ++later) {
        sums[later] = __fadd_rn(sums[later], __fmul_rn(change, shared.panel.matrix[c][later * kRowLanes + lane]));
      }
      if (lane == l) {
        tile.errors[first + c * kTileRows + row] = error;
        tile.codes[first + c * kTileRows + row] = shared.codes[count];
      }
    }
  }
  __syncthreads();  // errors are written, and shared memory is free again
}

__device__ inline void CodePass(FeedbackShared& shared, const CountedCodes& table, const FeedbackCodesArgs& args,
                                const TileArrays& tile, bool descend) {
  const std::uint64_t n = args.matrix.columns;
  for (std::uint64_t p = 0; p < FeedbackPanels(n); ++p) {
    const Columns panel = ColumnsOf(n, p);
    const float* const coefficients =
        descend ? args.couplings + p * n * kTileColumns : args.factor + FeedbackFactor::FactorAt(p);
    // With the factor, columns from this panel on have neither errors nor coefficients.
    SumsOfPanel(shared, tile.errors, coefficients, descend ? n : panel.begin);
    __syncthreads();
    CodePanel(shared, table, tile, panel, coefficients + panel.begin * kTileColumns);
  }
}

// ---- Errors of rows (Q17.7)

// shared.row_errors: each row's error in the damped Hessian. With `enough`, the errors of the rows that were found
// before, only as far as it takes to know that all are greater than those: what is added is never negative. Where a sum
// might overflow, and the error become a NaN in the end, it is made whole. By all threads, after a barrier.
__device__ inline void RowErrors(FeedbackShared& shared, const FeedbackCodesArgs& args, const float* errors,
                                 const double* enough, std::uint32_t rows, bool is_safe) {
  const std::uint64_t n = args.matrix.columns;
  double total = 0;  // of row threadIdx.x, in the first warp
  if (threadIdx.x == 0) shared.is_done = 0;
  for (std::uint64_t p = 0; p < FeedbackPanels(n); ++p) {
    const Columns panel = ColumnsOf(n, p);
    SumsOfPanel(shared, errors, args.factor + FeedbackFactor::FactorAt(p), panel.begin + panel.count);
    __syncthreads();
    if (threadIdx.x < kTileRows) {
      const std::uint32_t row = threadIdx.x;
#pragma unroll 8
      for (std::uint32_t c = 0; c < panel.count; ++c) {
        const float sum = __fadd_rn(errors[(panel.begin + c) * kTileRows + row], shared.sums[row * kSumStride + c]);
        const double wide = static_cast<double>(sum);
        total = __dadd_rn(total, __dmul_rn(__dmul_rn(wide, wide), args.pivots[panel.begin + c]));
      }
      if (enough != nullptr) {
        const std::uint32_t short_of = __ballot_sync(0xFFFFFFFF, row < rows && !(enough[row] < total));
        if (row == 0) shared.is_done = is_safe && short_of == 0;
      }
    }
    __syncthreads();
    if (shared.is_done != 0) break;  // for all threads
  }
  __syncthreads();  // all have looked
  if (threadIdx.x < kTileRows) shared.row_errors[threadIdx.x] = total;
  __syncthreads();
}

// ---- A tile

// Rows past the last one are zeros with the scale 0: their codes go nowhere.
__device__ inline void LoadTile(const FeedbackCodesArgs& args, const TileArrays& tile, std::uint64_t first_row,
                                std::uint32_t rows, std::uint32_t block_shift) {
  const FeedbackMatrix& matrix = args.matrix;
  const std::uint32_t row = threadIdx.x % kTileRows;
#pragma unroll 4
  for (std::uint64_t k = threadIdx.x / kTileRows; k < matrix.columns; k += kFeedbackThreads / kTileRows) {
    float x = 0, scale = 0;
    if (row < rows) {
      const std::uint64_t elem = matrix.ElementAt(first_row + row, args.order[k]);
      x = LoadElement(matrix.type, matrix.x, elem);
      scale = matrix.scales[elem >> block_shift];
    }
    tile.x[k * kTileRows + row] = x;
    tile.scales[k * kTileRows + row] = scale;
    tile.errors[k * kTileRows + row] = 0;
  }
}

// The errors under the old codes take the place of the elements. shared.largest: of their magnitudes, as bits.
__device__ inline void LoadOldErrors(FeedbackShared& shared, const FeedbackCodesArgs& args, const TileArrays& tile,
                                     std::uint64_t first_row, std::uint32_t rows) {
  const FeedbackMatrix& matrix = args.matrix;
  const std::uint32_t row = threadIdx.x % kTileRows;
  std::uint32_t largest = 0;
#pragma unroll 4
  for (std::uint64_t k = threadIdx.x / kTileRows; k < matrix.columns; k += kFeedbackThreads / kTileRows) {
    if (row >= rows) continue;  // x is 0 there, as its error is
    const std::uint32_t code = StoredCode(matrix, matrix.ElementAt(first_row + row, args.order[k]));
    float& x = tile.x[k * kTileRows + row];
    x = __fsub_rn(x, __fmul_rn(CodeValueOf(matrix.book, code), tile.scales[k * kTileRows + row]));
    largest = MagnitudeBits(x) > largest ? MagnitudeBits(x) : largest;
  }
  if (threadIdx.x == 0) shared.largest = 0;
  __syncthreads();
  atomicMax(&shared.largest, largest);
  __syncthreads();
}

// Tile args.first_tile + blockIdx.x.
__device__ inline void CodeTile(const FeedbackCodesArgs& args, std::uint32_t block_shift, FeedbackShared& shared) {
  const FeedbackMatrix& matrix = args.matrix;
  const std::uint64_t n = matrix.columns, first_row = (args.first_tile + blockIdx.x) * kTileRows;
  const std::uint64_t left = matrix.rows - first_row;
  const std::uint32_t rows = left < kTileRows ? static_cast<std::uint32_t>(left) : kTileRows;
  const TileArrays tile(args.scratch, blockIdx.x, n);
  const CountedCodes& table = kCountedCodes.of[BookIndex(matrix.book)];
  if (threadIdx.x < 16) {
    shared.values[threadIdx.x] = table.values[threadIdx.x];
    shared.codes[threadIdx.x] = table.codes[threadIdx.x];
  }
  LoadTile(args, tile, first_row, rows, block_shift);
  __syncthreads();

  CodePass(shared, table, args, tile, false);
  for (int pass = 0; pass < args.passes; ++pass) CodePass(shared, table, args, tile, true);

  RowErrors(shared, args, tile.errors, nullptr, rows, false);
  double row_error = 0;
  if (threadIdx.x < kTileRows) row_error = shared.row_errors[threadIdx.x];
  LoadOldErrors(shared, args, tile, first_row, rows);
  constexpr double kFarFromOverflow = 1e37;
  const bool is_safe = static_cast<double>(FloatOf(shared.largest)) *
                           (1 + static_cast<double>(n) * static_cast<double>(FloatOf(*args.largest))) <
                       kFarFromOverflow;
  // Each thread of the first warp compares its own row with what it has found: row_errors is not written before that.
  RowErrors(shared, args, tile.x, shared.row_errors, rows, is_safe);
  if (threadIdx.x < kTileRows) {
    // Of a NaN, after an overflow, nothing is better.
    const bool is_better = threadIdx.x < rows && row_error < shared.row_errors[threadIdx.x];
    const std::uint32_t better = __ballot_sync(0xFFFFFFFF, is_better);
    if (threadIdx.x == 0) {
      shared.better = better;
      const auto kept = rows - static_cast<std::uint32_t>(__popc(better));
      if (kept != 0) atomicAdd(args.kept, kept);
    }
  }
  __syncthreads();
  const std::uint32_t row = threadIdx.x % kTileRows;
  if ((shared.better >> row & 1) == 0) return;
  for (std::uint64_t k = threadIdx.x / kTileRows; k < n; k += kFeedbackThreads / kTileRows) {
    StoreCode(matrix, matrix.ElementAt(first_row + row, args.order[k]), tile.codes[k * kTileRows + row]);
  }
}

}  // namespace q4::cuda
