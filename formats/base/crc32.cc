// Eight bytes at a time: the tables hold what a byte means that is followed by 0 to 7 others, so that the eight are
// looked up independently of each other and only their sum goes on.
#include "formats/base/crc32.h"

#include <array>
#include <cstddef>

namespace q4 {
namespace {

constexpr std::size_t kStep = 8;
using CrcTables = std::array<std::array<std::uint32_t, 256>, kStep>;

constexpr CrcTables MakeCrcTables() {
  CrcTables tables{};
  for (std::uint32_t byte = 0; byte < 256; ++byte) {
    std::uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0xEDB88320u : 0u);
    tables[0][byte] = crc;
  }
  for (std::size_t after = 1; after < kStep; ++after) {
    for (std::size_t byte = 0; byte < 256; ++byte) {
      const std::uint32_t crc = tables[after - 1][byte];
      tables[after][byte] = (crc >> 8) ^ tables[0][crc & 0xFF];
    }
  }
  return tables;
}

constexpr CrcTables kCrcTables = MakeCrcTables();

}  // namespace

std::uint32_t Crc32(std::uint32_t crc, std::span<const std::uint8_t> bytes) {
  crc = ~crc;
  std::size_t i = 0;
  for (; i + kStep <= bytes.size(); i += kStep) {
    const std::uint8_t* at = bytes.data() + i;
    // Byte by byte, so that the order of the machine's bytes does not matter.
    const std::uint32_t low = crc ^ (static_cast<std::uint32_t>(at[0]) | static_cast<std::uint32_t>(at[1]) << 8 |
                                     static_cast<std::uint32_t>(at[2]) << 16 | static_cast<std::uint32_t>(at[3]) << 24);
    crc = kCrcTables[7][low & 0xFF] ^ kCrcTables[6][low >> 8 & 0xFF] ^ kCrcTables[5][low >> 16 & 0xFF] ^
          kCrcTables[4][low >> 24] ^ kCrcTables[3][at[4]] ^ kCrcTables[2][at[5]] ^ kCrcTables[1][at[6]] ^
          kCrcTables[0][at[7]];
  }
  for (; i < bytes.size(); ++i) crc = (crc >> 8) ^ kCrcTables[0][(crc ^ bytes[i]) & 0xFF];
  return ~crc;
}

}  // namespace q4
