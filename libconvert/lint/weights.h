// The rules on quantized weights: partners, sizes, scales, codes. Internal to libconvert/lint/.
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
  Shape shape;                // logical
  DType dtype = DType::kF32;  // stored; of a bitsandbytes weight: that its codes pose as
};

// The start of one quantized weight, decoded as far as the rules need it.
struct LintCodes : QuantFormat {
  bool absmax_encoder = true;           // false: known to be another, which need not use extreme codes
  std::span<const std::uint8_t> codes;  // from the first on
  std::span<const float> scales;        // decoded, from the first block on; may be fewer or more than codes' blocks
};
// Judges scales and codes of one weight.
void LintCodesOf(std::string_view name, const LintCodes& weight, LintFindings* findings);

// "3 of 521, the first in block 7": NaN, infinite and, if `sign` is true, negative values among `scales`.
void LintScaleValues(std::string_view name, std::string_view what, std::span<const float> scales, bool sign,
                     LintFindings* findings);

// NaN and infinity among the elements of an F32, F16 or BF16 tensor; whole elements of `bytes`.
void LintPlainValues(const KernelTable& kernels, std::string_view name, DType dtype,
                     std::span<const std::uint8_t> bytes, LintFindings* findings);

// All rules on the tensors of a safetensors checkpoint. Returns its weights, bytewise sorted by name.
absl::StatusOr<std::vector<LintWeight>> LintCheckpointWeights(const KernelTable& kernels, LintFiles* files,
                                                              LintFindings* findings);

}  // namespace q4
