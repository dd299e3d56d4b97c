// The description of a bitsandbytes weight: the JSON text of its tensor P.quant_state.bitsandbytes__TYPE. See
// formats/exchange/bnb.h for the layout it belongs to.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "formats/q4/scheme_layout.h"
#include "formats/tensor/tensor.h"
#include "kernels/kernels.h"

namespace q4 {

inline constexpr std::string_view kBnbQuantStateInfix = ".quant_state.bitsandbytes__";
inline constexpr std::uint64_t kBnbQuantStateBytes = 64u << 10;  // the most that is read; real ones have about 200

struct BnbQuantState : QuantFormat {
  DType dtype = DType::kF32;  // of the decoded values
  Shape shape;                // logical
  std::uint64_t elems = 0;
  std::uint64_t nested_block_size = 0;
  double nested_offset = 0;

  std::uint64_t blocks() const { return BlocksOf(elems); }
};

// The description in `text`, members in any order; nullopt, with the reason in *problem, if a loader could not use it.
// Untrusted: nothing is allocated but what the text holds.
std::optional<BnbQuantState> ParseBnbQuantState(std::string_view text, std::string* problem);

// Whether a table of a checkpoint is ours, up to the last digits, which other builds of the library print differently.
// REQUIRES: as many values.
bool IsSameBnbTable(std::span<const float> got, std::span<const float> expected);

}  // namespace q4
