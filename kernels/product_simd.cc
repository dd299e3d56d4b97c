// scalar::AddProduct with an element in each lane, so that every sum keeps its order. Four vectors of sums are carried
// side by side: one alone would wait for its own additions.
#include <cstdint>

#include "kernels/simd_targets.h"
// Highway compiles this file once per target; the targets' list must be known by now.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/product_simd.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/scalar_kernels.h"
#include "kernels/simd-inl.h"
#include "kernels/simd_kernels-inl.h"

#if Q4_IS_SIMD_TARGET
HWY_BEFORE_NAMESPACE();
namespace q4::HWY_NAMESPACE {
namespace {

// Nothing here depends on the number of lanes, so that the widest vectors do.
using ProductTag = hn::CappedTag<float, 16>;
using ProductVec = hn::Vec<ProductTag>;

// values + scale * sum
HWY_INLINE void AddScaled(ProductVec sum, ProductVec scale, float* values) {
  const ProductTag d;
  hn::StoreU(hn::Add(hn::LoadU(d, values), hn::Mul(scale, sum)), d, values);
}

}  // namespace

void AddProduct(float* values, const float* left, const float* right, std::uint64_t stride, std::uint64_t rank,
                float scale, std::uint64_t n) {
  const ProductTag d;
  const std::uint64_t lanes = hn::Lanes(d);
  const auto scales = hn::Set(d, scale);
  std::uint64_t j = 0;
  for (; j + 4 * lanes <= n; j += 4 * lanes) {
    auto sum0 = hn::Zero(d), sum1 = hn::Zero(d), sum2 = hn::Zero(d), sum3 = hn::Zero(d);
    const float* row = right + j;
    for (std::uint64_t k = 0; k < rank; ++k, row += stride) {
      const auto factor = hn::Set(d, left[k]);
      sum0 = hn::Add(sum0, hn::Mul(factor, hn::LoadU(d, row)));
      sum1 = hn::Add(sum1, hn::Mul(factor, hn::LoadU(d, row + lanes)));
      sum2 = hn::Add(sum2, hn::Mul(factor, hn::LoadU(d, row + 2 * lanes)));
      sum3 = hn::Add(sum3, hn::Mul(factor, hn::LoadU(d, row + 3 * lanes)));
    }
    AddScaled(sum0, scales, values + j);
    AddScaled(sum1, scales, values + j + lanes);
    AddScaled(sum2, scales, values + j + 2 * lanes);
    AddScaled(sum3, scales, values + j + 3 * lanes);
  }
  for (; j + lanes <= n; j += lanes) {
    auto sum = hn::Zero(d);
    for (std::uint64_t k = 0; k < rank; ++k) {
      sum = hn::Add(sum, hn::Mul(hn::Set(d, left[k]), hn::LoadU(d, right + k * stride + j)));
    }
    AddScaled(sum, scales, values + j);
  }
  scalar::AddProduct(values + j, left, right + j, stride, rank, scale, n - j);
}

}  // namespace q4::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // Q4_IS_SIMD_TARGET
