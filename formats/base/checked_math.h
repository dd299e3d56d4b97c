// Arithmetic on sizes, counts and offsets that a file claims, in unsigned 64 bits. Each function that can overflow
// returns false, leaving `*out` unspecified, instead of wrapping. Readers use nothing else on untrusted numbers:
// overflow guarded in one sum and missed in the next is the classic hole of model readers (docs/safety.md).
#pragma once

#include <cstdint>

namespace q4 {

// *out = a + b, a - b, a * b. `out` may point to `a` or `b` of the caller, for these are copies. CheckedSub() fails
// where a < b. The result must be asked (nodiscard) before *out is used.
[[nodiscard]] inline bool CheckedAdd(std::uint64_t a, std::uint64_t b, std::uint64_t* out) {
  return !__builtin_add_overflow(a, b, out);
}

[[nodiscard]] inline bool CheckedSub(std::uint64_t a, std::uint64_t b, std::uint64_t* out) {
  return !__builtin_sub_overflow(a, b, out);
}

[[nodiscard]] inline bool CheckedMul(std::uint64_t a, std::uint64_t b, std::uint64_t* out) {
  return !__builtin_mul_overflow(a, b, out);
}

// The smallest multiple of `alignment` that is >= value; false if that exceeds 64 bits. REQUIRES: alignment is a power
// of two.
[[nodiscard]] inline bool CheckedAlignUp(std::uint64_t value, std::uint64_t alignment, std::uint64_t* out) {
  if (!CheckedAdd(value, alignment - 1, out)) return false;
  *out &= ~(alignment - 1);
  return true;
}

// Whether [offset, offset + bytes) lies inside [0, size). The sum is never formed, so it cannot wrap. An empty range
// fits up to and including `size`.
[[nodiscard]] inline bool RangeFits(std::uint64_t offset, std::uint64_t bytes, std::uint64_t size) {
  return offset <= size && bytes <= size - offset;
}

// Units needed to hold `value`: value / unit, rounded up. Cannot overflow, unlike (value + unit - 1) / unit. REQUIRES:
// unit > 0.
[[nodiscard]] inline std::uint64_t CeilDiv(std::uint64_t value, std::uint64_t unit) {
  return value / unit + (value % unit != 0 ? 1 : 0);
}

}  // namespace q4
