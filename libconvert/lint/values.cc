// The rules on numbers: scales, codes, plain values.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "fmt/format.h"
#include "libconvert/lint/codes.h"
#include "libconvert/lint/lint_issues.h"
#include "libconvert/lint/weights.h"
#include "libconvert/scheme/quant_settings.h"
#include "libconvert/scheme/scheme.h"
#include "libconvert/scheme/slab.h"

namespace q4 {
namespace {

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

void LintPlainValues(std::string_view name, DType dtype, std::span<const std::uint8_t> bytes, LintFindings* findings) {
  if (!IsQuantizable(dtype)) return;
  const std::size_t size = ItemSize(dtype);
  const std::size_t count = bytes.size() / size;
  std::vector<float> values(count);
  BestCpuKernels().convert(FloatTypeOf(dtype), bytes.data(), count, FloatType::kF32, values.data());
  PlaceTally bad;
  for (std::size_t i = 0; i < count; ++i) {
    if (!std::isfinite(values[i])) bad.Add(i);
  }
  if (bad.count != 0) findings->Add(kLintValueNotFinite, name, bad.Text(count, "element"));
}

}  // namespace q4
