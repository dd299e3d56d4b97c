// The decoder on the device (docs/numerics.md Q6): scalar::Dequantize with 16 bytes of output per thread and step.
//
// Threads to data: a thread decodes vectors of 4 (fp32) or 8 (fp16, bf16) neighbouring elements. The threads of a
// thread block take neighbouring vectors, two each in a step of 256 x 2 vectors, so that loads and stores of a warp are
// contiguous: 512 bytes of output.
// Memory: 0.5 byte of codes and 4 / block size of scales are read per element, 2 or 4 bytes are written, each once.
// Codes and outputs carry the hint that they are used once (__ldcs, __stcs); scales, which neighbouring threads share,
// do not.
// Occupancy: few registers, 3 KiB of shared memory. A thread block works on four steps, which pays for filling its
// tables. Values by code come from shared memory, where every lane of a warp has its own copy of the table: no bank
// conflicts, whatever the codes.
// Same bits: one fp32 multiplication (Decode), rounded by the hardware's RNE conversion (StoreElement). Both are
// exactly specified except for NaNs, so a block whose scale is infinite or NaN takes the slow path, with numeric.h
// itself.
#include <cstdint>

#include "kernels/cuda_launch.cuh"
#include "kernels/cuda_tables.cuh"
#include "kernels/cuda_vector.cuh"

