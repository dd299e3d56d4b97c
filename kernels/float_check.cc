// The floating-point environment the arithmetic needs (docs/numerics.md Q10.2): round to nearest even, subnormals kept.
// A host program, a library loaded with -ffast-math or a GPU runtime can change it for a thread.
// Two questions are asked, what the control register says and what arithmetic does, because an emulator or a compiler
// could make them differ. To set the environment is to write the register.
#include <cstdint>
#include <limits>

#include "kernels/kernels.h"

#if defined(__x86_64__) || defined(_M_X64)
#include <xmmintrin.h>
#endif

namespace q4 {
namespace {

#if defined(__x86_64__) || defined(_M_X64)

// MXCSR. Exceptions are masked as well: an inexact result must not trap.
constexpr std::uint64_t kFlushToZero = 1u << 15, kRounding = 3u << 13, kExceptionMasks = 0x3Fu << 7,
                        kDenormalsAreZero = 1u << 6;
constexpr std::uint64_t kMustBeClear = kFlushToZero | kRounding | kDenormalsAreZero;
constexpr std::uint64_t kMustBeSet = kExceptionMasks;

std::uint64_t ReadControl() { return _mm_getcsr(); }
void WriteControl(std::uint64_t control) { _mm_setcsr(static_cast<unsigned>(control)); }

#elif defined(__aarch64__)

// FPCR: flush-to-zero in its three forms, default NaN, rounding mode, trap enables.
constexpr std::uint64_t kFlushInputs = 1u << 0, kAlternateHandling = 1u << 1, kFlushHalf = 1u << 19,
                        kRounding = 3u << 22, kFlushToZero = 1u << 24, kDefaultNan = 1u << 25, kTraps = 0x9Fu << 8;
constexpr std::uint64_t kMustBeClear =
    kFlushInputs | kAlternateHandling | kFlushHalf | kRounding | kFlushToZero | kDefaultNan | kTraps;
constexpr std::uint64_t kMustBeSet = 0;

std::uint64_t ReadControl() {
  std::uint64_t control;
  __asm__ __volatile__("mrs %0, fpcr" : "=r"(control));
  return control;
}
void WriteControl(std::uint64_t control) { __asm__ __volatile__("msr fpcr, %0" : : "r"(control)); }

#else
#error "kernels/float_check.cc does not know this architecture's floating-point control register"
#endif

// The register says what is asked for; this says what happens. `volatile` keeps the compiler from computing it.
bool ProbeIsCanonical() {
  volatile float smallest_normal = std::numeric_limits<float>::min();
  volatile float smallest_subnormal = std::numeric_limits<float>::denorm_min();
  volatile float one = 1.0f, half_ulp = std::numeric_limits<float>::epsilon() / 2;
  // Not zero unless subnormal results, or subnormal operands, are flushed.
  const float flushed_output = smallest_normal * 0.5f;
  const float flushed_input = smallest_subnormal * 0x1p+100f;
  // Ties tell the rounding mode: to even, the first two go back to 1 and the third goes up. Every other mode gets one
  // of them wrong.
  const float tie_down = one + half_ulp;
  const float negative_tie_down = -one - half_ulp;
  const float tie_up = (one + 2 * half_ulp) + half_ulp;
  return flushed_output != 0 && flushed_input != 0 && tie_down == 1.0f && negative_tie_down == -1.0f &&
         tie_up == 1.0f + 2 * std::numeric_limits<float>::epsilon();
}

}  // namespace

bool FloatEnvironmentIsCanonical() { return (ReadControl() & kMustBeClear) == 0 && ProbeIsCanonical(); }

ScopedFloatEnvironment::ScopedFloatEnvironment() : saved_(ReadControl()) {
  // Other bits, such as the flags of past exceptions, stay as they are.
  WriteControl((saved_ & ~kMustBeClear) | kMustBeSet);
}

ScopedFloatEnvironment::~ScopedFloatEnvironment() { WriteControl(saved_); }

}  // namespace q4
