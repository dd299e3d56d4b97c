// What error_stats_simd.cc looks up and how it orders a step: the part that is the same for every SIMD target, and so
// stands outside of the file that Highway compiles once per target.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

#include "kernels/error_stats_block.h"
#include "kernels/error_stats_filter.h"
#include "kernels/numeric.h"

namespace q4 {

inline constexpr std::size_t kMaxBlockSize = 4096;  // elements
inline constexpr std::size_t kStep = 32;            // elements: 16 packed bytes, and every block is a multiple

// The bytes of 16 floats, for lookups by byte shuffles: plane k holds byte k of each.
struct FloatPlanes {
  alignas(16) std::uint8_t plane[4][16];
};

constexpr FloatPlanes PlanesOf(const std::array<float, 16>& floats) {
  FloatPlanes planes{};
  for (std::size_t i = 0; i < 16; ++i) {
    const auto bits = std::bit_cast<std::uint32_t>(floats[i]);
    for (std::size_t k = 0; k < 4; ++k) planes.plane[k][i] = static_cast<std::uint8_t>(bits >> (8 * k));
  }
  return planes;
}

template <CodeBook kBook>
inline constexpr FloatPlanes kValuePlanes = PlanesOf(TablesOf(kBook).values);
template <CodeBook kBook>
inline constexpr FloatPlanes kGapPlanes = PlanesOf(CodesAreRanks(kBook) ? InverseHalfGapsByRank(kBook)
                                                                        : InverseHalfGapsByMagnitude(kBook));

// Table k adds 1 to a byte's low nibble for code 2k and to its high nibble for code 2k + 1.
struct CountingTables {
  alignas(16) std::uint8_t table[8][16];
};

inline constexpr CountingTables kCounting = [] {
  CountingTables tables{};
  for (std::size_t k = 0; k < 8; ++k) {
    tables.table[k][2 * k] = 0x01;
    tables.table[k][2 * k + 1] = 0x10;
  }
  return tables;
}();

// Element i of the slab as a block of its own.
inline StatsBlock OneElement(const StatsBlock& block, std::uint64_t i) {
  StatsBlock one = block;
  one.begin = i;
  one.end = i + 1;
  return one;
}

// Where element i of a step is found once vectors have put it into order (see "Order within a step").
constexpr std::size_t PositionOf(std::size_t i) { return i % 2 * 16 + i / 8 % 2 * 8 + i / 16 * 4 + i / 2 % 4; }

}  // namespace q4
