// The rules on quantized weights: partners, sizes, scales, codes. Internal to libconvert/lint/.
//
// values.cc has those on numbers, which hold for containers and checkpoints alike; weights.cc those on the tensors of a
// safetensors checkpoint.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "formats/q4/scheme_layout.h"
#include "formats/tensor/tensor.h"
#include "kernels/kernels.h"
#include "libconvert/lint/files.h"
#include "libconvert/lint/findings.h"

namespace q4 {

// A weight as the rules on config.json see it.
struct LintWeight : QuantFormat {
  std::string name;
  Shape shape;                // logical, not that of the packed codes
  DType dtype = DType::kF32;  // stored; of a bitsandbytes weight: that its codes pose as
};

// Who chose scales and codes. kUnknown: nobody of ours, as far as it is known; judged by what they look like.
enum class LintEncoder : std::uint8_t { kUnknown, kAbsmax, kSearching };

// The start of one quantized weight, decoded as far as the rules need it. Owns nothing. Codes and scales begin at the
// first block and may end at different ones, because each has a limit of its own; what both have is judged.
struct LintCodes : QuantFormat {
  LintEncoder encoder = LintEncoder::kUnknown;
  std::string_view scale_name;          // what an fp32 scale is called in the format
  float offset = 0;                     // of nested scales
  bool searched_on_record = false;      // of kUnknown: it is written beside it that an encoder searched some weights
  std::span<const std::uint8_t> codes;  // whole bytes of two codes; without a byte that has padding
  std::span<const float> scales;        // decoded, from the first block on; may be fewer or more than codes' blocks
};
// Judges scales and codes of one weight and adds what is wrong to *findings; of nested scales not those that they are
// decoded from. REQUIRES: weight.quantized().
void LintCodesOf(std::string_view name, const LintCodes& weight, LintFindings* findings);

// Adds findings for NaN, infinite and, if `sign` is true, negative values among `scales`, with their number and the
// first: "3 of 521, the first is absmax number 7". `what` is what such a scale is called in the format.
void LintScaleValues(std::string_view name, std::string_view what, std::span<const float> scales, bool sign,
                     LintFindings* findings);

// Adds a finding for NaN and infinity among the elements of a kept tensor. `bytes` are whole elements of `dtype`,
// little endian; a dtype other than F32, F16 and BF16 is not judged. Takes memory for as many fp32 values.
void LintPlainValues(const KernelTable& kernels, std::string_view name, DType dtype,
                     std::span<const std::uint8_t> bytes, LintFindings* findings);

// All rules on the tensors of a safetensors checkpoint. Returns its weights, bytewise sorted by name: quantized ones as
// logical tensors, kept ones as they are; those that cannot be decoded are absent. `searched`: it is on record that an
// encoder that searches chose their scales. Errors: I/O errors (exit code 2).
absl::StatusOr<std::vector<LintWeight>> LintCheckpointWeights(const KernelTable& kernels, bool searched,
                                                              LintFiles* files, LintFindings* findings);

}  // namespace q4
