// Slices of tensors, for loaders that share a model among several devices: which bytes of which stored parts a slice
// is made of, and which slices are exact. Pure: sizes and places come from the index alone. Internal to
// libconvert/load/ but for LoadSlice.
//
// A slice takes [begin, end) of one dimension. In the row-major order of the elements these are equal runs, one for
// each index of the dimensions before. Scales belong to blocks that run over the ends of rows, so a slice of a
// quantized tensor is exact if every run begins and ends at the border of a block (or at the tensor's end): then its
// codes and scales are those of a tensor of the slice's shape. Any other slice is refused.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/q4/container.h"

namespace q4 {

// [begin, end) of dimension `dim`, 0 being the outermost, of the tensor of this name.
struct LoadSlice {
  std::string tensor;
  std::uint32_t dim = 0;
  std::uint64_t begin = 0, end = 0;
  bool operator==(const LoadSlice&) const = default;
};

// Equal runs of a sequence: run r is [first + r * stride, first + r * stride + length), r below `count`.
// REQUIRES: 1 <= length <= stride if count is not 0.
struct Runs {
  std::uint64_t count = 0, first = 0, length = 0, stride = 0;

  // How many members the runs have.
  std::uint64_t total() const { return count * length; }
  // How many of them lie before `position`.
  std::uint64_t Before(std::uint64_t position) const;
  // Whether every run begins and ends at a multiple of `unit`, or at `end`, the end of the sequence.
  bool Borders(std::uint64_t unit, std::uint64_t end) const;
};

// All of `members`.
Runs AllOf(std::uint64_t members);

// The elements of a tensor that a slice takes, and the slice's shape in *shape. kLoadSlice (exit code 1) when there is
// no such dimension or range, and when blocks would be cut: the message says which slices can be had. `path` is for
// messages.
absl::StatusOr<Runs> RunsOfSlice(const Q4Tensor& tensor, const LoadSlice& slice, const std::string& path, Shape* shape);

// Whether nested scales of these elements can stay nested: no group of 256 blocks is cut. If not, they are loaded as
// decoded fp32 scales. REQUIRES: tensor.nested.
bool KeepsGroups(const Q4Tensor& tensor, const Runs& elems);

// A stored part that is read for a tensor.
struct WantedPart {
  std::size_t number = 0;  // in Q4Tensor::parts()
  Runs runs;               // bytes of the part
  bool decode = false;     // scale codes that become fp32 scales: four bytes for each, with the group scales of Scales2
  std::uint64_t bytes() const { return runs.total() * (decode ? sizeof(float) : 1); }
};

// The parts to read for `elems` of a tensor, in the order of Q4Tensor::parts(). With `flat`, nested scales are decoded;
// group scales are read along and are no part of their own then.
std::vector<WantedPart> WantedParts(const Q4Tensor& tensor, const Runs& elems, bool flat);

// Copies those of `bytes` that `runs` select to `to`, one behind the other; `first` is the place of bytes[0] in the
// sequence of the runs. Returns how many. `to` may be bytes.data().
std::uint64_t GatherRuns(const Runs& runs, std::uint64_t first, std::span<const std::uint8_t> bytes, std::uint8_t* to);

}  // namespace q4
