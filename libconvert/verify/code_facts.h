// What codes and scales alone say of a tensor, without the source: how often each code occurs, the sum of the squares
// of what they decode to, which blocks can be blocks of zeros. Recorded statistics must agree with it, so that nobody
// can change weights and keep the figures by which they are judged.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "formats/q4/container.h"
#include "libconvert/model/decoder.h"

namespace q4 {

// Facts of a part of a tensor, whole blocks of it. Facts of parts add up, in any order but for the last digits of the
// sum.
struct CodeFacts {
  // Elements that were looked at; all of the tensor or nothing can be said.
  std::uint64_t elems = 0;
  std::array<std::uint64_t, 16> hist{};
  // Of y*y (numerics Q8.6), y being code value times scale without its rounding to fp32.
  double sum_y2 = 0;
  // Where a scale is its block's largest magnitude: what S(x*x) is at least, as each full block has one such element,
  // and at most.
  double least_x2 = 0, most_x2 = 0;
  // Elements whose output in the tensor's dtype is infinite (Q8.9).
  std::uint64_t overflow = 0;
  // Full blocks whose scale is 0, or is not and is below TINY; blocks below TINY with the last one.
  std::uint64_t zero_scales = 0, tiny_scales = 0, below_tiny = 0;
  // Blocks that decode to nothing but zeros.
  std::uint64_t zero_decoded = 0;
  // Blocks that the absmax encoder cannot have made: it gives the largest element of each block an outermost code. The
  // first of them, by number in the tensor; only of tensors that name this encoder.
  std::uint64_t no_extreme = 0, first_no_extreme = 0;
  // Blocks whose scale an encoder that searches never writes (numerics Q9.5, Q9.6), the first of them, and why; only of
  // tensors that name such an encoder.
  std::uint64_t never_searched = 0, first_never_searched = 0;
  std::string_view why_never;

  void Add(const CodeFacts& later);
};

// TINY of numerics Q4.2, as the kernels have it.
float TinyScale();

// Looks at `codes` of the tensor, from block `first_block` on, with the decoded scales of its blocks, all finite. The
// chunk ends with a block or with the tensor. About 1.5 ns for a byte of codes.
CodeFacts FactsOf(const Q4Tensor& tensor, std::uint64_t first_block, std::span<const std::uint8_t> codes,
                  const BlockScales& scales);

// What in the recorded statistics contradicts the facts, with what is recorded and what is expected, or "".
// REQUIRES: facts.elems == tensor.elems, tensor.has_stats.
std::string RefutedBy(const Q4Tensor& tensor, const CodeFacts& facts);

// What in codes, scales and offset contradicts the encoder that the tensor names, or "". Needs no statistics.
std::string ImpossibleFor(const Q4Tensor& tensor, const CodeFacts& facts);

}  // namespace q4
