// Two codes lie in a byte, so that tables of 256 entries serve both at once. Blocks are whole bytes: their sizes are
// multiples of 32, and only the tensor's last byte can hold half a pair.
//
// What is said of zero and tiny blocks depends on what a scale says of its block. Under absmax with fp32 scales it is
// the largest magnitude itself, so that both counts follow exactly, but for a tail block, whose scale is at least TINY
// (Q4.4). Nested scales are off by half a step of their map: there the counts have upper bounds only.
#include "libconvert/verify/code_facts.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <map>

#include "fmt/format.h"
#include "formats/base/status.h"
#include "formats/q4/encoders.h"
#include "libconvert/scheme/scheme.h"
#include "libconvert/scheme/slab.h"

namespace q4 {
namespace {

// Of one code book, by byte of two codes.
struct PairTables {
  explicit PairTables(const Scheme& scheme) {
    const auto values = scheme.code_values();
    const std::uint8_t lowest = scheme.lowest_code(), highest = scheme.highest_code();
    for (std::size_t byte = 0; byte < 256; ++byte) {
      const std::size_t high = byte >> 4, low = byte & 15;
      squares[byte] = double{values[high]} * double{values[high]} + double{values[low]} * double{values[low]};
      const auto marks = [&](std::size_t code) {
        return (values[code] == 0 ? 0 : kNotZero) | (code == lowest || code == highest ? kExtreme : 0);
      };
      flags[byte] = static_cast<std::uint8_t>(marks(high) | marks(low));
    }
  }
  static constexpr int kNotZero = 1, kExtreme = 2;
  std::array<double, 256> squares;
  std::array<std::uint8_t, 256> flags;
};

const PairTables& TablesOf(const Q4Tensor& tensor) {
  static const std::map<Q4Scheme, PairTables> tables = [] {
    std::map<Q4Scheme, PairTables> made;
    for (const Scheme& scheme : Schemes()) made.emplace(scheme.id, PairTables(scheme));
    return made;
  }();
  return tables.at(tensor.scheme);
}

// |y| from which an output of this type is infinite (Q8.9): the midpoint past the largest finite value.
double InfiniteFrom(DType dtype) {
  if (dtype == DType::kF16) return 65520.0;
  return dtype == DType::kBF16 ? 0x1.FFp+127 : std::numeric_limits<double>::infinity();
}

// The largest finite value.
float LargestOf(DType dtype) {
  if (dtype == DType::kF16) return 65504.0f;
  return dtype == DType::kBF16 ? 0x1.FEp+127f : std::numeric_limits<float>::max();
}

// How many of the lower bits of an element of this type are 0 when it is widened.
std::uint32_t EmptyBits(DType dtype) {
  if (dtype == DType::kF16) return 0x1FFF;
  return dtype == DType::kBF16 ? 0xFFFF : 0;
}

// Why an encoder that searches never gives a block this scale; "" if it may. It chooses 16 bits, or keeps the largest
// magnitude as absmax does, which is an element and has an outermost code, unless the encoder moves codes afterwards.
std::string_view NeverSearched(const Q4Tensor& tensor, float scale, bool has_extreme, bool all_zero) {
  if (scale < 0 && SchemeOf(tensor).is_symmetric()) return "a negative scale, which gains nothing with this code book";
  // A decoded one may be anything up to its group's.
  if (tensor.nested) return {};
  const float size = std::fabs(scale);
  if (size > LargestOf(tensor.dtype)) return "a scale beyond the tensor's type";
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(size);
  if (scale < 0 && size < TinyScale()) return "a negative scale of next to nothing";
  if ((bits & 0xFFFF) == 0) return {};
  if (scale < 0) return "a negative scale of more than 16 bits";
  if (size == TinyScale() && all_zero) return {};
  if ((bits & EmptyBits(tensor.dtype)) != 0) return "a scale that is neither of 16 bits nor of the tensor's type";
  if (ProofOf(tensor.encoder).nearest && !has_extreme && size >= TinyScale()) {
    return "a scale of more than 16 bits over codes that are not those of the largest magnitude";
  }
  return {};
}

std::uint8_t CodeIn(std::span<const std::uint8_t> codes, std::uint64_t elem) {
  return codes[elem / 2] >> (elem % 2 == 0 ? 4 : 0) & 15;
}

}  // namespace

float TinyScale() {
  // The scale of a tail block of zeros (Q4.4), whatever the code book.
  static const float tiny = [] {
    const float zero = 0;
    float scale = 0;
    std::uint8_t code = 0;
    ScalarKernels().quantize(FloatType::kF32, Schemes().front().book, &zero, 1, 32, &code, &scale);
    return scale;
  }();
  return tiny;
}

void CodeFacts::Add(const CodeFacts& later) {
  elems += later.elems;
  for (std::size_t code = 0; code < hist.size(); ++code) hist[code] += later.hist[code];
  sum_y2 += later.sum_y2;
  least_x2 += later.least_x2;
  most_x2 += later.most_x2;
  overflow += later.overflow;
  zero_scales += later.zero_scales;
  tiny_scales += later.tiny_scales;
  below_tiny += later.below_tiny;
  zero_decoded += later.zero_decoded;
  if (no_extreme == 0) first_no_extreme = later.first_no_extreme;
  no_extreme += later.no_extreme;
  if (never_searched == 0) {
    first_never_searched = later.first_never_searched;
    why_never = later.why_never;
  }
  never_searched += later.never_searched;
}

CodeFacts FactsOf(const Q4Tensor& tensor, std::uint64_t first_block, std::span<const std::uint8_t> codes,
                  const BlockScales& scales) {
  const PairTables& tables = TablesOf(tensor);
  const std::uint64_t first_elem = first_block * tensor.block_size;
  CodeFacts facts;
  facts.elems = std::min<std::uint64_t>(codes.size() * 2, tensor.elems - first_elem);
  const double infinite_from = InfiniteFrom(tensor.dtype), tiny = TinyScale();
  const bool is_absmax = FindQ4Encoder(tensor.encoder)->absmax_scales;
  const bool is_searching = !is_absmax && tensor.encoder != Q4Encoder::kNone;
  // Four, so that equal bytes in a row do not wait for each other.
  std::array<std::array<std::uint32_t, 256>, 4> pairs{};
  for (std::uint64_t block = 0; block < scales.decoded.size(); ++block) {
    const std::uint64_t begin = block * tensor.block_size;
    const std::uint64_t end = std::min<std::uint64_t>(facts.elems, begin + tensor.block_size);
    const double scale = scales.decoded[block], size = std::fabs(scale);
    double squares = 0, more_squares = 0;
    int flags = 0;
    const std::uint64_t bytes = end / 2;
    std::uint64_t at = begin / 2;
    for (; at + 4 <= bytes; at += 4) {
      const std::uint8_t a = codes[at], b = codes[at + 1], c = codes[at + 2], d = codes[at + 3];
      ++pairs[0][a];
      ++pairs[1][b];
      ++pairs[2][c];
      ++pairs[3][d];
      squares += tables.squares[a] + tables.squares[b];
      more_squares += tables.squares[c] + tables.squares[d];
      flags |= tables.flags[a] | tables.flags[b] | tables.flags[c] | tables.flags[d];
    }
    for (; at < bytes; ++at) {
      ++pairs[0][codes[at]];
      squares += tables.squares[codes[at]];
      flags |= tables.flags[codes[at]];
    }
    squares += more_squares;
    if (end % 2 != 0) {
      const std::uint8_t code = CodeIn(codes, end - 1);
      const float value = CodeValues(CodeBookOf(tensor))[code];
      ++facts.hist[code];
      squares += double{value} * double{value};
      // As a pair with itself.
      flags |= tables.flags[code << 4 | code];
    }
    facts.sum_y2 += squares * (scale * scale);
    const bool is_full = end - begin == tensor.block_size;
    if (is_full) facts.least_x2 += scale * scale;
    facts.most_x2 += static_cast<double>(end - begin) * (scale * scale);
    facts.zero_scales += is_full && scale == 0;
    facts.tiny_scales += is_full && scale != 0 && size < tiny;
    facts.below_tiny += size < tiny;
    const bool all_zero = (flags & PairTables::kNotZero) == 0;
    facts.zero_decoded += all_zero || scale == 0;
    if (size >= infinite_from) {
      for (std::uint64_t i = begin; i < end; ++i) {
        const float y = CodeValues(CodeBookOf(tensor))[CodeIn(codes, i)] * scales.decoded[block];
        facts.overflow += std::fabs(double{y}) >= infinite_from;
      }
    }
    // A block whose largest magnitude is below TINY is coded against TINY. Nested scales are off by half a step of
    // their map, which is less than 0.01 of the group's.
    const double group = tensor.nested ? double{scales.group_scales[block / kScaleGroup]} : 0;
    const bool may_be_tiny = all_zero || size <= tiny + 0.02 * group;
    if (is_absmax && !may_be_tiny && (flags & PairTables::kExtreme) == 0) {
      if (facts.no_extreme++ == 0) facts.first_no_extreme = first_block + block;
    }
    if (is_searching) {
      const std::string_view why =
          NeverSearched(tensor, scales.decoded[block], (flags & PairTables::kExtreme) != 0, all_zero);
      if (!why.empty() && facts.never_searched++ == 0) {
        facts.first_never_searched = first_block + block;
        facts.why_never = why;
      }
    }
  }
  for (const auto& table : pairs) {
    for (std::size_t pair = 0; pair < table.size(); ++pair) {
      facts.hist[pair >> 4] += table[pair];
      facts.hist[pair & 15] += table[pair];
    }
  }
  return facts;
}

std::string RefutedBy(const Q4Tensor& tensor, const CodeFacts& facts) {
  const Q4Stats& stats = *tensor.stats;
  const auto differs = [](std::string_view name, auto got, const auto& expected) {
    return fmt::format("{}: {}", name, GotExpected(fmt::to_string(got), fmt::format("{}", expected)));
  };
  for (std::size_t code = 0; code < facts.hist.size(); ++code) {
    if (stats.hist[code] != facts.hist[code]) {
      return differs(fmt::format("hist[{}]", code), stats.hist[code], facts.hist[code]);
    }
  }
  if (stats.overflow != facts.overflow) return differs("overflow", stats.overflow, facts.overflow);
  // (x - y)^2 = x^2 - 2xy + y^2. Each recorded sum is rounded in its last digits, and y was rounded to fp32.
  const double sum_y2 = stats.sum_e2 - stats.sum_x2 + 2 * stats.sum_xy;
  const double n = static_cast<double>(facts.elems);
  const double room = 1e-6 * facts.sum_y2 + 1e-9 * (stats.sum_e2 + stats.sum_x2 + 2 * std::fabs(stats.sum_xy)) +
                      0x1p-149 * std::sqrt(n * facts.sum_y2) + n * 0x1p-298;  // subnormal y
  // Negated, so that a NaN is one.
  if (!(std::fabs(sum_y2 - facts.sum_y2) <= room)) {
    return differs("sum_e2 - sum_x2 + 2 sum_xy", sum_y2,
                   fmt::format("{} of the squares that are decoded", facts.sum_y2));
  }
  // A block of zeros decodes to zeros, whoever encodes; a tiny one has a scale below TINY.
  if (stats.zero_blocks > facts.zero_decoded) {
    return differs("zero_blocks", stats.zero_blocks, fmt::format("at most {}", facts.zero_decoded));
  }
  if (stats.tiny_blocks > facts.below_tiny) {
    return differs("tiny_blocks", stats.tiny_blocks, fmt::format("at most {}", facts.below_tiny));
  }
  if (FindQ4Encoder(tensor.encoder)->absmax_scales && !tensor.nested) {
    const std::uint64_t tail = tensor.elems % tensor.block_size != 0;
    if (stats.zero_blocks < facts.zero_scales || stats.zero_blocks > facts.zero_scales + tail) {
      return differs("zero_blocks", stats.zero_blocks, facts.zero_scales);
    }
    constexpr double kRounded = 1 + 1e-9;
    if (!(stats.sum_x2 * kRounded >= facts.least_x2 && stats.sum_x2 <= facts.most_x2 * kRounded)) {
      return differs("sum_x2", stats.sum_x2, fmt::format("{} to {}, by the scales", facts.least_x2, facts.most_x2));
    }
    if (stats.tiny_blocks != facts.tiny_scales) return differs("tiny_blocks", stats.tiny_blocks, facts.tiny_scales);
  }
  return {};
}

std::string ImpossibleFor(const Q4Tensor& tensor, const CodeFacts& facts) {
  const Q4EncoderRow& encoder = *FindQ4Encoder(tensor.encoder);
  const bool is_searching = !encoder.absmax_scales && tensor.encoder != Q4Encoder::kNone;
  if (is_searching && tensor.nested && std::bit_cast<std::uint32_t>(tensor.nested_offset) != 0) {
    return fmt::format("nested_offset: {}, as signed scales have no mean",
                       GotExpected(fmt::to_string(tensor.nested_offset), "0"));
  }
  // The mean of magnitudes is 0 for zeros alone.
  if (encoder.absmax_scales && tensor.nested && !(tensor.nested_offset > 0) && facts.below_tiny != tensor.blocks()) {
    return fmt::format("nested_offset: {}",
                       GotExpected(fmt::to_string(tensor.nested_offset), "the mean of magnitudes that are not all 0"));
  }
  if (facts.never_searched != 0) {
    return fmt::format("block {}: {}; {} in all", facts.first_never_searched, facts.why_never, facts.never_searched);
  }
  if (facts.no_extreme == 0) return {};
  return fmt::format("block {}: no code is an outermost one, as {} gives it to the largest element; {} in all",
                     facts.first_no_extreme, Q4EncoderName(tensor.encoder), facts.no_extreme);
}

}  // namespace q4
