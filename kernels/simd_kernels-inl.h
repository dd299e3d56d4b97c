// The SIMD kernels of one target, declared in that target's namespace. Contracts: KernelTable in kernels/kernels.h.
#include <cstdint>

#include "kernels/kernels.h"

#if defined(Q4_KERNELS_SIMD_KERNELS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef Q4_KERNELS_SIMD_KERNELS_INL_H_
#undef Q4_KERNELS_SIMD_KERNELS_INL_H_
#else
#define Q4_KERNELS_SIMD_KERNELS_INL_H_
#endif

#if Q4_IS_SIMD_TARGET
namespace q4::HWY_NAMESPACE {

std::uint64_t Absmax(FloatType type, const void* x, std::uint64_t n, std::uint32_t block_size, float* scales);
std::uint64_t Quantize(FloatType type, CodeBook book, const void* x, std::uint64_t n, std::uint32_t block_size,
                       std::uint8_t* codes, float* scales);
void Dequantize(CodeBook book, const std::uint8_t* codes, const float* scales, std::uint64_t n,
                std::uint32_t block_size, FloatType out_type, void* out);
void QuantizeScales(const float* scales, std::uint64_t blocks, float offset, std::uint8_t* codes, float* absmax2);
void ErrorStats(FloatType type, CodeBook book, const void* x, const std::uint8_t* codes, const float* scales,
                std::uint64_t n, std::uint32_t block_size, GroupSums* groups, SlabStats* stats);
std::uint64_t Convert(FloatType in_type, const void* x, std::uint64_t n, FloatType out_type, void* out);

}  // namespace q4::HWY_NAMESPACE
#endif  // Q4_IS_SIMD_TARGET

#endif  // per-target include guard
