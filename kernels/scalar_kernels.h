// The scalar reference, function by function: what defines the bits that every backend must give. Its files are written
// to be read, not to be fast. SIMD kernels call these for tails and for whatever happens rarely; tests hold every
// backend against them.
//
// Contracts (shapes, units, results): KernelTable in kernels/kernels.h. Each comment names the file and the
// specification.
#pragma once

#include <cstdint>

#include "kernels/kernels.h"

namespace q4::scalar {

// quantize_scalar.cc: Q4.1, Q4.3, Q4.4.
std::uint64_t Absmax(FloatType type, const void* x, std::uint64_t n, std::uint32_t block_size, float* scales);
// quantize_scalar.cc: Q4 whole, with Q3 for the packing.
std::uint64_t Quantize(FloatType type, CodeBook book, const void* x, std::uint64_t n, std::uint32_t block_size,
                       std::uint8_t* codes, float* scales);
// search_scalar.cc: Q9.2 to Q9.7.
std::uint64_t SearchScales(FloatType type, CodeBook book, const void* x, const float* weights, std::uint64_t n,
                           std::uint32_t block_size, int effort, float* scales, double* floors);
void CodesUnder(FloatType type, CodeBook book, const void* x, std::uint64_t n, std::uint32_t block_size,
                const float* scales, std::uint8_t* codes);
void BlockErrors(FloatType type, CodeBook book, const void* x, const float* weights, std::uint64_t n,
                 std::uint32_t block_size, const float* scales, double* errors);
// dequantize_scalar.cc: Q6.
void Dequantize(CodeBook book, const std::uint8_t* codes, const float* scales, std::uint64_t n,
                std::uint32_t block_size, FloatType out_type, void* out);
// scales_scalar.cc: Q5.2 to Q5.4, and the way back, Q5.5.
void QuantizeScales(const float* scales, std::uint64_t blocks, float offset, std::uint8_t* codes, float* absmax2);
void DequantizeScales(const std::uint8_t* codes, const float* absmax2, std::uint64_t blocks, float offset,
                      float* scales);
// error_stats_scalar.cc: Q7, Q8.
void ErrorStats(FloatType type, CodeBook book, const void* x, const std::uint8_t* codes, const float* scales,
                std::uint64_t n, std::uint32_t block_size, GroupSums* groups, SlabStats* stats);
// convert_scalar.cc: Q1.2, Q6.1.
std::uint64_t Convert(FloatType in_type, const void* x, std::uint64_t n, FloatType out_type, void* out);
// product_scalar.cc: Q15.3.
void AddProduct(float* values, const float* left, const float* right, std::uint64_t stride, std::uint64_t rank,
                float scale, std::uint64_t n);
// feedback_scalar.cc: the loops of Q17.
void AddProducts(float* sums, const float* left, const float* right, std::uint64_t terms);
void SubtractProducts(double* sums, const double* left, const double* right, std::uint64_t terms,
                      std::uint64_t columns);
void FeedbackPanel(CodeBook book, const float* x, const float* scales, const float* matrix, std::uint64_t columns,
                   float* sums, float* errors, std::uint8_t* codes);

}  // namespace q4::scalar
