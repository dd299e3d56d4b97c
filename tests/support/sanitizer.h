// Which sanitizer watches this program, and how much of a loop it is given.
#pragma once

#include <cstdlib>

namespace q4::test {

#if defined(__SANITIZE_THREAD__)
inline constexpr bool kThreadSanitizer = true;
#elif defined(__has_feature)
inline constexpr bool kThreadSanitizer = __has_feature(thread_sanitizer);
#else
inline constexpr bool kThreadSanitizer = false;
#endif
#if defined(__SANITIZE_ADDRESS__)
inline constexpr bool kAddressSanitizer = true;
#elif defined(__has_feature)
inline constexpr bool kAddressSanitizer = __has_feature(address_sanitizer);
#else
inline constexpr bool kAddressSanitizer = false;
#endif

// The step of a loop over alike runs, such as one for each call that can fail: 1, all of them. ThreadSanitizer makes
// everything ten times slower or more and looks for nothing but races, which alike runs have alike: there it is
// `thread`, and under AddressSanitizer `address`, unless Q4_EXHAUSTIVE=1 in the environment asks for all (.ci/nightly).
inline int Step(int thread, int address = 1) {
  if (std::getenv("Q4_EXHAUSTIVE") != nullptr) return 1;
  return kThreadSanitizer ? thread : kAddressSanitizer ? address : 1;
}

}  // namespace q4::test
