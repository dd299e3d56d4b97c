// The kernels on an NVIDIA GPU: the arithmetic of docs/numerics.md, bit-identical to ScalarKernels(). Plain C++: no
// CUDA header is needed to include this.
//
// Every function enqueues work on one stream of the current device and returns at once. Arguments are PODs passed by
// value. All pointers in them are device pointers that stay valid until the work is done; outputs overlap neither
// inputs nor each other. A function that returns an error has enqueued nothing or part of its work: its outputs are
// unspecified.
//
// Slabs are those of kernels/kernels.h: `n` elements of one tensor, beginning at a multiple of 256 blocks, ending at
// one too unless the slab is the tensor's last. Pointers to elements, codes, scale codes and scales must be multiples
// of 16 bytes. cudaMalloc's are, and so is every slab inside such an allocation; anything else is refused with an
// error, never read.
#pragma once

#include <cstdint>

#include "kernels/element_weights.h"
#include "kernels/kernels.h"
#include "kernels/nested_loss.h"

namespace q4::cuda {

// A cudaStream_t. Null is the default stream.
using StreamHandle = void*;

// What a call of the CUDA runtime, or a check of arguments, came to.
struct KernelError {
  int code = 0;           // a cudaError_t; 0 is success
  const char* what = "";  // static text: the operation that failed, or what is wrong with the argument
  bool ok() const { return code == 0; }
};

// The runtime's own text for the code, static.
const char* ErrorText(const KernelError& error);

// ---- Quantize (Q4)

// Kernels' arguments are those of KernelTable::quantize; nothing is optional but `codes`.
struct QuantizeArgs {
  FloatType type = FloatType::kF32;
  CodeBook book = CodeBook::kNf4;
  const void* x = nullptr;             // n elements of `type`
  std::uint64_t n = 0;                 // of the slab; 0 is allowed
  std::uint32_t block_size = 0;        // 32, 64, ... 4096
  std::uint8_t* codes = nullptr;       // [PackedBytes(n)], or null: only the scales are wanted (KernelTable::absmax)
  float* scales = nullptr;             // [BlockCount(n)]
  std::uint64_t* first_bad = nullptr;  // one word: kAllFinite, or the smallest index of a NaN or infinite element
                                       // (Q1.4); then codes and scales are unspecified
};
// Fails with cudaErrorInvalidValue for a block size that is none, a misaligned pointer or no first_bad.
KernelError Quantize(const QuantizeArgs& args, StreamHandle stream);

// ---- Error statistics (Q8)

// Bytes of scratch memory, any alignment of 256, that ErrorStats and QuantizeWithStats use until their work is done.
std::uint64_t ErrorStatsWorkspace();

// Arguments are those of KernelTable::error_stats, and scratch memory of ErrorStatsWorkspace() bytes.
struct ErrorStatsArgs {
  FloatType type = FloatType::kF32;
  CodeBook book = CodeBook::kNf4;
  const void* x = nullptr;              // the source elements, n of `type`
  const std::uint8_t* codes = nullptr;  // [PackedBytes(n)]
  const float* scales = nullptr;        // as decoded: for nested scales the output of DequantizeScales
  std::uint64_t n = 0;
  std::uint32_t block_size = 0;
  GroupSums* groups = nullptr;  // [GroupCount(BlockCount(n))]
  SlabStats* stats = nullptr;   // one
  void* workspace = nullptr;
};
// Fails with cudaErrorInvalidValue for a block size that is none or a misaligned pointer.
KernelError ErrorStats(const ErrorStatsArgs& args, StreamHandle stream);

// Both in one pass over x: the statistics are those of the fp32 scales. If *first_bad names an element, they are
// unspecified too. Elements of 16 bits in blocks of 32 or 64, which nearly all checkpoints have, get a kernel
// made for them (quantize_stats_cuda.cu); other shapes run the encoder and the statistics tile by tile.
struct QuantizeWithStatsArgs {
  QuantizeArgs quantize;
  GroupSums* groups = nullptr;
  SlabStats* stats = nullptr;
  void* workspace = nullptr;
};
// Fails as Quantize and ErrorStats do, and when quantize.codes is null.
KernelError QuantizeWithStats(const QuantizeWithStatsArgs& args, StreamHandle stream);

// ---- Nested scales (Q5)

// The state of a tensor's scale sum, carried over its slabs in order. All bytes zero at the tensor's start. Lives in
// device memory; the host need not look at it.
struct ScaleSum {
  double total = 0;  // SUM256 so far (Q7.3)
  std::int32_t lowest_bit =
      0;  // exponent of the lowest set bit of any scale so far, as kernels/scales_cuda.cu defines it
  std::int32_t used_fallback = 0;  // whether some slab needed the additions done one by one; for tests and reports
};

// Bytes of scratch memory, aligned to 256, that SumScales uses until its work is done.
std::uint64_t SumScalesWorkspace(std::uint64_t blocks);

struct SumScalesArgs {
  const float* scales = nullptr;
  std::uint64_t blocks = 0;        // a multiple of 256, unless this is the tensor's last slab
  ScaleSum* sum = nullptr;         // read and written
  float* offset = nullptr;         // with the last slab: the tensor's offset (Q5.1) is written here; else null
  std::uint64_t total_blocks = 0;  // of the tensor; used with `offset` only
  void* workspace = nullptr;
};
// The total has the bits of Sum256, whose additions are a sequence, although the device adds in another order where
// that is proved to be exact (scales_cuda.cu). Slabs of one tensor: in order, on one stream or with events between.
KernelError SumScales(const SumScalesArgs& args, StreamHandle stream);

struct QuantizeScalesArgs {
  const float* scales = nullptr;
  std::uint64_t blocks = 0;       // of the slab
  const float* offset = nullptr;  // one word in device memory, so that nothing waits for the host
  std::uint8_t* codes = nullptr;  // [blocks]
  float* absmax2 = nullptr;       // [GroupCount(blocks)]
};
// Q5.2 to Q5.4. Fails with cudaErrorInvalidValue for a misaligned pointer.
KernelError QuantizeScales(const QuantizeScalesArgs& args, StreamHandle stream);

// A tensor's nested scales, beginning at a multiple of 256 blocks.
struct NestedScales {
  const std::uint8_t* codes = nullptr;
  const float* absmax2 = nullptr;
  const float* offset = nullptr;  // one word in device memory
};

struct DequantizeScalesArgs {
  NestedScales nested;
  std::uint64_t blocks = 0;
  float* scales = nullptr;
};
// Q5.5. Fails with cudaErrorInvalidValue for a misaligned pointer.
KernelError DequantizeScales(const DequantizeScalesArgs& args, StreamHandle stream);

// ---- Encoders mse and weighted (Q9, Q16)

// Arguments are those of KernelTable::search_scales, but that weights are found by feature, and a place for the scales
// of absmax, which the search begins with and NestSearchedScales needs.
struct SearchScalesArgs {
  FloatType type = FloatType::kF32;
  CodeBook book = CodeBook::kNf4;
  const void* x = nullptr;
  std::uint64_t n = 0;
  std::uint32_t block_size = 0;
  int effort = kDefaultEffort;
  float* scales = nullptr;             // [BlockCount(n)]
  float* absmax = nullptr;             // [BlockCount(n)]: Q4's
  double* floors = nullptr;            // [BlockCount(n)], or null: nobody wants them (Q9.9)
  std::uint64_t* first_bad = nullptr;  // as in QuantizeArgs; if it names an element, all outputs are unspecified
  ElementWeights weights;              // with a device pointer; without one this is the encoder mse
};
// Q9.1 to Q9.7, Q16.2. Fails with cudaErrorInvalidValue for a block size or an effort that is none, a misaligned
// pointer, a place that is missing, or weights of more elements than kMostWeightedElems.
KernelError SearchScales(const SearchScalesArgs& args, StreamHandle stream);

// What SearchScales has made of a slab, nested.
struct NestSearchedArgs {
  SearchScalesArgs searched;            // with floors
  std::uint8_t* scale_codes = nullptr;  // [BlockCount(n)]
  float* absmax2 = nullptr;             // [GroupCount(BlockCount(n))]
  NestedLoss* losses = nullptr;         // as many
  float* zero = nullptr;                // one word of scratch memory: the offset
};
// Q9.8 and the sums of Q9.9, with the offset 0: after SearchScales on the same stream. Fails as it does.
KernelError NestSearchedScales(const NestSearchedArgs& args, StreamHandle stream);

// Arguments are those of KernelTable::codes_under.
struct CodesUnderArgs {
  FloatType type = FloatType::kF32;
  CodeBook book = CodeBook::kNf4;
  const void* x = nullptr;
  std::uint64_t n = 0;
  std::uint32_t block_size = 0;
  const float* scales = nullptr;  // [BlockCount(n)], finite
  std::uint8_t* codes = nullptr;  // [PackedBytes(n)]
};
// Q9.2. Fails with cudaErrorInvalidValue for a block size that is none or a misaligned pointer.
KernelError CodesUnder(const CodesUnderArgs& args, StreamHandle stream);

// ---- Dequantize (Q6)

struct DequantizeArgs {
  CodeBook book = CodeBook::kNf4;
  const std::uint8_t* codes = nullptr;
  const float* scales = nullptr;  // fp32 scales, or null:
  NestedScales nested;            // decoded on the fly
  std::uint64_t n = 0;
  std::uint32_t block_size = 0;
  FloatType out_type = FloatType::kF32;
  void* out = nullptr;  // n elements of out_type
};
// Fails with cudaErrorInvalidValue for a block size that is none, a misaligned pointer, or neither kind of scales. With
// nested scales no array of decoded scales is made: each thread decodes the one that it needs.
KernelError Dequantize(const DequantizeArgs& args, StreamHandle stream);

}  // namespace q4::cuda
