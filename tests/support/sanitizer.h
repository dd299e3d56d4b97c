// Which sanitizer watches this program.
#pragma once

namespace q4::test {

// ThreadSanitizer makes everything ten times slower or more, and looks for nothing but races. What a loop of alike runs
// adds for other reasons (each call that can fail, each kernel target) is tested by the other builds.
#if defined(__SANITIZE_THREAD__)
inline constexpr bool kThreadSanitizer = true;
#elif defined(__has_feature)
inline constexpr bool kThreadSanitizer = __has_feature(thread_sanitizer);
#else
inline constexpr bool kThreadSanitizer = false;
#endif

}  // namespace q4::test
