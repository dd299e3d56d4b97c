// A tensor quantized with the absmax encoder and the scalar kernels, as it lies in containers and bitsandbytes files.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/kernels.h"
#include "tests/support/bytes.h"

namespace q4::test {

struct Encoded {
  std::uint64_t first_bad = kAllFinite;  // the first element that is NaN or infinite; the rest is unspecified then
  Bytes codes;
  std::vector<float> scales;  // one a block; where they are nested, as they are decoded again
  // Where the scales are nested:
  Bytes scale_codes;
  std::vector<float> scales2;
  float nested_offset = 0;
};

// `elems` elements of `type` at `x`.
inline Encoded Encode(FloatType type, CodeBook book, const void* x, std::uint64_t elems, std::uint32_t block_size,
                      bool nested) {
  const KernelTable& kernels = ScalarKernels();
  const std::uint64_t blocks = BlockCount(elems, block_size);
  Encoded out;
  out.codes.resize(PackedBytes(elems));
  out.scales.resize(blocks);
  out.first_bad = kernels.quantize(type, book, x, elems, block_size, out.codes.data(), out.scales.data());
  if (out.first_bad != kAllFinite || !nested) return out;
  Sum256 sum;
  sum.Add(out.scales);
  out.nested_offset = NestedOffset(sum.total(), blocks);
  out.scale_codes.resize(blocks);
  out.scales2.resize(GroupCount(blocks));
  kernels.quantize_scales(out.scales.data(), blocks, out.nested_offset, out.scale_codes.data(), out.scales2.data());
  kernels.dequantize_scales(out.scale_codes.data(), out.scales2.data(), blocks, out.nested_offset, out.scales.data());
  return out;
}

}  // namespace q4::test
