// The scalar reference, function by function. SIMD kernels call these for tails and for whatever happens rarely.
// Contracts: KernelTable in kernels/kernels.h.
#pragma once

#include <cstdint>

#include "kernels/kernels.h"

namespace q4::scalar {

std::uint64_t Absmax(FloatType type, const void* x, std::uint64_t n, std::uint32_t block_size, float* scales);
std::uint64_t Quantize(FloatType type, CodeBook book, const void* x, std::uint64_t n, std::uint32_t block_size,
                       std::uint8_t* codes, float* scales);
void Dequantize(CodeBook book, const std::uint8_t* codes, const float* scales, std::uint64_t n,
                std::uint32_t block_size, FloatType out_type, void* out);
void QuantizeScales(const float* scales, std::uint64_t blocks, float offset, std::uint8_t* codes, float* absmax2);
void DequantizeScales(const std::uint8_t* codes, const float* absmax2, std::uint64_t blocks, float offset,
                      float* scales);
void ErrorStats(FloatType type, CodeBook book, const void* x, const std::uint8_t* codes, const float* scales,
                std::uint64_t n, std::uint32_t block_size, GroupSums* groups, SlabStats* stats);
std::uint64_t Convert(FloatType in_type, const void* x, std::uint64_t n, FloatType out_type, void* out);

}  // namespace q4::scalar
