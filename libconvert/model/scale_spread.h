// How the scales of a tensor are spread (in reports), gathered chunk by chunk in any order.
#pragma once

#include <cstdint>
#include <map>
#include <span>

namespace q4 {

// How the decoded scales of a tensor, group or model are spread.
struct ScaleSpread {
  std::uint64_t count = 0;
  float min = 0, max = 0;                    // of the scales themselves; 0 when there are none
  std::map<int, std::uint64_t> by_exponent;  // e: how many have 2^e <= |scale| < 2^(e+1)
  std::uint64_t zeros = 0;
};

// Adds decoded scales. REQUIRES: all are finite.
void AddScales(std::span<const float> scales, ScaleSpread* spread);

void AddSpread(const ScaleSpread& from, ScaleSpread* to);

}  // namespace q4
