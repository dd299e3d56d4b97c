#include <cfenv>
#include <cstdlib>
#include <string>

#include "tests/kernels/kernel_testing.h"
#include "tests/support/catch.h"

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

namespace q4::testing {

TEST_CASE("the default environment is canonical") { CHECK(FloatEnvironmentIsCanonical()); }

TEST_CASE("another rounding mode is noticed and set aside for a scope") {
  for (const int mode : {FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO}) {
    std::fesetround(mode);
    const bool noticed = !FloatEnvironmentIsCanonical();
    bool canonical_inside;
    {
      const ScopedFloatEnvironment scope;
      canonical_inside = FloatEnvironmentIsCanonical();
    }
    const int restored = std::fegetround();
    std::fesetround(FE_TONEAREST);
    CHECK(noticed);
    CHECK(canonical_inside);
    CHECK(restored == mode);
  }
}

#if defined(__x86_64__)
TEST_CASE("flushed subnormals are noticed and set aside for a scope") {
  const unsigned flush_to_zero = 0x8000, denormals_are_zero = 0x0040;
  const unsigned before = _mm_getcsr();
  for (const unsigned flags : {flush_to_zero, denormals_are_zero, flush_to_zero | denormals_are_zero}) {
    _mm_setcsr(before | flags);
    const bool noticed = !FloatEnvironmentIsCanonical();
    bool canonical_inside;
    {
      const ScopedFloatEnvironment scope;
      canonical_inside = FloatEnvironmentIsCanonical();
    }
    const bool restored = (_mm_getcsr() & flags) == flags;
    _mm_setcsr(before);
    CHECK(noticed);
    CHECK(canonical_inside);
    CHECK(restored);
  }
}
#endif

TEST_CASE("the chosen backend is one of those that run here") {
  const char* forced = std::getenv("Q4_CPU_TARGET");
  const auto backends = AllBackends();
  const KernelTable* expected = backends.back();
  for (const KernelTable* backend : backends) {
    if (forced != nullptr && std::string(forced) == backend->name) expected = backend;
  }
  CHECK(&BestCpuKernels() == expected);
}

}  // namespace q4::testing
