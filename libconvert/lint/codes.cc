// Statistics on codes. docs/lint.md says in words how sure each judgement is; here are the figures behind the
// thresholds. They were chosen so that nothing that was encoded as declared is reported, whatever the distribution of
// the weights. A fault that stays below a threshold is missed, which is the lesser evil: whoever was accused wrongly
// once stops reading warnings.
#include "libconvert/lint/codes.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace q4 {
namespace {

constexpr std::uint64_t kEnoughElems = 4096;  // below, counts say nothing: chance moves correlations by 0.02

// The share of codes that would have to be renamed to make the histogram symmetric under x -> -x: 0 symmetric, 1 not at
// all. NF4 has no mirror image of its zero and unequal steps, so its symmetric data do not give 0.
double Asymmetry(const Scheme& scheme, const CodeEvidence& evidence) {
  // Codes 0 to 7 have their mirror images among 8 to 15 in both code books, so each pair is met once.
  std::uint64_t difference = 0;
  for (std::uint8_t code = 0; code < 8; ++code) {
    const std::uint64_t a = evidence.hist[code];
    const std::uint64_t b = evidence.hist[scheme.mirror(code)];
    difference += a > b ? a - b : b - a;
  }
  return evidence.elems == 0 ? 0 : static_cast<double>(difference) / static_cast<double>(evidence.elems);
}

// A correlation coefficient, summed up pair by pair. Code values lie between -1 and 1 and there are at most 4 Mi of
// them, so that sums in double lose nothing that matters.
class Correlation {
 public:
  void Add(double x, double y) {
    ++n_;
    x_ += x, y_ += y, xx_ += x * x, yy_ += y * y, xy_ += x * y;
  }
  double Value() const {
    if (n_ == 0) return 0;
    const double n = static_cast<double>(n_);
    // Zero for constant codes: they correlate with nothing, and the quotient would be NaN.
    const double spread = std::sqrt((xx_ - x_ * x_ / n) * (yy_ - y_ * y_ / n));
    return spread > 0 ? (xy_ - x_ * y_ / n) / spread : 0;
  }

 private:
  std::uint64_t n_ = 0;
  double x_ = 0, y_ = 0, xx_ = 0, yy_ = 0, xy_ = 0;
};

// Half a block.
struct RunOfCodes {
  std::uint64_t extremes = 0;
  bool not_zero = false;  // any code
};
RunOfCodes Look(const Scheme& scheme, std::span<const std::uint8_t> bytes) {
  const auto values = scheme.code_values();
  const std::uint8_t lowest = scheme.lowest_code(), highest = scheme.highest_code();
  RunOfCodes run;
  for (const std::uint8_t byte : bytes) {
    for (const std::uint8_t code : {static_cast<std::uint8_t>(byte >> 4), static_cast<std::uint8_t>(byte & 15)}) {
      run.extremes += code == lowest || code == highest;
      run.not_zero |= values[code] != 0;
    }
  }
  return run;
}

}  // namespace

CodeEvidence GatherCodeEvidence(const Scheme& scheme, std::span<const std::uint8_t> codes, std::uint32_t block_size) {
  CodeEvidence evidence;
  evidence.elems = 2 * codes.size();
  const auto values = scheme.code_values();
  Correlation within, next, outer;
  for (std::size_t i = 0; i < codes.size(); ++i) {
    const double high = values[codes[i] >> 4], low = values[codes[i] & 15];
    ++evidence.hist[codes[i] >> 4];
    ++evidence.hist[codes[i] & 15];
    within.Add(high, low);
    if (i + 1 == codes.size()) break;
    next.Add(low, values[codes[i + 1] >> 4]);
    outer.Add(high, values[codes[i + 1] & 15]);
  }
  evidence.within_byte = within.Value();
  evidence.next_byte = next.Value();
  evidence.outer = outer.Value();

  // Half a block has block_size / 2 elements, two in a byte. A last block that is not whole is left out: it has fewer
  // elements, and padding perhaps.
  const std::size_t half_bytes = block_size / 4;
  for (std::size_t at = 0; at + 2 * half_bytes <= codes.size(); at += 2 * half_bytes) {
    const RunOfCodes first = Look(scheme, codes.subspan(at, half_bytes));
    const RunOfCodes second = Look(scheme, codes.subspan(at + half_bytes, half_bytes));
    // The encoder gives a block of zeros zero codes, which has no largest element.
    if (!first.not_zero && !second.not_zero) continue;
    ++evidence.blocks;
    evidence.extremes += first.extremes + second.extremes;
    evidence.blocks_without_extreme += first.extremes + second.extremes == 0;
    evidence.half_blocks_without_extreme +=
        static_cast<std::uint64_t>(first.extremes == 0) + static_cast<std::uint64_t>(second.extremes == 0);
  }
  return evidence;
}

