// The reference product of low-rank factors (docs/numerics.md Q15.3): a sum for each element, its terms in ascending
// order.
#include <cstdint>

#include "kernels/scalar_kernels.h"

namespace q4::scalar {

void AddProduct(float* values, const float* left, const float* right, std::uint64_t stride, std::uint64_t rank,
                float scale, std::uint64_t n) {
  for (std::uint64_t j = 0; j < n; ++j) {
    float sum = 0;
    for (std::uint64_t k = 0; k < rank; ++k) sum = sum + left[k] * right[k * stride + j];
    values[j] = values[j] + scale * sum;
  }
}

}  // namespace q4::scalar
