// How the scales of a tensor are spread, gathered chunk by chunk in any order. q4verify prints it in its reports:
// scales that reach over many powers of two tell of outliers, and nested scales lose precision there (numerics Q5.11).
#pragma once

#include <cstdint>
#include <map>
#include <span>

namespace q4 {

// How the decoded scales of a tensor, a layer, a role or a model are spread. A reader of these numbers sees scales as
// they multiply code values, whether they are nested or not.
struct ScaleSpread {
  // Scales in all, zeros included: one for each block.
  std::uint64_t count = 0;
  // Of the scales themselves, not of their magnitudes; both 0 when there are none.
  float min = 0, max = 0;
  // Scales below zero: of encoders that search, which turn a block around where that fits better.
  std::uint64_t negative = 0;
  // The smallest magnitude that is not 0, and the largest; both 0 when all are zero.
  float least_size = 0, greatest_size = 0;
  // The exponent e, and how many scales have 2^e <= |scale| < 2^(e+1). Zeros have no exponent and are counted apart.
  std::map<int, std::uint64_t> by_exponent;
  std::uint64_t zeros = 0;
};

// Adds decoded scales, one of each block. The sign is kept in the extremes and left out of the exponents. REQUIRES: all
// are finite. Costs about one increment a scale.
void AddScales(std::span<const float> scales, ScaleSpread* spread);

// Adds the scales that `from` counted. Counts and extremes do not depend on the order of such calls, so chunks may be
// gathered on several threads and merged in any order.
void AddSpread(const ScaleSpread& from, ScaleSpread* to);

}  // namespace q4
