// The factor of a Hessian on the device (docs/numerics.md Q17.3, Q17.4): feedback.cc, whose layouts these are. The file
// is device code alone; tests compile it for the host as well (tests/kernels/emulated_cuda.h).
//
// The factor in the making, R, stands in the reverse of the order of work, in squares of 64 x 64: Square(work, of,
// panel) has the rows k of panel `of` and the columns i of panel `panel`, R_ik at [k][i]. What an entry is has one
// chain of subtractions, by rising m; whether a step takes it for all entries behind it (as here, panel of rows after
// panel of rows) or fetches all terms for one entry (as on the cores) is the same chain. So each panel is three
// kernels: the square on the diagonal by one thread block, then the squares beside it, then all squares below those.
//
// Work: a sixth of columns^3 products in fp64, nearly all in the last of the three. Memory: that reads and writes every
// square behind it once for each panel, a ninth of columns^3 / 64 * 16 bytes together.
// Same bits: products, differences, quotients and roots one by one, each correctly rounded, in the order of Q17.4.
#pragma once

#include <cstdint>

#include "kernels/feedback_cuda.h"
#include "kernels/numeric.h"

namespace q4::cuda {

inline constexpr std::uint32_t kSide = kFeedbackPanel;
inline constexpr int kFactorThreads = 256;

__device__ inline double* Square(double* work, std::uint64_t of, std::uint64_t panel) {
  return work + FeedbackFactor::FactorAt(panel) + of * kSide * kSide;
}
__device__ inline const double* Square(const double* work, std::uint64_t of, std::uint64_t panel) {
  return work + FeedbackFactor::FactorAt(panel) + of * kSide * kSide;
}

// sum - a * b, each rounded.
__device__ inline double Less(double sum, double a, double b) { return __dsub_rn(sum, __dmul_rn(a, b)); }

inline constexpr std::uint32_t kMirrorSide = 32;

// A thread block a square of 32 x 32 of the half below the diagonal.
__device__ inline void MirrorSquare(std::uint64_t n, float* hessian) {
  __shared__ float square[kMirrorSide][kMirrorSide + 1];
  const std::uint64_t top = std::uint64_t{blockIdx.y} * kMirrorSide, left = std::uint64_t{blockIdx.x} * kMirrorSide;
  if (left > top) return;
  const std::uint32_t x = threadIdx.x % kMirrorSide, step = kFactorThreads / kMirrorSide;
  for (std::uint32_t y = threadIdx.x / kMirrorSide; y < kMirrorSide; y += step) {
    if (left + y < n && top + x < n) square[y][x] = hessian[(left + y) * n + top + x];
  }
  __syncthreads();
  for (std::uint32_t y = threadIdx.x / kMirrorSide; y < kMirrorSide; y += step) {
    const std::uint64_t row = top + y, column = left + x;
    if (row < n && column < row) hessian[row * n + column] = square[x][y];
  }
}

// A thread block a square, as it is before the work: of the damped Hessian. Zeros past the end and before the diagonal.
__device__ inline void LoadSquare(const FeedbackFactorArgs& args) {
  const std::uint64_t n = args.columns, panel = blockIdx.x, of = blockIdx.y;
  if (of > panel) return;
  double* const square = Square(args.work, of, panel);
  const std::uint64_t i = panel * kSide + threadIdx.x % kSide;
  for (std::uint32_t y = threadIdx.x / kSide; y < kSide; y += kFactorThreads / kSide) {
    const std::uint64_t k = of * kSide + y;
    double entry = 0;
    if (i < n && k <= i) {
      entry = static_cast<double>(args.hessian[std::uint64_t{args.order[n - 1 - k]} * n + args.order[n - 1 - i]]);
      if (k == i) entry = __dadd_rn(entry, args.damping);
    }
    square[y * kSide + threadIdx.x % kSide] = entry;
  }
}

// The square on the diagonal, by one thread block.
__device__ inline void FactorDiagonalSquare(const FeedbackFactorArgs& args, std::uint64_t panel, double least) {
  __shared__ double square[kSide][kSide + 1];
  __shared__ bool is_good;
  if (*args.failed != 0) return;
  double* const entries = Square(args.work, panel, panel);
  const std::uint64_t left = args.columns - panel * kSide;
  const std::uint32_t size = left < kSide ? static_cast<std::uint32_t>(left) : kSide;
  const std::uint32_t x = threadIdx.x % kSide, y = threadIdx.x / kSide, step = kFactorThreads / kSide;
  for (std::uint32_t k = y; k < kSide; k += step) square[k][x] = entries[k * kSide + x];
  for (std::uint32_t m = 0; m < size; ++m) {
    __syncthreads();
    if (threadIdx.x == 0) {
      const double pivot = square[m][m];
      is_good = pivot >= least && pivot <= 0x1.fffffffffffffp+1023;
      square[m][m] = __dsqrt_rn(pivot);
    }
    __syncthreads();
    if (!is_good) {
      if (threadIdx.x == 0) *args.failed = 1;
      return;
    }
    const double root = square[m][m];
    if (threadIdx.x > m && threadIdx.x < size) square[m][threadIdx.x] = __ddiv_rn(square[m][threadIdx.x], root);
    __syncthreads();
    if (x > m && x < size) {
      const double right = square[m][x];
      for (std::uint32_t k = m + 1 + y; k <= x; k += step) square[k][x] = Less(square[k][x], right, square[m][k]);
    }
  }
  __syncthreads();
  for (std::uint32_t k = y; k < size; k += step) entries[k * kSide + x] = square[k][x];
}

// Doubles of shared memory that SolveSquare() works in: the square on the diagonal and its own.
inline constexpr std::uint32_t kSolveDoubles = 2 * kSide * kSide;

// A square beside the one on the diagonal: each row less what those above it take away, over the root of its pivot. A
// thread block a square.
__device__ inline void SolveSquare(const FeedbackFactorArgs& args, std::uint64_t panel, double* shared) {
  if (*args.failed != 0) return;
  double* const diagonal = shared;
  double* const own = shared + kSide * kSide;
  double* const entries = Square(args.work, panel, panel + 1 + blockIdx.x);
  const double* const of_diagonal = Square(args.work, panel, panel);
  for (std::uint32_t at = threadIdx.x; at < kSide * kSide; at += kFactorThreads) {
    diagonal[at] = of_diagonal[at];
    own[at] = entries[at];
  }
  const std::uint32_t x = threadIdx.x % kSide, y = threadIdx.x / kSide, step = kFactorThreads / kSide;
  for (std::uint32_t k = 0; k < kSide; ++k) {
    __syncthreads();
    // Not written back here: other threads divide the same entry.
    const double entry = __ddiv_rn(own[k * kSide + x], diagonal[k * kSide + k]);
    if (y == 0) entries[k * kSide + x] = entry;
    for (std::uint32_t later = k + 1 + y; later < kSide; later += step) {
      own[later * kSide + x] = Less(own[later * kSide + x], entry, diagonal[k * kSide + later]);
    }
  }
}

// A square below: less the products of the rows of `panel`. A thread block a square; a thread 4 x 4 entries.
__device__ inline void SubtractSquare(const FeedbackFactorArgs& args, std::uint64_t panel) {
  constexpr std::uint32_t kTerms = 32;  // at once
  __shared__ __align__(16) double left[kTerms][kSide];
  __shared__ __align__(16) double right[kTerms][kSide];
  const std::uint64_t column = panel + 1 + blockIdx.x, row = panel + 1 + blockIdx.y;
  if (row > column || *args.failed != 0) return;
  double* const entries = Square(args.work, row, column);
  const double* const of_columns = Square(args.work, panel, column);
  const double* const of_rows = Square(args.work, panel, row);
  // Columns i0, i0 + 1, i0 + 32, i0 + 33, so that neighbours read side by side; rows k0 to k0 + 3.
  const std::uint32_t i0 = threadIdx.x % 16 * 2, k0 = threadIdx.x / 16 * 4;
  double sums[4][4];
#pragma unroll
  for (std::uint32_t k = 0; k < 4; ++k) {
#pragma unroll
    for (std::uint32_t i = 0; i < 4; ++i) sums[k][i] = entries[(k0 + k) * kSide + i0 + i % 2 + i / 2 * 32];
  }
  for (std::uint32_t first = 0; first < kSide; first += kTerms) {
    __syncthreads();
    for (std::uint32_t at = threadIdx.x; at < kTerms * kSide; at += kFactorThreads) {
      left[at / kSide][at % kSide] = of_columns[first * kSide + at];
      right[at / kSide][at % kSide] = of_rows[first * kSide + at];
    }
    __syncthreads();
#pragma unroll 8
    for (std::uint32_t m = 0; m < kTerms; ++m) {
      double a[4], b[4];
#pragma unroll
      for (std::uint32_t i = 0; i < 4; ++i) a[i] = left[m][i0 + i % 2 + i / 2 * 32];
#pragma unroll
      for (std::uint32_t k = 0; k < 4; ++k) b[k] = right[m][k0 + k];
#pragma unroll
      for (std::uint32_t k = 0; k < 4; ++k) {
#pragma unroll
        for (std::uint32_t i = 0; i < 4; ++i) sums[k][i] = Less(sums[k][i], a[i], b[k]);
      }
    }
  }
#pragma unroll
  for (std::uint32_t k = 0; k < 4; ++k) {
#pragma unroll
    for (std::uint32_t i = 0; i < 4; ++i) entries[(k0 + k) * kSide + i0 + i % 2 + i / 2 * 32] = sums[k][i];
  }
}

// The factor in the order of work, in fp32, and the pivots. A thread block the 64 rows of a panel that begin at
// 64 * blockIdx.y.
__device__ inline void StoreFactorSquare(const FeedbackFactorArgs& args) {
  const std::uint64_t n = args.columns, panel = blockIdx.x;
  if (blockIdx.y > panel || *args.failed != 0) return;
  float* const out = args.factor + FeedbackFactor::FactorAt(panel);
  const std::uint64_t k = panel * kSide + threadIdx.x % kSide, row = n - 1 - k;
  const double root = k < n ? Square(args.work, row / kSide, row / kSide)[row % kSide * (kSide + 1)] : 1.0;
  std::uint32_t largest = 0;
  for (std::uint32_t y = threadIdx.x / kSide; y < kSide; y += kFactorThreads / kSide) {
    const std::uint64_t j = std::uint64_t{blockIdx.y} * kSide + y, column = n - 1 - j;
    float entry = 0;
    if (k < n && j < k) {
      const double wide = Square(args.work, row / kSide, column / kSide)[row % kSide * kSide + column % kSide];
      entry = __double2float_rn(__ddiv_rn(wide, root));
    }
    if (k < n && j == k) args.pivots[k] = __dmul_rn(root, root);
    out[j * kSide + threadIdx.x % kSide] = entry;
    largest = MagnitudeBits(entry) > largest ? MagnitudeBits(entry) : largest;
  }
  if (largest != 0) atomicMax(args.largest, largest);
}

// The couplings. A thread block the 64 rows of a panel that begin at 64 * blockIdx.y.
__device__ inline void StoreCouplingsSquare(const FeedbackCouplingsArgs& args) {
  const std::uint64_t n = args.columns, panel = blockIdx.x;
  float* const out = args.couplings + panel * n * kSide;
  const std::uint64_t k = panel * kSide + threadIdx.x % kSide;
  const float* const row = k < n ? args.hessian + std::uint64_t{args.order[k]} * n : nullptr;
  const double diagonal = k < n ? __dadd_rn(static_cast<double>(row[args.order[k]]), args.damping) : 1.0;
  for (std::uint32_t y = threadIdx.x / kSide; y < kSide; y += kFactorThreads / kSide) {
    const std::uint64_t j = std::uint64_t{blockIdx.y} * kSide + y;
    if (j >= n) return;
    float entry = 0;
    if (k < n && j != k) entry = __double2float_rn(__ddiv_rn(static_cast<double>(row[args.order[j]]), diagonal));
    out[j * kSide + threadIdx.x % kSide] = entry;
  }
}

}  // namespace q4::cuda
