#include "libconvert/load/slice.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "fmt/format.h"
#include "formats/base/checked_math.h"
#include "formats/base/status.h"
#include "formats/q4/parts.h"
#include "libconvert/load/load_issues.h"

namespace q4 {
namespace {

// How a part stores elements: `bytes` for each `elems` of them, the last ones rounded up.
struct PartUnit {
  std::uint64_t elems, bytes;
};

PartUnit UnitOf(const Q4Tensor& tensor, Q4Part part) {
  switch (part) {
    case Q4Part::kData:
      return {1, ItemSize(tensor.dtype)};
    case Q4Part::kCodes:
      return {2, 1};
    case Q4Part::kScales:
      return {tensor.block_size, sizeof(float)};
    case Q4Part::kScaleCodes:
      return {tensor.block_size, 1};
    case Q4Part::kScales2:
      return {kQ4BlocksPerGroup * tensor.block_size, sizeof(float)};
  }
  return {1, 1};
}

// Elements to bytes. Borders are multiples of the unit, or the tensor's end, where the last unit is not full. The
// distance of runs counts only where there are several, and then it is a multiple too.
Runs InBytes(const Runs& elems, const PartUnit& unit) {
  const auto bytes = [&](std::uint64_t n) { return CeilDiv(n, unit.elems) * unit.bytes; };
  Runs runs = {elems.count, bytes(elems.first), 0, bytes(elems.stride)};
  runs.length = bytes(elems.first + elems.length) - runs.first;
  return runs;
}

// What the message of a slice that cuts blocks says beside that.
std::string WhatCanBeHad(const Q4Tensor& tensor, const Runs& elems, std::uint64_t extent, std::uint64_t inner) {
  std::string text;
  if (elems.count > 1 && elems.stride % tensor.block_size != 0) {
    text = fmt::format("no slice of this dimension is exact, as its {} elements are no whole number of blocks",
                       elems.stride);
  } else {
    // With `inner` elements to an index, every so many indices make whole blocks.
    const std::uint64_t step = tensor.block_size / std::gcd<std::uint64_t>(tensor.block_size, inner);
    text = fmt::format("begin and end must be multiples of {}", step);
    if (extent % step == 0) {
      text += fmt::format("; equal parts can be had for every number that divides {}", extent / step);
    } else {
      text += fmt::format(", or the end be {}", extent);
    }
  }
  std::uint32_t smaller = tensor.block_size / 2;
  while (IsQ4BlockSize(smaller) && !elems.Borders(smaller, tensor.elems)) smaller /= 2;
  if (IsQ4BlockSize(smaller)) text += fmt::format("; converted with block size {} this slice would be exact", smaller);
  return text + "; the whole tensor can be loaded";
}

}  // namespace

std::uint64_t Runs::Before(std::uint64_t position) const {
  if (position <= first || count == 0) return 0;
  const std::uint64_t run = (position - first) / stride;
  return run >= count ? total() : run * length + std::min(length, (position - first) % stride);
}

bool Runs::Borders(std::uint64_t unit, std::uint64_t end) const {
  return first % unit == 0 && ((first + length) % unit == 0 || first + length == end) &&
         (count <= 1 || stride % unit == 0);
}

Runs AllOf(std::uint64_t members) { return members == 0 ? Runs{} : Runs{1, 0, members, members}; }

absl::StatusOr<Runs> RunsOfSlice(const Q4Tensor& tensor, const LoadSlice& slice, const std::string& path,
                                 Shape* shape) {
  const std::string where =
      fmt::format("tensor '{}', dimension {}, [{}, {})", tensor.name, slice.dim, slice.begin, slice.end);
  if (slice.dim >= tensor.shape.size()) {
    return Fail(kLoadSlice, path, where,
                GotExpected(fmt::format("dimension {}", slice.dim),
                            fmt::format("one of the {} of shape {}", tensor.shape.size(), ShapeString(tensor.shape))));
  }
  const std::uint64_t extent = tensor.shape[slice.dim];
  if (slice.begin >= slice.end || slice.end > extent) {
    return Fail(kLoadSlice, path, where,
                GotExpected(fmt::format("[{}, {})", slice.begin, slice.end),
                            fmt::format("begin < end <= {} of shape {}", extent, ShapeString(tensor.shape))));
  }
  *shape = tensor.shape;
  (*shape)[slice.dim] = slice.end - slice.begin;
  if (tensor.elems == 0) return Runs{};
  // No product can overflow: all divide the number of elements.
  std::uint64_t outer = 1, inner = 1;
  for (std::size_t i = 0; i < tensor.shape.size(); ++i) {
    if (i < slice.dim) outer *= tensor.shape[i];
    if (i > slice.dim) inner *= tensor.shape[i];
  }
  Runs runs = {outer, slice.begin * inner, (slice.end - slice.begin) * inner, extent * inner};
  // What touches is one run: all of a dimension, or any slice of the outermost one.
  if (runs.length == runs.stride) runs = {1, 0, tensor.elems, tensor.elems};
  if (tensor.quantized() && !runs.Borders(tensor.block_size, tensor.elems)) {
    return Fail(kLoadSlice, path, where,
                fmt::format("of shape {}, it would cut blocks of {} elements that share a scale: {}",
                            ShapeString(tensor.shape), tensor.block_size, WhatCanBeHad(tensor, runs, extent, inner)));
  }
  return runs;
}

bool KeepsGroups(const Q4Tensor& tensor, const Runs& elems) {
  return elems.Borders(kQ4BlocksPerGroup * tensor.block_size, tensor.elems);
}

std::vector<WantedPart> WantedParts(const Q4Tensor& tensor, const Runs& elems, bool flat) {
  std::vector<WantedPart> wanted;
  if (elems.count == 0) return wanted;
  const std::span<const Q4Part> kinds = Q4PartKindsOf(tensor);
  for (std::size_t number = 0; number < kinds.size(); ++number) {
    const bool decode = flat && kinds[number] == Q4Part::kScaleCodes;
    if (flat && kinds[number] == Q4Part::kScales2) continue;
    wanted.push_back({number, InBytes(elems, UnitOf(tensor, kinds[number])), decode});
  }
  return wanted;
}

std::uint64_t GatherRuns(const Runs& runs, std::uint64_t first, std::span<const std::uint8_t> bytes, std::uint8_t* to) {
  const std::uint64_t end = first + bytes.size();
  std::uint64_t run = first <= runs.first ? 0 : (first - runs.first) / runs.stride, done = 0;
  for (; run < runs.count && runs.first + run * runs.stride < end; ++run) {
    const std::uint64_t from = std::max(first, runs.first + run * runs.stride);
    const std::uint64_t until = std::min(end, runs.first + run * runs.stride + runs.length);
    if (from >= until) continue;
    // Never ahead of what is still to be read, so it may be the same memory.
    std::memmove(to + done, bytes.data() + (from - first), until - from);
    done += until - from;
  }
  return done;
}

}  // namespace q4
