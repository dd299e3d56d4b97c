#include "formats/q4/parts.h"

#include <algorithm>

#include "formats/base/checked_math.h"

namespace q4 {
namespace {

constexpr Q4Part kRawParts[] = {Q4Part::kData};
constexpr Q4Part kPlainParts[] = {Q4Part::kCodes, Q4Part::kScales};
constexpr Q4Part kNestedParts[] = {Q4Part::kCodes, Q4Part::kScaleCodes, Q4Part::kScales2};

constexpr std::uint64_t kBlocksPerScale2 = 256;  // Q5.3

}  // namespace

std::span<const Q4Part> Q4PartsOf(const Q4Tensor& tensor) {
  if (!tensor.quantized()) return kRawParts;
  if (tensor.nested) return kNestedParts;
  return kPlainParts;
}

// No product here can overflow: elems < 2^48 and an item has at most 8 bytes.
std::uint64_t Q4PartRawBytes(const Q4Tensor& tensor, Q4Part part) {
  switch (part) {
    case Q4Part::kData:
      return tensor.elems * ItemSize(tensor.dtype);
    case Q4Part::kCodes:
      return CeilDiv(tensor.elems, 2);
    case Q4Part::kScales:
      return tensor.blocks() * sizeof(float);
    case Q4Part::kScaleCodes:
      return tensor.blocks();
    case Q4Part::kScales2:
      return CeilDiv(tensor.blocks(), kBlocksPerScale2) * sizeof(float);
  }
  return 0;
}

std::uint64_t Q4ChunkRawSize(Q4Part part) { return part == Q4Part::kCodes ? kQ4ChunkElems / 2 : kQ4ChunkBytes; }

std::uint64_t Q4ChunkRawBytes(std::uint64_t raw_bytes, std::uint64_t chunk_size, std::uint64_t chunk) {
  return std::min(chunk_size, raw_bytes - chunk * chunk_size);
}

std::uint8_t Q4PlaneBytes(const Q4Tensor& tensor, Q4Part part) {
  switch (part) {
    case Q4Part::kScales:
    case Q4Part::kScales2:
      return 4;
    case Q4Part::kData:
      return IsQuantizable(tensor.dtype) ? static_cast<std::uint8_t>(ItemSize(tensor.dtype)) : 1;
    case Q4Part::kCodes:
    case Q4Part::kScaleCodes:
      break;
  }
  return 1;
}

std::uint64_t Q4ChunkCountOf(const Q4Tensor& tensor) {
  std::uint64_t count = 0;
  for (const Q4Part part : Q4PartsOf(tensor)) count += CeilDiv(Q4PartRawBytes(tensor, part), Q4ChunkRawSize(part));
  return count;
}

Q4PartList Q4Tensor::parts() const {
  Q4PartList list;
  std::uint64_t chunk = first_chunk;
  for (const Q4Part part : Q4PartsOf(*this)) {
    const std::uint64_t raw_bytes = Q4PartRawBytes(*this, part);
    const std::uint64_t chunk_count = CeilDiv(raw_bytes, Q4ChunkRawSize(part));
    list.Add({part, raw_bytes, chunk, chunk_count});
    chunk += chunk_count;
  }
  return list;
}

std::optional<Q4PartEntry> Q4Tensor::Part(Q4Part part) const {
  for (const Q4PartEntry& entry : parts()) {
    if (entry.part == part) return entry;
  }
  return std::nullopt;
}

const char* Q4PartName(Q4Part part) {
  switch (part) {
    case Q4Part::kData:
      return "data";
    case Q4Part::kCodes:
      return "codes";
    case Q4Part::kScales:
      return "scales";
    case Q4Part::kScaleCodes:
      return "scale codes";
    case Q4Part::kScales2:
      return "nested scales";
  }
  return "";
}

}  // namespace q4
