// The table of F3.4 as code: which parts, how many raw bytes, how many planes, and F3.5: how they are cut. Q4Tensor's
// own methods stand here because they are this rule and nothing else.
#include "formats/q4/parts.h"

#include <algorithm>

#include "formats/base/checked_math.h"

namespace q4 {
namespace {

// In the order of F3.4, which is that in the file.
constexpr Q4Part kKeptParts[] = {Q4Part::kData};
constexpr Q4Part kFp32Parts[] = {Q4Part::kCodes, Q4Part::kScales};
constexpr Q4Part kNestedParts[] = {Q4Part::kCodes, Q4Part::kScaleCodes, Q4Part::kScales2};

}  // namespace

// The one place that decides this; whoever needs the parts of a tensor asks here.
std::span<const Q4Part> Q4PartKindsOf(const Q4Tensor& tensor) {
  if (!tensor.quantized()) return kKeptParts;
  if (tensor.nested) return kNestedParts;
  return kFp32Parts;
}

// No product here can overflow: elems < 2^48 and an item has at most 8 bytes.
std::uint64_t Q4PartRawBytes(const Q4Tensor& tensor, Q4Part part) {
  switch (part) {
    // The float types of weights are split. Other types are rare, or have no exponent that would repeat.
    case Q4Part::kData:
      return tensor.elems * ItemSize(tensor.dtype);
    case Q4Part::kCodes:
      return CeilDiv(tensor.elems, 2);
    case Q4Part::kScales:
      return tensor.blocks() * sizeof(float);
    case Q4Part::kScaleCodes:
      return tensor.blocks();
    case Q4Part::kScales2:
      return CeilDiv(tensor.blocks(), kQ4BlocksPerGroup) * sizeof(float);
  }
  return 0;
}

// Codes are cut at 2^22 elements, two to a byte: 2 MiB. So a chunk of codes holds exactly one slab.
std::uint64_t Q4ChunkRawSize(Q4Part part) { return part == Q4Part::kCodes ? kQ4ChunkElems / 2 : kQ4ChunkBytes; }

// Only the last chunk of a part is shorter.
std::uint64_t Q4ChunkRawBytes(std::uint64_t raw_bytes, std::uint64_t chunk_size, std::uint64_t chunk) {
  return std::min(chunk_size, raw_bytes - chunk * chunk_size);
}

// The column "planes" of F3.4. Codes of 4 or 8 bits have no significance to sort by.
std::uint8_t Q4PlaneBytes(const Q4Tensor& tensor, Q4Part part) {
  switch (part) {
    case Q4Part::kScales:
    case Q4Part::kScales2:
      return 4;
    // 8- and 64-bit types and integers are not split: their bytes have no exponent that would repeat.
    case Q4Part::kData:
      return IsQuantizable(tensor.dtype) ? static_cast<std::uint8_t>(ItemSize(tensor.dtype)) : 1;
    case Q4Part::kCodes:
    case Q4Part::kScaleCodes:
      break;
  }
  return 1;
}

// An empty part has no chunk, and neither has a tensor without elements.
std::uint64_t Q4ChunkCountOf(const Q4Tensor& tensor) {
  std::uint64_t count = 0;
  for (const Q4Part part : Q4PartKindsOf(tensor)) count += CeilDiv(Q4PartRawBytes(tensor, part), Q4ChunkRawSize(part));
  return count;
}

// Parts follow each other without a gap in the numbering of chunks (F3.2), so first_chunk fixes all of them.
Q4PartList Q4Tensor::parts() const {
  Q4PartList list;
  std::uint64_t chunk = first_chunk;
  for (const Q4Part part : Q4PartKindsOf(*this)) {
    const std::uint64_t raw_bytes = Q4PartRawBytes(*this, part);
    const std::uint64_t chunk_count = CeilDiv(raw_bytes, Q4ChunkRawSize(part));
    list.Add({part, raw_bytes, chunk, chunk_count});
    chunk += chunk_count;
  }
  return list;
}

// Three entries at most, computed anew: cheaper than keeping them for every tensor of an index.
std::optional<Q4PartEntry> Q4Tensor::Part(Q4Part part) const {
  for (const Q4PartEntry& entry : parts()) {
    if (entry.part == part) return entry;
  }
  return std::nullopt;
}

// For messages and reports; no container holds these names.
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
