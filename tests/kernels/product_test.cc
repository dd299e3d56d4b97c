// The product of low-rank factors (numerics.md Q15.3): the order of a sum, written down anew, and every backend against
// it.
#include "tests/kernels/kernel_testing.h"
#include "tests/support/catch.h"

namespace q4::testing {

TEST_CASE("a row of factors is added in the order of its terms, whatever the rank, the width and the stride") {
  Random random(15);
  for (const std::uint64_t rank : {1, 2, 7, 16, 70}) {
    for (const std::uint64_t n : {1, 3, 8, 15, 16, 31, 64, 65, 127, 200}) {
      const std::uint64_t stride = n + n % 5;
      std::vector<float> left(rank), right(rank * stride), values(n);
      for (std::vector<float>* v : {&left, &right, &values}) {
        for (float& f : *v) f = static_cast<float>(random.Normal());
      }
      left[0] = 1e8f;  // so that another order would be seen
      if (rank > 1) left[rank - 1] = -1e8f;
      const float scale = 0.37f;
      std::vector<float> expected = values;
      for (std::uint64_t j = 0; j < n; ++j) {
        volatile float sum = 0;
        for (std::uint64_t k = 0; k < rank; ++k) {
          volatile float product = left[k] * right[k * stride + j];
          sum = sum + product;
        }
        volatile float scaled = scale * sum;
        expected[j] = expected[j] + scaled;
      }
      for (const KernelTable* kernels : AllBackends()) {
        INFO(kernels->name << " rank " << rank << " n " << n);
        std::vector<float> got = values;
        kernels->add_product(got.data(), left.data(), right.data(), stride, rank, scale, n);
        CHECK(std::memcmp(got.data(), expected.data(), n * sizeof(float)) == 0);
      }
    }
  }
}

TEST_CASE("no terms add nothing, and a zero keeps no sign") {
  for (const KernelTable* kernels : AllBackends()) {
    std::vector<float> values = {-0.0f, 1.5f, -2.0f};
    kernels->add_product(values.data(), nullptr, values.data(), 3, 0, 2.0f, 3);
    CHECK(values == std::vector<float>{0.0f, 1.5f, -2.0f});
    CHECK(!std::signbit(values[0]));
  }
}

}  // namespace q4::testing