bool LooksLikeOtherScheme(const Scheme& scheme, const CodeEvidence& evidence) {
  if (evidence.elems < kEnoughElems) return false;
  // Normal, uniform, Laplace and t-distributed weights: 0.00 to 0.01 for FP4 read as FP4, 0.24 to 0.37 read as NF4;
  // 0.04 to 0.19 for NF4 read as NF4, 0.28 to 0.71 read as FP4. So 0.2 separates right from wrong. What is skewed or
  // sparse is so for both code books: the factor 0.4 asks that the other one fits clearly better, and these weights
  // stay unreported.
  const double declared = Asymmetry(scheme, evidence);
  if (declared <= 0.2) return false;
  return std::any_of(Schemes().begin(), Schemes().end(), [&](const Scheme& other) {
    return other.id != scheme.id && Asymmetry(other, evidence) < 0.4 * declared;
  });
}

// If the declared size is right, each block has its largest element in one half, and the other half has an extreme code
// only by chance. If the true blocks are half as large or smaller, every half has one. Blocks that are truly larger
// show in another way: some declared blocks have no extreme code at all.
bool LooksLikeSmallerBlocks(const CodeEvidence& evidence, std::uint32_t block_size) {
  if (evidence.elems < kEnoughElems || evidence.half_blocks_without_extreme != 0) return false;
  const double half_size = block_size / 2.0;
  const double half_blocks = 2 * static_cast<double>(evidence.blocks);
  const double share = static_cast<double>(evidence.extremes) / std::max(1.0, half_blocks * half_size);
  // The number of halves that would have none if extreme codes were strewn at their frequency. With 20 expected, none
  // at all has a probability of e^-20, 2 in 10^9. Where extreme codes are so frequent that fewer are expected, nothing
  // can be said.
  return half_blocks * std::pow(1 - share, half_size) > 20;
}

bool LooksSwapped(const CodeEvidence& evidence) {
  if (evidence.elems < kEnoughElems) return false;
  // The correlation of n independent pairs strays around 0 by 1 / sqrt(n). There are elems / 2 bytes; eight times that
  // is no chance, even over all weights of a large model.
  const double noise = 8 / std::sqrt(static_cast<double>(evidence.elems) / 2);
  const double within = std::fabs(evidence.within_byte), next = std::fabs(evidence.next_byte),
               outer = std::fabs(evidence.outer);
  // Let neighbours correlate by r and elements three apart by less. In the declared order, `within` and `next` are
  // about r and `outer` is less. With the codes of each byte swapped, `within` and `outer` are about r and `next` is
  // less. The factors 0.75 and 0.25 say "less" and "about" for correlations that fall off slowly, as in smooth weights.
  return outer - next > noise && next < 0.75 * outer && within > noise && std::fabs(within - outer) < 0.25 * within &&
         std::signbit(evidence.within_byte) == std::signbit(evidence.outer);
}

// The encoder mse turns about half of the blocks of symmetric weights around, of weights of one sign 0.4 to 2 %. Its
// negative scales have the upper 16 bits alone (numerics Q9.5), and some blocks no extreme code, but of the most even
// weights, which are seldom of one sign; codes under a scale of absmax whose sign was flipped have one in every block.
bool LooksLikeSearchedScales(const Scheme& scheme, const CodeEvidence& evidence, std::span<const float> scales) {
  std::uint64_t negative = 0;
  for (const float scale : scales) {
    if (!(scale < 0)) continue;
    ++negative;
    if ((std::bit_cast<std::uint32_t>(scale) & 0xFFFF) != 0) return false;
  }
  // A code book with a mirror image for every value has nothing to gain.
  if (scheme.is_symmetric() || negative == 0) return false;
  const std::uint64_t few = scales.size() / 8;
  return evidence.blocks_without_extreme != 0 || (negative >= few && negative <= scales.size() - few);
}

// Distances from a mean lie around 0: of normal ones, 40 % are below a fifth of the largest of 256. Scales of blocks
// lie around their typical size with either sign, but of weights with heavy tails; of these mse leaves 0.2 % of the
// blocks at least without an extreme code (Student's t with 2 to 4 degrees of freedom), absmax none.
bool LooksLikeLostOffset(const CodeEvidence& evidence, std::span<const float> scales) {
  if (evidence.blocks < 4096 || evidence.blocks_without_extreme != 0) return false;
  std::uint64_t small = 0, positive = 0, negative = 0;
  for (std::size_t group = 0; group < scales.size(); group += kScaleGroup) {
    const std::span<const float> of_group = scales.subspan(group, std::min(kScaleGroup, scales.size() - group));
    float largest = 0;
    for (const float scale : of_group) largest = std::max(largest, std::fabs(scale));
    for (const float scale : of_group) {
      small += std::fabs(scale) < 0.2f * largest;
      positive += scale > 0;
      negative += scale < 0;
    }
  }
  return small * 10 > scales.size() && positive * 8 > scales.size() && negative * 8 > scales.size();
}

}  // namespace q4
