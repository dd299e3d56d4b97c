// Made-up weights: normal, of standard deviation 0.02. The same seed gives the same values.
#pragma once

#include <cstdint>
#include <random>
#include <vector>

#include "formats/tensor/tensor.h"
#include "kernels/kernels.h"
#include "libconvert/scheme/slab.h"

namespace q4::test {

inline std::vector<float> NormalValues(std::uint64_t count, std::uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, 0.02f);
  std::vector<float> values(count);
  for (float& value : values) value = normal(random);
  return values;
}

// The same as the bytes of a tensor. REQUIRES: a float type.
inline std::vector<std::uint8_t> NormalBytes(DType dtype, std::uint64_t elems, std::uint32_t seed) {
  const std::vector<float> values = NormalValues(elems, seed);
  std::vector<std::uint8_t> bytes(elems * ItemSize(dtype));
  ScalarKernels().convert(FloatType::kF32, values.data(), elems, FloatTypeOf(dtype), bytes.data());
  return bytes;
}

}  // namespace q4::test
