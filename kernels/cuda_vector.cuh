// Elements in device code: 16-byte vectors of them and their parts, widened to fp32 (Q1.2) and narrowed (Q6.1).
//
// Sixteen bytes are the most that a lane loads at once; a warp that loads neighbouring vectors reads 512 bytes in whole
// sectors. Vectors are split into 32-bit words and those into elements with constant indices, so all of it stays in
// registers. Device memory is little-endian: the earlier of two 16-bit elements is a word's low half.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

#include "kernels/numeric.h"

namespace q4::cuda {

// Lanes of a warp, and the mask of all of them for the *_sync functions: every shuffle here is reached by all lanes of
// its warp.
inline constexpr std::uint32_t kWarp = 32;
inline constexpr std::uint32_t kAllLanes = 0xFFFFFFFF;

// FloatSize of kernels.h, as a constant of the type.
template <FloatType kType>
inline constexpr std::uint32_t kElementBytes = kType == FloatType::kF32 ? 4 : 2;

// Elements in 16 bytes.
template <FloatType kType>
inline constexpr std::uint32_t kVectorSize = 16 / kElementBytes<kType>;

// 16 bytes of global memory. `p` is a multiple of 16. The assumption lets the compiler use a load of global memory,
// which needs no look at the address space.
__device__ inline uint4 LoadVector(const void* p) {
  __builtin_assume(__isGlobal(p));
  return *static_cast<const uint4*>(p);
}

// Word i, 0 to 3; i is known to the compiler, so nothing is compared at run time.
__device__ inline std::uint32_t WordOf(const uint4& v, int i) {
  return i == 0 ? v.x : i == 1 ? v.y : i == 2 ? v.z : v.w;
}

// The low or high 16 bits of a word as an element. WidenBf16 and WidenF16 of numeric.h; the hardware's conversion from
// fp16 is exact, subnormals included (Q10.5).
template <FloatType kType>
__device__ inline float WidenLow(std::uint32_t word) {
  if constexpr (kType == FloatType::kBF16) return FloatOf(word << 16);
  return __half2float(__ushort_as_half(static_cast<std::uint16_t>(word)));
}
template <FloatType kType>
__device__ inline float WidenHigh(std::uint32_t word) {
  if constexpr (kType == FloatType::kBF16) return FloatOf(word & 0xFFFF0000);
  return __half2float(__ushort_as_half(static_cast<std::uint16_t>(word >> 16)));
}

// Element i of a vector; i is known to the compiler.
template <FloatType kType>
__device__ inline float ElementOf(const uint4& v, int i) {
  if constexpr (kType == FloatType::kF32) return FloatOf(WordOf(v, i));
  const std::uint32_t word = WordOf(v, i / 2);
  return i % 2 == 0 ? WidenLow<kType>(word) : WidenHigh<kType>(word);
}

// Two elements of a 16-bit type in a word, the first one low. Neither may be NaN: the hardware's NaN is not the
// canonical one. NarrowF16 and NarrowBf16 of numeric.h: the conversions of the hardware round to nearest even, keep
// subnormals and overflow to infinity (Q10.5).
template <FloatType kType>
__device__ inline std::uint32_t NarrowPair(float first, float second) {
  if constexpr (kType == FloatType::kF16) {
    const __half2 pair = __floats2half2_rn(first, second);
    return *reinterpret_cast<const std::uint32_t*>(&pair);
  } else {
#if __CUDA_ARCH__ >= 800
    const __nv_bfloat162 pair = __floats2bfloat162_rn(first, second);
    return *reinterpret_cast<const std::uint32_t*>(&pair);
#else
    return NarrowBf16(first) | static_cast<std::uint32_t>(NarrowBf16(second)) << 16;
#endif
  }
}

// ---- Order-free reductions

// The maximum over the lanes of a warp that differ in the lowest log2(kLanes) bits. Butterfly: every lane ends with the
// result. Integers, so the order does not matter.
template <std::uint32_t kLanes>
__device__ inline std::uint32_t MaxOverLanes(std::uint32_t v) {
#pragma unroll
  for (std::uint32_t distance = kLanes / 2; distance >= 1; distance /= 2)
    v = max(v, __shfl_xor_sync(kAllLanes, v, distance));
  return v;
}

// The sum over all lanes, in every lane.
__device__ inline std::uint32_t SumOverWarp(std::uint32_t v) {
#pragma unroll
  for (std::uint32_t distance = kWarp / 2; distance >= 1; distance /= 2) v += __shfl_xor_sync(kAllLanes, v, distance);
  return v;
}

}  // namespace q4::cuda
