// Which parts a tensor has and how they are cut into chunks (F3.4, F3.5): one rule for plan, writer, reader and
// validator. Sizes are computed from the shape everywhere and believed from a file nowhere. Pure.
#pragma once

#include <cstdint>
#include <span>

#include "formats/q4/container.h"

namespace q4 {

// Blocks that share one group scale (F3.4, numerics Q5.3).
inline constexpr std::uint64_t kQ4BlocksPerGroup = 256;

// kData | kCodes, kScales | kCodes, kScaleCodes, kScales2. In the order in which they are stored; the span is static.
std::span<const Q4Part> Q4PartKindsOf(const Q4Tensor& tensor);

// Bytes of the part before compression. Uses elems, dtype, block_size. REQUIRES: ValidateQ4Tensor() holds, so that no
// product can overflow, and the tensor has the part.
std::uint64_t Q4PartRawBytes(const Q4Tensor& tensor, Q4Part part);

// Raw size of every chunk of a part but the last. Embedded files use kQ4ChunkBytes.
std::uint64_t Q4ChunkRawSize(Q4Part part);

// Raw bytes of chunk number `chunk` of a part or file of `raw_bytes` bytes that is cut every `chunk_size` bytes:
// `chunk_size` for all but the last. REQUIRES: chunk * chunk_size < raw_bytes.
std::uint64_t Q4ChunkRawBytes(std::uint64_t raw_bytes, std::uint64_t chunk_size, std::uint64_t chunk);

// Byte planes of a compressed chunk: kScales, kScales2 4; kData the item size of a 16- or 32-bit float, else 1; codes
// 1.
std::uint8_t Q4PlaneBytes(const Q4Tensor& tensor, Q4Part part);

// All chunks of a tensor. REQUIRES: as Q4PartRawBytes.
std::uint64_t Q4ChunkCountOf(const Q4Tensor& tensor);

// "codes", "scales", ...: for messages and reports. Static memory.
const char* Q4PartName(Q4Part part);

}  // namespace q4
