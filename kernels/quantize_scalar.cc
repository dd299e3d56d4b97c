// The reference encoder (docs/numerics.md Q3, Q4): read this first.
// Per block: largest magnitude -> scale -> scaled elements -> codes -> nibbles.
// The tail block, the last one of a tensor when it is not full, differs in two ways: it stores the clamped scale, and
// it divides where full blocks multiply with a reciprocal (Q4.3, Q4.4). Both come from bitsandbytes, whose bits these
// are.
#include <algorithm>
#include <cstdint>

#include "kernels/numeric.h"
#include "kernels/scalar_kernels.h"

namespace q4::scalar {
namespace {

struct Block {
  std::uint64_t begin;  // first element
  std::uint64_t size;   // elements; fewer than the block size only in the tail block
};

// Block k of a slab (Q1.3).
Block BlockAt(std::uint64_t k, std::uint64_t n, std::uint32_t block_size) {
  const std::uint64_t begin = k * block_size;
  return {begin, std::min<std::uint64_t>(block_size, n - begin)};
}

// Q4.1: bits of max |x|. At or above kF32Infinity the block holds a NaN or an infinity.
std::uint32_t MaxMagnitude(FloatType type, const void* x, Block block) {
  std::uint32_t max = 0;
  for (std::uint64_t i = 0; i < block.size; ++i)
    // Integers compare as magnitudes do, and a NaN wins: so the maximum also tells whether the block is finite.
    max = std::max(max, MagnitudeBits(LoadElement(type, x, block.begin + i)));
  return max;
}

// Q1.4, for a block that is known to hold one.
std::uint64_t FirstNonFinite(FloatType type, const void* x, Block block) {
  std::uint64_t i = block.begin;
  while (IsFinite(LoadElement(type, x, i))) ++i;
  return i;
}

// Q4.3 or Q4.4, then Q4.6 and Q3.1. A block begins at an even element, so it begins a byte.
void EncodeBlock(FloatType type, CodeBook book, const void* x, Block block, bool is_tail, float a,
                 std::uint8_t* codes) {
  // In a tail block `a` was clamped already, which changes nothing here.
  const float m = ClampTiny(a);
  const float r = Reciprocal(m);
  for (std::uint64_t i = 0; i < block.size; ++i) {
    const float v = LoadElement(type, x, block.begin + i);
    const float t = is_tail ? v / m : v * r;
    const std::uint8_t code = CodeOf(book, t);
    std::uint8_t& byte = codes[(block.begin + i) / 2];
    // The first nibble overwrites the byte, so that `codes` need not be cleared.
    byte = static_cast<std::uint8_t>(i % 2 == 0 ? code << 4 : byte | code);
  }
  if (block.size % 2 != 0) codes[(block.begin + block.size) / 2] |= CodeOf(book, 0.0f);  // Q3.2
}

}  // namespace

std::uint64_t Absmax(FloatType type, const void* x, std::uint64_t n, std::uint32_t block_size, float* scales) {
  for (std::uint64_t k = 0; k < BlockCount(n, block_size); ++k) {
    const Block block = BlockAt(k, n, block_size);
    const std::uint32_t max = MaxMagnitude(type, x, block);
    // The blocks before were finite, so the first bad element of this one is the first of all.
    if (max >= kF32Infinity) return FirstNonFinite(type, x, block);
    const float a = FloatOf(max);
    scales[k] = block.size < block_size ? ClampTiny(a) : a;
  }
  return kAllFinite;
}

std::uint64_t Quantize(FloatType type, CodeBook book, const void* x, std::uint64_t n, std::uint32_t block_size,
                       std::uint8_t* codes, float* scales) {
  // All scales first: nothing is encoded of a slab with a bad element (Q1.4).
  const std::uint64_t first_bad = Absmax(type, x, n, block_size, scales);
  if (first_bad != kAllFinite) return first_bad;
  for (std::uint64_t k = 0; k < BlockCount(n, block_size); ++k) {
    const Block block = BlockAt(k, n, block_size);
    EncodeBlock(type, book, x, block, block.size < block_size, scales[k], codes);
  }
  return kAllFinite;
}

}  // namespace q4::scalar
