// What the codes of a quantized weight tell about how they were made. Pure.
//
// Codes carry no name: two bytes of NF4 look like two bytes of FP4. But weights are not random, and encoders leave
// traces. GatherCodeEvidence() counts them in one pass, the Looks...() functions judge the counts.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "libconvert/scheme/scheme.h"

namespace q4 {

// Counts over the first codes of one weight, in whole blocks. The element of largest magnitude of a block gets an
// extreme code from the absmax encoder: 0 or 15 of NF4, 3 or 11 of FP4 (values -1 and 1).
struct CodeEvidence {
  std::uint64_t elems = 0;
  std::array<std::uint64_t, 16> hist{};
  std::uint64_t blocks = 0;                       // whole blocks whose codes are not all zero codes
  std::uint64_t blocks_without_extreme = 0;       // of these
  std::uint64_t half_blocks_without_extreme = 0;  // of their halves
  std::uint64_t extremes = 0;                     // extreme codes in these blocks
  // Correlation of the decoded codes of elements: within a byte, from a byte to the next (adjacent as declared), and
  // of the outer codes of two bytes (three apart as declared; adjacent if the codes of each byte were swapped).
  double within_byte = 0, next_byte = 0, outer = 0;
};

// `codes` are whole bytes of two codes, the first in the high half. REQUIRES: IsBlockSize(block_size).
CodeEvidence GatherCodeEvidence(const Scheme& scheme, std::span<const std::uint8_t> codes, std::uint32_t block_size);

// The judgements. Each is a threshold on counts, chosen so that weights of any distribution that was encoded as
// declared pass; docs/lint.md says how sure each is.

// The codes are symmetric as those of another scheme are, and not as this one's: the code of x and that of -x are used
// about equally often by weights with a symmetric distribution.
bool LooksLikeOtherScheme(const Scheme& scheme, const CodeEvidence& evidence);
// Every half block has an extreme code, where chance would leave many without.
bool LooksLikeSmallerBlocks(const CodeEvidence& evidence, std::uint32_t block_size);
// Neighbours correlate, but across bytes only in the order of swapped codes.
bool LooksSwapped(const CodeEvidence& evidence);

// Stored scales of both signs, as an encoder that searches gives them to a code book that is not its own mirror image:
// either a fair share of each, or over codes that absmax does not choose.
bool LooksLikeSearchedScales(const Scheme& scheme, const CodeEvidence& evidence, std::span<const float> scales);
// Nested scales that decode with the offset 0, while codes and scales are as if each block's largest magnitude had been
// stored as its distance from a mean: the offset was lost. `scales` as they decode.
bool LooksLikeLostOffset(const CodeEvidence& evidence, std::span<const float> scales);

}  // namespace q4
