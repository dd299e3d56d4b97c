// The reference conversion between element types: widen exactly, round once (docs/numerics.md Q1.2, Q6.1).
#include <cstdint>
#include <cstring>

#include "kernels/numeric.h"
#include "kernels/scalar_kernels.h"

namespace q4::scalar {

std::uint64_t Convert(FloatType in_type, const void* x, std::uint64_t n, FloatType out_type, void* out) {
  if (in_type == out_type) {  // bit for bit, NaNs included
    if (n > 0) std::memcpy(out, x, n * FloatSize(in_type));
    return 0;
  }
  std::uint64_t overflows = 0;
  for (std::uint64_t i = 0; i < n; ++i) {
    const float v = LoadElement(in_type, x, i);
    StoreElement(out_type, out, i, v);
    // Counted, so that a converter can refuse a narrower dtype which would turn numbers into infinities.
    overflows += IsFinite(v) && IsInfinite(RoundTo(out_type, v));
  }
  return overflows;
}

}  // namespace q4::scalar
