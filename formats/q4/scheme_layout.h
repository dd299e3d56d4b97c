// How a tensor's numbers are stored: the schemes of the container as a table (docs/format.md F3.4). What a scheme is
// called and how its parts lie in a file stands here; what it computes stands in libconvert/scheme/scheme.h. Nothing
// else tells schemes apart.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "formats/base/checked_math.h"

namespace q4 {

// Values are stored in files and never change.
enum class Q4Scheme : std::uint8_t { kRaw = 0, kNf4 = 1, kFp4 = 2 };

// Whether a container may have blocks of this size: a power of two in 32 .. 4096 (section 1 of the index).
constexpr bool IsQ4BlockSize(std::uint64_t block_size) {
  const bool power_of_two = (block_size & (block_size - 1)) == 0;  // asked a hundred thousand times: no bit count
  return block_size >= 32 && block_size <= 4096 && power_of_two;
}

// What describes the codes and scales of a tensor, wherever one is described: in a container, a report, a published
// checkpoint, a job for a kernel. Those structs are derived from this one.
struct QuantFormat {
  Q4Scheme scheme = Q4Scheme::kRaw;
  std::uint32_t block_size = 0;  // elements that share a scale; 0 when the tensor is not quantized
  // The scales are quantized themselves ("double quantization", numerics Q5).
  bool nested = false;

  bool operator==(const QuantFormat&) const = default;
  bool quantized() const { return scheme != Q4Scheme::kRaw; }
  // Blocks of a tensor of `elems` elements; 0 when it is not quantized.
  std::uint64_t BlocksOf(std::uint64_t elems) const { return block_size == 0 ? 0 : CeilDiv(elems, block_size); }
};

// A row of the table.
struct Q4SchemeLayout {
  Q4Scheme scheme;
  // "nf4": on the command line, in recipes, gates, reports and the C interface. "raw" of unquantized tensors.
  std::string_view name;
  // The code of 0.0: it fills the last byte behind an odd number of codes (F3.4), and whole blocks of zeros.
  std::uint8_t zero_code;
};

// Every scheme a container of version 1 may hold, kRaw first, in the order of their values.
std::span<const Q4SchemeLayout> Q4SchemeLayouts();

// The row of a scheme; nullptr when there is none, as for a number that untrusted bytes claim.
const Q4SchemeLayout* FindQ4Layout(Q4Scheme scheme);

// REQUIRES: the scheme is one of Q4SchemeLayouts(), as in every tensor that ValidateQ4Tensor() accepts.
std::string_view Q4SchemeName(Q4Scheme scheme);

}  // namespace q4
