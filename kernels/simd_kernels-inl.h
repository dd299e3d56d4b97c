// The SIMD kernels of one target, declared in that target's namespace, for dispatch.cc to put into a table and for the
// file that defines them. Contracts: KernelTable in kernels/kernels.h. DequantizeScales is missing: every table uses
// the scalar one.
//
// Highway includes a file once for each target (foreach_target.h), so an include guard that works once would not do.
// The guard below is toggled with HWY_TARGET_TOGGLE, which makes the file be read once for each target.
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

// quantize_simd.cc
std::uint64_t Absmax(FloatType type, const void* x, std::uint64_t n, std::uint32_t block_size, float* scales);
std::uint64_t Quantize(FloatType type, CodeBook book, const void* x, std::uint64_t n, std::uint32_t block_size,
                       std::uint8_t* codes, float* scales);
void CodesUnder(FloatType type, CodeBook book, const void* x, std::uint64_t n, std::uint32_t block_size,
                const float* scales, std::uint8_t* codes);
// search_simd.cc
std::uint64_t SearchScales(FloatType type, CodeBook book, const void* x, const float* weights, std::uint64_t n,
                           std::uint32_t block_size, int effort, float* scales, double* floors);
void BlockErrors(FloatType type, CodeBook book, const void* x, const float* weights, std::uint64_t n,
                 std::uint32_t block_size, const float* scales, double* errors);
// dequantize_simd.cc
void Dequantize(CodeBook book, const std::uint8_t* codes, const float* scales, std::uint64_t n,
                std::uint32_t block_size, FloatType out_type, void* out);
// scales_simd.cc
void QuantizeScales(const float* scales, std::uint64_t blocks, float offset, std::uint8_t* codes, float* absmax2);
// error_stats_simd.cc
void ErrorStats(FloatType type, CodeBook book, const void* x, const std::uint8_t* codes, const float* scales,
                std::uint64_t n, std::uint32_t block_size, GroupSums* groups, SlabStats* stats);
// convert_simd.cc
std::uint64_t Convert(FloatType in_type, const void* x, std::uint64_t n, FloatType out_type, void* out);
// product_simd.cc
void AddProduct(float* values, const float* left, const float* right, std::uint64_t stride, std::uint64_t rank,
                float scale, std::uint64_t n);
// feedback_simd.cc
void AddProducts(float* sums, const float* left, const float* right, std::uint64_t terms);
void SubtractProducts(double* sums, const double* left, const double* right, std::uint64_t terms,
                      std::uint64_t columns);
void FeedbackPanel(CodeBook book, const float* x, const float* scales, const float* matrix, std::uint64_t columns,
                   float* sums, float* errors, std::uint8_t* codes);

}  // namespace q4::HWY_NAMESPACE
#endif  // Q4_IS_SIMD_TARGET

#endif  // per-target include guard
