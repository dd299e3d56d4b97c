// The encoder feedback (docs/numerics.md Q17) on an NVIDIA GPU: the factor of a Hessian and the codes of whole rows,
// bit-identical to kernels/feedback.h. Plain C++, in the manner of kernels/cuda_kernels.h: functions enqueue work on a
// stream of the current device and return; pointers are device pointers, multiples of 16 bytes, and stay valid until
// the work is done.
//
// Columns stand in the order of work, which the host finds (FeedbackOrder(), FeedbackDamping()). What the arrays hold
// is what a FeedbackFactor holds, in the same layout.
#pragma once

#include <cstdint>

#include "kernels/cuda_kernels.h"
#include "kernels/feedback.h"

namespace q4::cuda {

// Rows of a tile on the device: one thread block's, from the first pass to the last. Half as many as on a core, so that
// a matrix of 4096 rows occupies 128 multiprocessors.
inline constexpr std::uint64_t kFeedbackTileRows = 32;

constexpr std::uint64_t FeedbackTiles(std::uint64_t rows) {
  return rows / kFeedbackTileRows + (rows % kFeedbackTileRows != 0);
}

// ---- Q17.3, Q17.4

// Memory of the device that takes the factor of a Hessian of so many columns. Bytes, each a multiple of 256.
struct FeedbackSizes {
  std::uint64_t hessian, work, factor, couplings, pivots, order;
};
FeedbackSizes FeedbackSizesOf(std::uint64_t columns);

struct FeedbackFactorArgs {
  std::uint64_t columns = 0;
  float* hessian = nullptr;              // [columns * columns], of which MirrorHessian() has been called
  const std::uint32_t* order = nullptr;  // [columns]
  double damping = 0;
  double* work = nullptr;  // FeedbackSizes::work bytes
  float* factor = nullptr;
  double* pivots = nullptr;
  // One word each: the bits of the largest magnitude in `factor`, and whether a pivot was not good (Q17.3); then all
  // that was made is unspecified.
  std::uint32_t* largest = nullptr;
  std::uint32_t* failed = nullptr;
};
// The half below the diagonal becomes the mirror image of the other.
KernelError MirrorHessian(std::uint64_t columns, float* hessian, StreamHandle stream);
// One attempt with one damping.
KernelError FactorHessian(const FeedbackFactorArgs& args, StreamHandle stream);

struct FeedbackCouplingsArgs {
  std::uint64_t columns = 0;
  const float* hessian = nullptr;
  const std::uint32_t* order = nullptr;
  double damping = 0;
  float* couplings = nullptr;
};
KernelError MakeFeedbackCouplings(const FeedbackCouplingsArgs& args, StreamHandle stream);

// ---- Q17.5 to Q17.7

// Bytes of scratch memory for a tile, a multiple of 256.
std::uint64_t FeedbackTileBytes(std::uint64_t columns);
// How many tiles the current device works on at the same time.
KernelError FeedbackTilesAtOnce(std::uint64_t* tiles);

struct FeedbackCodesArgs {
  // With device pointers. `codes` is read and written in whole words of 4 bytes, so the last one must be there whole.
  FeedbackMatrix matrix;
  const std::uint32_t* order = nullptr;  // [matrix.columns]
  const float* factor = nullptr;
  const float* couplings = nullptr;
  const double* pivots = nullptr;
  const std::uint32_t* largest = nullptr;
  int passes = 0;                 // of coordinate descent
  std::uint64_t first_tile = 0;   // of the matrix
  std::uint64_t tiles = 0;        // at most 2^31 - 1
  void* scratch = nullptr;        // tiles * FeedbackTileBytes(columns)
  std::uint32_t* kept = nullptr;  // one word: the rows that keep the codes that they had are added to it
};
// Fails with cudaErrorInvalidValue for a block size that is none, a misaligned pointer or tiles that are not there.
KernelError ChooseFeedbackCodes(const FeedbackCodesArgs& args, StreamHandle stream);

}  // namespace q4::cuda
