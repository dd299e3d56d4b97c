// The rules on numbers: scales, codes, elements of kept tensors. They need no names and no files, so containers and
// checkpoints share them.
//
// Which rules are errors: a NaN in a scale and a weight without scales ruin every output; codes of another code book
// give a model that runs and answers nonsense. The others are warnings, because a right model may look so.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "fmt/format.h"
#include "formats/base/counted.h"
#include "libconvert/lint/codes.h"
#include "libconvert/lint/weights.h"
#include "libconvert/scheme/quant_settings.h"
#include "libconvert/scheme/scheme.h"
#include "libconvert/scheme/slab.h"

namespace q4 {
namespace {

// An fp16 original whose elements overflowed, or one with a NaN from training, passes through quantizers unnoticed: the
// absmax of such a block is infinite or NaN.
constexpr LintRule kLintScaleNotFinite{
    {6531, ExitCode::kCheckFailed, "scale is NaN or infinite"},
    "scale-not-finite",
    "Every element of the block becomes NaN or infinite, and then every output.",
    "Quantize again from an original without NaN.",
};
// Scales that were allocated and never filled look like this. Single zero scales are another matter: kLintScaleZero.
constexpr LintRule kLintScalesZero{
    {6532, ExitCode::kCheckFailed, "all scales are zero, but not all codes"},
    "scales-zero",
    "The weight decodes to zero: its scales were never written.",
    "Quantize again.",
};
// Rounding may give a nested scale 0 for a block of very small elements, which loses little; hence a warning.
constexpr LintRule kLintScaleZero{
    {6533, ExitCode::kOk, "zero scale of a block whose codes are not zero"},
    "scale-zero",
    "A block that was not zero decodes to zero.",
    "Compare with the original.",
};
// Whoever reads signs as faults is not told of those that an encoder wrote on purpose: kLintScalesSearched.
constexpr LintRule kLintScaleNegative{
    {6534, ExitCode::kOk, "negative scale"},
    "scale-negative",
    "The absmax encoder never writes one, and those that search write many; some kernels drop the sign.",
    "Compare with the original.",
};
// No fault: the decoder multiplies, so that any sign is right (numerics Q9).
constexpr LintRule kLintScalesSearched{
    {6564, ExitCode::kOk,
     "scales of both signs, or nested ones without an offset: written by an encoder that searches"},
    "scales-searched",
    "Legal: every reader of this layout multiplies a code's value by the scale.",
    "Nothing; a kernel that drops the sign would show in the outputs.",
    /*is_info=*/true,
};
// A converter that knows no offset, or wrote another mean. An error although it is a statistic: no encoder writes such
// scales, and what they decode to is no weight.
constexpr LintRule kLintOffsetLost{
    {6565, ExitCode::kCheckFailed, "nested_offset is 0, but scales are stored as distances from a mean"},
    "nested-offset-lost",
    "Scales decode to what they differ by, and the model answers nonsense.",
    "Look for the offset in quant_state of another copy; else quantize again.",
};
// A warning, since masks and buffers that some models store hold infinities on purpose.
constexpr LintRule kLintValueNotFinite{
    {6537, ExitCode::kOk, "unquantized weight holds NaN or infinity"},
    "value-not-finite",
    "NaN in a norm or an embedding spreads to every output.",
    "Compare with the original.",
};
// The type stands in quant_state, in its key and in config.json. A converter that fills them in by itself, or takes
// FP4, the default of transformers, for what was encoded as NF4, makes a model that loads without complaint. An error
// although it is a statistic: thresholds keep far from right weights, and such a model is worthless.
constexpr LintRule kLintCodeType{
    {6541, ExitCode::kCheckFailed, "codes look like those of the other code book"},
    "code-type",
    "NF4 codes are read as FP4, or the reverse: the model runs and answers nonsense.",
    "Correct the type, or quantize again.",
};
// Exact for the absmax encoder. A warning all the same: a checkpoint does not say which encoder wrote it. Older ROCm
// builds of bitsandbytes took blocks of 128 where all others took 64.
constexpr LintRule kLintBlockWithoutExtreme{
    {6542, ExitCode::kOk, "blocks without the code of their largest element"},
    "block-without-extreme",
    "The absmax encoder gives every block its largest code. Wrong block size, "
    "type or order of codes; or another encoder.",
    "Compare the block size with the one it was quantized with.",
};
// The reverse mistake: declared 128, encoded with 64. The number of scales gives most such weights away before
// (kLintScaleCount); this rule finds those whose scales were cut to fit.
constexpr LintRule kLintBlockSmaller{
    {6543, ExitCode::kOk, "codes look like those of a smaller block size"},
    "block-smaller",
    "Every half block has its largest code: the true blocks are smaller.",
    "Compare the block size with the one it was quantized with.",
};
// bitsandbytes, ComfyUI and, for these types, ONNX Runtime put the first element into the high half of a byte (numerics
// Q3.1); compressed-tensors, torchao, ModelOpt and MLX put it into the low half. A converter that copies bytes from one
// to the other swaps every pair.
constexpr LintRule kLintNibbleOrder{
    {6544, ExitCode::kOk, "codes look as if the two of a byte were swapped"},
    "nibble-order",
    "Neighbours correlate as if the two codes of each byte were swapped.",
    "Decode some elements and compare with the original.",
};

// How often something occurs, and where first: a message with every place would be as long as the tensor.
struct PlaceTally {
  std::uint64_t count = 0;
  std::size_t first = 0;
  void Add(std::size_t at) {
    if (count++ == 0) first = at;
  }
  std::string Text(std::size_t of, std::string_view unit) const {
    return fmt::format("{} of {}, the first is {} {}", count, of, unit, first);
  }
};

// Whether the codes of a block are all the same, as those of a block of zeros are. Which code that is depends on the
// writer: with a scale of 0 all of them decode to 0, and some divide 0 by 0 on the way.
bool IsUniform(std::span<const std::uint8_t> codes) {
  const std::uint8_t first = codes.front();
  if (first >> 4 != (first & 15)) return false;
  return std::all_of(codes.begin(), codes.end(), [first](std::uint8_t byte) { return byte == first; });
}

void LintZeroScales(std::string_view name, const LintCodes& weight, LintFindings* findings) {
  const std::size_t block_bytes = weight.block_size / 2;
  // Blocks of which both the scale and all codes were read.
  const std::size_t blocks = std::min(weight.scales.size(), weight.codes.size() / block_bytes);
  PlaceTally zero;
  std::size_t zero_scales = 0;
  for (std::size_t block = 0; block < blocks; ++block) {
    if (weight.scales[block] != 0) continue;
    ++zero_scales;
    if (!IsUniform(weight.codes.subspan(block * block_bytes, block_bytes))) zero.Add(block);
  }
  // Zero scales over uniform codes are blocks of zeros, and right.
  if (zero.count == 0) return;
  if (zero_scales == blocks) {
    findings->Add(kLintScalesZero, name, Counted(blocks, "block"));
  } else {
    findings->Add(kLintScaleZero, name, zero.Text(blocks, "block"));
  }
}

}  // namespace

void LintCodesOf(std::string_view name, const LintCodes& weight, LintFindings* findings) {
  const CodeEvidence evidence = GatherCodeEvidence(SchemeOf(weight), weight.codes, weight.block_size);
  LintEncoder encoder = weight.encoder;
  if (encoder == LintEncoder::kUnknown && weight.nested && weight.offset == 0) {
    // The mean of magnitudes is 0 for zeros alone.
    const bool any = std::any_of(weight.scales.begin(), weight.scales.end(), [](float scale) { return scale != 0; });
    if (any && LooksLikeLostOffset(evidence, weight.scales)) {
      findings->Add(kLintOffsetLost, name, Counted(weight.scales.size(), "scale") + " judged");
    } else if (any) {
      encoder = LintEncoder::kSearching;
      findings->Add(kLintScalesSearched, name, "nested_offset is 0");
    }
  } else if (encoder == LintEncoder::kUnknown && !weight.nested &&
             LooksLikeSearchedScales(SchemeOf(weight), evidence, weight.scales)) {
    encoder = LintEncoder::kSearching;
    const auto negative = std::count_if(weight.scales.begin(), weight.scales.end(), [](float s) { return s < 0; });
    findings->Add(kLintScalesSearched, name, fmt::format("{} of {} negative", negative, weight.scales.size()));
  } else if (encoder == LintEncoder::kUnknown && weight.searched_on_record && !weight.nested) {
    // Nested ones with an offset are absmax' whatever others are.
    encoder = LintEncoder::kSearching;
    findings->Add(kLintScalesSearched, name, "by the record of the export");
  }
  if (!weight.nested) {
    LintScaleValues(name, weight.scale_name, weight.scales, encoder != LintEncoder::kSearching, findings);
  }
  LintZeroScales(name, weight, findings);
  if (LooksLikeOtherScheme(SchemeOf(weight), evidence)) {
    findings->Add(kLintCodeType, name,
                  fmt::format("declared {}, {} codes judged", Q4SchemeName(weight.scheme), evidence.elems));
  }
  // This rule and the one before need no absmax encoder: symmetry and correlation come from the weights.
  if (LooksSwapped(evidence)) {
    findings->Add(kLintNibbleOrder, name,
                  fmt::format("correlation {:.3f} inside a byte, {:.3f} to the next, {:.3f} if swapped",
                              evidence.within_byte, evidence.next_byte, evidence.outer));
  }
  if (encoder == LintEncoder::kSearching) return;
  // A block without an extreme code proves that the blocks are not smaller than declared, hence the else.
  if (evidence.blocks_without_extreme != 0) {
    findings->Add(
        kLintBlockWithoutExtreme, name,
        fmt::format("{} of {} blocks of {}", evidence.blocks_without_extreme, evidence.blocks, weight.block_size));
  } else if (LooksLikeSmallerBlocks(evidence, weight.block_size)) {
    findings->Add(kLintBlockSmaller, name, fmt::format("declared {}", weight.block_size));
  }
}

void LintScaleValues(std::string_view name, std::string_view what, std::span<const float> scales, bool sign,
                     LintFindings* findings) {
  PlaceTally not_finite, negative;
  for (std::size_t i = 0; i < scales.size(); ++i) {
    // Asked first, so that minus infinity is told as infinite and not as negative.
    if (!std::isfinite(scales[i])) {
      not_finite.Add(i);
    } else if (scales[i] < 0) {
      negative.Add(i);
    }
  }
  // "absmax number 7" and not "block 7", because a group scale is not that of a block.
  const std::string unit = std::string(what) + " number";
  if (not_finite.count != 0) findings->Add(kLintScaleNotFinite, name, not_finite.Text(scales.size(), unit));
  if (sign && negative.count != 0) findings->Add(kLintScaleNegative, name, negative.Text(scales.size(), unit));
}

void LintPlainValues(const KernelTable& kernels, std::string_view name, DType dtype,
                     std::span<const std::uint8_t> bytes, LintFindings* findings) {
  if (!IsQuantizable(dtype)) return;
  const std::size_t size = ItemSize(dtype);
  const std::size_t count = bytes.size() / size;
  std::vector<float> values(count);
  kernels.convert(FloatTypeOf(dtype), bytes.data(), count, FloatType::kF32, values.data());
  PlaceTally bad;
  for (std::size_t i = 0; i < count; ++i) {
    if (!std::isfinite(values[i])) bad.Add(i);
  }
  if (bad.count != 0) findings->Add(kLintValueNotFinite, name, bad.Text(count, "element"));
}

}  // namespace q4
