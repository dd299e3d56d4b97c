// The rules on numbers: scales, codes, plain values.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "fmt/format.h"
#include "libconvert/lint/codes.h"
#include "libconvert/lint/weights.h"
#include "libconvert/scheme/quant_settings.h"
#include "libconvert/scheme/scheme.h"
#include "libconvert/scheme/slab.h"

namespace q4 {
namespace {

constexpr LintRule kLintScaleNotFinite{
    {6531, ExitCode::kCheckFailed, "scale is NaN or infinite"},
    "scale-not-finite",
    "Every element of the block becomes NaN or infinite, and then every output.",
    "Quantize again from an original without NaN.",
};
constexpr LintRule kLintScalesZero{
    {6532, ExitCode::kCheckFailed, "all scales are zero, but not all codes"},
    "scales-zero",
    "The weight decodes to zero: its scales were never written.",
    "Quantize again.",
};
constexpr LintRule kLintScaleZero{
    {6533, ExitCode::kOk, "zero scale of a block whose codes are not zero"},
    "scale-zero",
    "A block that was not zero decodes to zero.",
    "Compare with the original.",
};
constexpr LintRule kLintScaleNegative{
    {6534, ExitCode::kOk, "negative scale"},
    "scale-negative",
    "The absmax encoder never writes one; some kernels drop the sign.",
    "Fine if an encoder that searches scales wrote it; else compare with the original.",
};
constexpr LintRule kLintValueNotFinite{
    {6537, ExitCode::kOk, "unquantized weight holds NaN or infinity"},
    "value-not-finite",
    "NaN in a norm or an embedding spreads to every output.",
    "Compare with the original.",
};
constexpr LintRule kLintCodeType{
    {6541, ExitCode::kCheckFailed, "codes look like those of the other code book"},
    "code-type",
    "NF4 codes are read as FP4, or the reverse: the model runs and answers nonsense.",
    "Correct the type, or quantize again.",
};
constexpr LintRule kLintBlockWithoutExtreme{
    {6542, ExitCode::kOk, "blocks without the code of their largest element"},
    "block-without-extreme",
    "The absmax encoder gives every block its largest code. Wrong block size, "
    "type or order of codes; or another encoder.",
    "Compare the block size with the one it was quantized with.",
};
constexpr LintRule kLintBlockSmaller{
    {6543, ExitCode::kOk, "codes look like those of a smaller block size"},
    "block-smaller",
    "Every half block has its largest code: the true blocks are smaller.",
    "Compare the block size with the one it was quantized with.",
};
constexpr LintRule kLintNibbleOrder{
    {6544, ExitCode::kOk, "codes look as if the two of a byte were swapped"},
    "nibble-order",
    "Neighbours correlate as if the two codes of each byte were swapped.",
    "Decode some elements and compare with the original.",
};

// Counts, and remembers the first.
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

// Whether the codes of a block are all the same, as those of a block of zeros are.
bool IsUniform(std::span<const std::uint8_t> codes) {
  const std::uint8_t first = codes.front();
  if (first >> 4 != (first & 15)) return false;
  return std::all_of(codes.begin(), codes.end(), [first](std::uint8_t byte) { return byte == first; });
}

void LintZeroScales(std::string_view name, const LintCodes& weight, LintFindings* findings) {
  const std::size_t block_bytes = weight.block_size / 2;
  const std::size_t blocks = std::min(weight.scales.size(), weight.codes.size() / block_bytes);
  PlaceTally zero;
  std::size_t zero_scales = 0;
  for (std::size_t block = 0; block < blocks; ++block) {
    if (weight.scales[block] != 0) continue;
    ++zero_scales;
    if (!IsUniform(weight.codes.subspan(block * block_bytes, block_bytes))) zero.Add(block);
  }
  if (zero.count == 0) return;
  if (zero_scales == blocks) {
    findings->Add(kLintScalesZero, name, fmt::format("{} blocks", blocks));
  } else {
    findings->Add(kLintScaleZero, name, zero.Text(blocks, "block"));
  }
}

}  // namespace

void LintCodesOf(std::string_view name, const LintCodes& weight, LintFindings* findings) {
  LintZeroScales(name, weight, findings);
  const CodeEvidence evidence = GatherCodeEvidence(SchemeOf(weight), weight.codes, weight.block_size);
  if (LooksLikeOtherScheme(SchemeOf(weight), evidence)) {
    findings->Add(kLintCodeType, name,
                  fmt::format("declared {}, {} codes judged", Q4SchemeName(weight.scheme), evidence.elems));
  }
  if (LooksSwapped(evidence)) {
    findings->Add(kLintNibbleOrder, name,
                  fmt::format("correlation {:.3f} inside a byte, {:.3f} to the next, {:.3f} if swapped",
                              evidence.within_byte, evidence.next_byte, evidence.outer));
  }
  if (!weight.absmax_encoder) return;
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
    if (!std::isfinite(scales[i])) {
      not_finite.Add(i);
    } else if (scales[i] < 0) {
      negative.Add(i);
    }
  }
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
