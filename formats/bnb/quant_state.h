// The description of a bitsandbytes weight: the JSON text of its tensor P.quant_state.bitsandbytes__TYPE. See
// formats/bnb/layout.h for the layout that it belongs to. This is the reading side, of texts that anybody may have
// written; what q4export writes is made in layout.h. weights.h finds the texts in a checkpoint.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "formats/q4/scheme_layout.h"
#include "formats/tensor/tensor.h"

namespace q4 {

// What stands between the weight's name and its type, "nf4" or "fp4", in the name of the tensor with the description.
inline constexpr std::string_view kBnbQuantStateInfix = ".quant_state.bitsandbytes__";
// The most that is read of a description, in bytes; real ones have about 200.
inline constexpr std::uint64_t kBnbQuantStateBytes = 64u << 10;

// A description that was found well-formed: all members are set and within the limits of this project. Scheme, block
// size and whether scales are nested stand in QuantFormat. Whether the tensors of the weight fit it is another
// question: CheckBnbWeight().
struct BnbQuantState : QuantFormat {
  // Of the decoded values: F32, F16 or BF16. The codes themselves are bytes.
  DType dtype = DType::kF32;
  // The logical one, which the shape of the codes' tensor does not tell; `elems` is its product.
  Shape shape;
  std::uint64_t elems = 0;
  // Scales in a group: 256 if the scales are nested, else 0.
  std::uint64_t nested_block_size = 0;
  // The offset of nested scales, as the text has it, else 0. It is rounded to fp32 where it is used.
  double nested_offset = 0;

  // Blocks of the weight, which is the number of its scales.
  std::uint64_t blocks() const { return BlocksOf(elems); }
};

// Parses the description in `text`, with members in any order. nullopt, with the reason in *problem, if the library's
// loader could not use it: unknown members, types, dtypes or block sizes, no JSON. Untrusted: nothing is allocated but
// what the text holds. Leaves *problem empty on success.
std::optional<BnbQuantState> ParseBnbQuantState(std::string_view text, std::string* problem);

// Whether a table of a checkpoint is the one of this project, up to a millionth of each entry: other builds of the
// library print the last digits differently. REQUIRES: as many values.
bool IsSameBnbTable(std::span<const float> got, std::span<const float> expected);

}  // namespace q4