namespace q4::cuda {
namespace {

constexpr int kThreads = 256;
constexpr std::uint32_t kUnroll = 2;  // vectors per thread and step, so that loads overlap
constexpr std::uint64_t kSteps =
    4;  // of a thread block: enough to pay for its tables, few enough to keep all of the memory busy

// Row c of by_code holds 32 copies of code c's value, one for each lane. The map is unused with fp32 scales.
struct SharedValues {
  float by_code[16][kWarp];
  float nested_map[256];
};

// The fp32 scale of block k (Q5.5 where it is nested). Neighbouring threads need the same scale, and each decodes it
// for itself: nothing has to be exchanged.
template <bool kNested>
__device__ float ScaleOf(const DequantizeArgs& args, std::uint64_t k, const float* nested_map, float offset) {
  if constexpr (!kNested) return args.scales[k];
  return DecodeNestedScale(nested_map, args.nested.codes[k], args.nested.absmax2[k / kScaleGroup], offset);
}

// The codes of a vector of 4 or 8 elements. Aligned to its size, because vectors are. Read once, hence the hint.
template <std::uint32_t kVector>
__device__ std::uint32_t LoadCodes(const std::uint8_t* codes) {
  if constexpr (kVector == 8) return __ldcs(reinterpret_cast<const unsigned*>(codes));
  return __ldcs(reinterpret_cast<const unsigned short*>(codes));
}

// fl(value * scale) for element i of packed codes. The nibble goes where it is the row's offset in the table.
__device__ float DecodeElement(const float* lane_values, std::uint32_t packed, int i, float scale) {
  constexpr int kRowShift = 7;                 // a row is 32 floats
  const int nibble = 4 * (i ^ 1) - kRowShift;  // even elements sit in high nibbles
  const std::uint32_t offset = (nibble < 0 ? packed << -nibble : packed >> nibble) & (15u << kRowShift);
  return __fmul_rn(*reinterpret_cast<const float*>(reinterpret_cast<const char*>(lane_values) + offset), scale);
}

// The outputs of one vector, in the order of memory.
template <FloatType kOut>
__device__ uint4 DecodeVector(const float* lane_values, std::uint32_t packed, float scale) {
  std::uint32_t words[4];
  if constexpr (kOut == FloatType::kF32) {
#pragma unroll
    for (int i = 0; i < 4; ++i) words[i] = BitsOf(DecodeElement(lane_values, packed, i, scale));
  } else {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      words[i] = NarrowPair<kOut>(DecodeElement(lane_values, packed, 2 * i, scale),
                                  DecodeElement(lane_values, packed, 2 * i + 1, scale));
    }
  }
  return make_uint4(words[0], words[1], words[2], words[3]);
}

// Elements [begin, end) one by one: the end of a tensor, and blocks whose scale is infinite or NaN, where NaN must be
// canonical.
template <FloatType kOut>
__device__ __noinline__ void DecodeSlowly(CodeBook book, const std::uint8_t* codes, float scale, std::uint64_t begin,
                                          std::uint64_t end, void* out) {
  for (std::uint64_t i = begin; i < end; ++i) {
    StoreElement(kOut, out, i, CanonicalNan(__fmul_rn(CodeValueOf(book, UnpackCode(codes, i)), scale)));
  }
}

template <FloatType kOut, bool kNested>
__global__ void __launch_bounds__(kThreads) DequantizeKernel(const DequantizeArgs args, std::uint32_t log2_block_size) {
  constexpr std::uint32_t kVector = kVectorSize<kOut>;
  __shared__ SharedValues values;
  for (std::uint32_t i = threadIdx.x; i < 16 * kWarp; i += kThreads)
    values.by_code[i / kWarp][i % kWarp] = CodeValueOf(args.book, i / kWarp);
  // Known on the device only: SumScales wrote it there.
  float offset = 0;
  if constexpr (kNested) {
    for (std::uint32_t i = threadIdx.x; i < 256; i += kThreads) values.nested_map[i] = kDeviceNestedMap.values[i];
    offset = *args.nested.offset;
  }
  __syncthreads();
  const float* lane_values = values.by_code[0] + threadIdx.x % kWarp;

  // Thread t of a thread block takes vectors t, t + kThreads, ... of the thread block's step.
  constexpr std::uint64_t kStep = std::uint64_t{kThreads} * kUnroll * kVector;
  auto* out = static_cast<unsigned char*>(args.out);
  for (std::uint64_t step = blockIdx.x * kStep; step < args.n; step += gridDim.x * kStep) {
    const std::uint64_t first = step + threadIdx.x * kVector;
    std::uint32_t packed[kUnroll];
    float scale[kUnroll];
    // All loads first, then all stores: the loads of one step overlap. A vector lies in one block, because blocks are
    // multiples of 32 elements.
#pragma unroll
    for (std::uint32_t u = 0; u < kUnroll; ++u) {
      const std::uint64_t i = first + u * kThreads * kVector;
      if (i + kVector <= args.n) {
        packed[u] = LoadCodes<kVector>(args.codes + i / 2);
        scale[u] = ScaleOf<kNested>(args, i >> log2_block_size, values.nested_map, offset);
      }
    }
#pragma unroll
    for (std::uint32_t u = 0; u < kUnroll; ++u) {
      const std::uint64_t i = first + u * kThreads * kVector;
      if (i + kVector <= args.n && IsFinite(scale[u])) {
        __stcs(reinterpret_cast<uint4*>(out + i * kElementBytes<kOut>),
               DecodeVector<kOut>(lane_values, packed[u], scale[u]));
        // A vector that the tensor's end cuts, or a scale that is not finite. scale[u] was not loaded in the first
        // case.
      } else if (i < args.n) {
        const float s = ScaleOf<kNested>(args, i >> log2_block_size, values.nested_map, offset);
        DecodeSlowly<kOut>(args.book, args.codes, s, i, ::min(i + kVector, args.n), args.out);
      }
    }
  }
}

template <FloatType kOut, bool kNested>
KernelError LaunchDequantize(const DequantizeArgs& args, StreamHandle stream) {
  const auto kernel = DequantizeKernel<kOut, kNested>;
  std::uint32_t log2_block_size = 0;
  // Block sizes are powers of two: the kernel shifts instead of dividing 64-bit numbers.
  while (1u << log2_block_size < args.block_size) ++log2_block_size;
  const std::uint64_t grid = args.n / (kSteps * kThreads * kUnroll * kVectorSize<kOut>)+1;
  kernel<<<GridSize(grid), kThreads, 0, RawStream(stream)>>>(args, log2_block_size);
  return CheckLaunch("dequantize");
}

template <FloatType kOut>
KernelError LaunchDequantize(const DequantizeArgs& args, StreamHandle stream) {
  return args.scales != nullptr ? LaunchDequantize<kOut, false>(args, stream)
                                : LaunchDequantize<kOut, true>(args, stream);
}

}  // namespace

KernelError Dequantize(const DequantizeArgs& args, StreamHandle stream) {
  if (!IsBlockSize(args.block_size)) return BadArgument("block size");
  if (!IsAligned16(args.codes) || !IsAligned16(args.out)) return BadArgument("misaligned pointer");
  if (args.n == 0) return {};
  if (args.scales == nullptr &&
      (args.nested.codes == nullptr || args.nested.absmax2 == nullptr || args.nested.offset == nullptr)) {
    return BadArgument("no scales");
  }
  if (args.out_type == FloatType::kF32) return LaunchDequantize<FloatType::kF32>(args, stream);
  if (args.out_type == FloatType::kF16) return LaunchDequantize<FloatType::kF16>(args, stream);
  return LaunchDequantize<FloatType::kBF16>(args, stream);
}

}  // namespace q4::cuda
