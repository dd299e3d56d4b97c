// A direct-address form of the 255 bounds of the nested scale map (docs/numerics.md Q5.4, Q10.4): the leading bits of t
// select a bucket, whose smallest count is known, and at most two bounds fall inside a bucket. So two comparisons
// replace 255, or the eight dependent steps of a binary search.
//
// Used by scales_simd.cc and, from a copy in shared memory, by scales_cuda.cu. The scalar kernel compares with every
// bound (NestedCodeOf of numeric.h); tests hold the two against each other.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "kernels/codebook.h"

namespace q4 {

// A constant object: 2 * 705 buckets, each with the count of bounds below its lowest t.
class NestedSearch {
 public:
  // A bucket is a sign, an exponent and five mantissa bits: from 2^-22, below the smallest bound, to 1 and its
  // neighbours. The width is relative, like the distances of the map's values, which crowd around 0.
  static constexpr int kShift = 18;
  static constexpr std::uint32_t kLowest = 0x34800000 >> kShift, kHighest = 0x3F800000 >> kShift;
  // 705: the steps from 2^-22 to 1, both included.
  static constexpr std::uint32_t kBucketsPerSign = kHighest - kLowest + 1;

  // Built by the compiler. The three infinities past the end let Count compare without asking for the end: no t is
  // above them.
  constexpr NestedSearch() {
    for (std::size_t k = 0; k < 255; ++k) bounds_[k] = kNestedBounds[k];
    bounds_[255] = bounds_[256] = bounds_[257] = std::numeric_limits<float>::infinity();
    // Ascending t: negative buckets from the largest magnitude down, then positive ones up.
    std::uint8_t count = 0;
    for (std::uint32_t b = kBucketsPerSign; b-- > 0;) Fill(kBucketsPerSign + b, LowestNegative(b), &count);
    for (std::uint32_t b = 0; b < kBucketsPerSign; ++b) Fill(b, b == 0 ? 0.0f : LowestPositive(b), &count);
  }

  // The bucket of t, given by its sign and magnitude bits. `sign` is zero or not, `magnitude` the bits without the
  // sign. Magnitudes outside the range go to the nearest bucket, which is right because no bound lies out
  // there.
  static constexpr std::uint32_t Bucket(std::uint32_t sign, std::uint32_t magnitude) {
    const std::uint32_t key = magnitude >> kShift;
    const std::uint32_t clamped = key < kLowest ? kLowest : key > kHighest ? kHighest : key;
    return clamped - kLowest + (sign != 0 ? kBucketsPerSign : 0);
  }

  // The number of bounds strictly below t, which lies in `bucket`. NestedCodeOf(t), for any t that is not NaN.
  constexpr std::uint8_t Count(std::uint32_t bucket, float t) const {
    // Bounds base and base + 1 are the only ones that t may pass inside the bucket; those before are below all of it.
    const std::uint32_t base = counts_[bucket];
    return static_cast<std::uint8_t>(base + (t > bounds_[base]) + (t > bounds_[base + 1]));
  }

  // Whether every bucket holds at most two bounds, so that Count looks at all of them. The static_assert below is the
  // proof that the short form is the exact one.
  constexpr bool IsExact() const { return most_in_bucket_ <= 2; }

 private:
  // Smallest t of a bucket of positive numbers.
  static constexpr float LowestPositive(std::uint32_t bucket) {
    return std::bit_cast<float>((bucket + kLowest) << kShift);
  }
  // The most negative t of a bucket. Bucket 0 reaches from 0 to below 2^-22 and beyond by its own width; the topmost
  // one takes everything down to -infinity.
  static constexpr float LowestNegative(std::uint32_t bucket) {
    if (bucket == kBucketsPerSign - 1) return -std::numeric_limits<float>::infinity();
    return -std::bit_cast<float>(((bucket + 1 + kLowest) << kShift) - 1);
  }

  // `count` is the running number of bounds strictly below the lowest t so far. Called for the buckets in ascending
  // order of t.
  constexpr void Fill(std::uint32_t bucket, float lowest, std::uint8_t* count) {
    int passed = 0;
    while (*count < 255 && lowest > bounds_[*count]) {
      ++*count;
      ++passed;
    }
    // The lowest t of this bucket is above all of them.
    // What was passed since the bucket before belongs to that one.
    if (passed > most_in_bucket_) most_in_bucket_ = passed;
    counts_[bucket] = *count;
  }

  // In ascending order; then the counts at each bucket's lowest t, positive buckets first. About 2.4 KiB together: it
  // stays in the L1 cache, and fits shared memory many times.
  std::array<float, 258> bounds_{};
  std::array<std::uint8_t, 2 * kBucketsPerSign> counts_{};
  // For IsExact.
  int most_in_bucket_ = 0;
};

inline constexpr NestedSearch kNestedSearch;
static_assert(kNestedSearch.IsExact());

}  // namespace q4
