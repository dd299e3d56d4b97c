// A direct-address form of the 255 bounds of the nested scale map (docs/numerics.md Q5.4, Q10.4): the leading bits of t
// select a bucket, whose smallest count is known, and at most two bounds fall inside a bucket.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "kernels/codebook.h"

namespace q4 {

class NestedSearch {
 public:
  // A bucket is a sign, an exponent and five mantissa bits: from 2^-22, below the smallest bound, to 1 and its
  // neighbours.
  static constexpr int kShift = 18;
  static constexpr std::uint32_t kLowest = 0x34800000 >> kShift, kHighest = 0x3F800000 >> kShift;
  static constexpr std::uint32_t kBucketsPerSign = kHighest - kLowest + 1;

  constexpr NestedSearch() {
    for (std::size_t k = 0; k < 255; ++k) bounds_[k] = kNestedBounds[k];
    bounds_[255] = bounds_[256] = bounds_[257] = std::numeric_limits<float>::infinity();
    // Ascending t: negative buckets from the largest magnitude down, then positive ones up.
    std::uint8_t count = 0;
    for (std::uint32_t b = kBucketsPerSign; b-- > 0;) Fill(kBucketsPerSign + b, LowestNegative(b), &count);
    for (std::uint32_t b = 0; b < kBucketsPerSign; ++b) Fill(b, b == 0 ? 0.0f : LowestPositive(b), &count);
  }

  // The bucket of t, given by its sign and magnitude bits.
  static constexpr std::uint32_t Bucket(std::uint32_t sign, std::uint32_t magnitude) {
    const std::uint32_t key = magnitude >> kShift;
    const std::uint32_t clamped = key < kLowest ? kLowest : key > kHighest ? kHighest : key;
    return clamped - kLowest + (sign != 0 ? kBucketsPerSign : 0);
  }

  // The number of bounds strictly below t, which lies in `bucket`.
  constexpr std::uint8_t Count(std::uint32_t bucket, float t) const {
    const std::uint32_t base = counts_[bucket];
    return static_cast<std::uint8_t>(base + (t > bounds_[base]) + (t > bounds_[base + 1]));
  }

  // Whether every bucket holds at most two bounds, so that Count looks at all of them.
  constexpr bool IsExact() const { return most_in_bucket_ <= 2; }

 private:
  static constexpr float LowestPositive(std::uint32_t bucket) {
    return std::bit_cast<float>((bucket + kLowest) << kShift);
  }
  // The most negative t of a bucket. Bucket 0 reaches from 0 to below 2^-22 and beyond by its own width; the topmost
  // one takes everything down to -infinity.
  static constexpr float LowestNegative(std::uint32_t bucket) {
    if (bucket == kBucketsPerSign - 1) return -std::numeric_limits<float>::infinity();
    return -std::bit_cast<float>(((bucket + 1 + kLowest) << kShift) - 1);
  }

  // `count` is the running number of bounds strictly below the lowest t so far.
  constexpr void Fill(std::uint32_t bucket, float lowest, std::uint8_t* count) {
    int passed = 0;
    while (*count < 255 && lowest > bounds_[*count]) {
      ++*count;
      ++passed;
    }
    // What was passed since the bucket before belongs to that one.
    if (passed > most_in_bucket_) most_in_bucket_ = passed;
    counts_[bucket] = *count;
  }

  std::array<float, 258> bounds_{};
  std::array<std::uint8_t, 2 * kBucketsPerSign> counts_{};
  int most_in_bucket_ = 0;
};

inline constexpr NestedSearch kNestedSearch;
static_assert(kNestedSearch.IsExact());

}  // namespace q4
