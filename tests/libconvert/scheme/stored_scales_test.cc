#include "libconvert/scheme/stored_scales.h"

#include <vector>

#include "tests/support/catch.h"
#include "tests/support/cpu_kernels.h"

namespace q4 {
TEST_CASE("fp32 scales are decoded as they lie") {
  const std::vector<float> scales(600, 0.5f);
  StoredScales stored;
  stored.scales = scales.data();
  std::vector<float> memory;
  CHECK(DecodedScales(ScalarKernels(), stored, scales.size(), &memory) == scales.data());
  CHECK(DecodedScales(ScalarKernels(), stored.Skip(512), 88, &memory) == scales.data() + 512);
  CHECK(memory.empty());
}

TEST_CASE("nested scales are code, group scale and offset, from any group on, with every kernel") {
  const ScopedFloatEnvironment environment;
  std::vector<std::uint8_t> codes(600);
  for (std::size_t i = 0; i < codes.size(); ++i) codes[i] = static_cast<std::uint8_t>(i * 7);
  const std::vector<float> group_scales = {0.5f, 0.25f, 2.0f};
  const StoredScales stored{true, nullptr, codes.data(), group_scales.data(), 0.125f};
  for (const KernelTable* kernels : test::AllCpuKernels()) {
    INFO(kernels->name);
    std::vector<float> all, rest(5000);
    const float* decoded = DecodedScales(*kernels, stored, codes.size(), &all);
    CHECK(decoded == all.data());
    REQUIRE(all.size() == codes.size());
    std::size_t differing = 0;
    for (std::size_t i = 0; i < codes.size(); ++i) {
      const float product = NestedMap()[codes[i]] * group_scales[i / kScaleGroup];
      differing += decoded[i] != product + 0.125f;
    }
    CHECK(differing == 0);
    CHECK(DecodedScales(*kernels, stored.Skip(512), 88, &rest) == rest.data());
    CHECK(std::vector<float>(all.begin() + 512, all.end()) == rest);
  }
}

}  // namespace q4
