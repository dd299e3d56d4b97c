// The reference decoder (docs/numerics.md Q6): y = fl(value[code] * scale), rounded once more to a 16-bit output. The
// padding nibble of an odd n is not looked at.
#include <cstdint>

#include "kernels/numeric.h"
#include "kernels/scalar_kernels.h"

namespace q4::scalar {

void Dequantize(CodeBook book, const std::uint8_t* codes, const float* scales, std::uint64_t n,
                std::uint32_t block_size, FloatType out_type, void* out) {
  for (std::uint64_t i = 0; i < n; ++i) {
    StoreElement(out_type, out, i, Decode(book, UnpackCode(codes, i), scales[i / block_size]));
  }
}

}  // namespace q4::scalar
