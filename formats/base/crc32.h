// CRC-32 as zip archives have it (ISO-HDLC: polynomial 0x04C11DB7, reflected, inverted before and after). It finds
// damage, not intent; what q4 writes itself is digested with XXH3 and SHA-256 (digest.h).
#pragma once

#include <cstdint>
#include <span>

namespace q4 {

// The CRC-32 of what `crc` stands for, followed by `bytes`; 0 stands for nothing. So a text may come in pieces. Pure;
// some 2 GB/s.
std::uint32_t Crc32(std::uint32_t crc, std::span<const std::uint8_t> bytes);

}  // namespace q4
