// One slab of a tensor, computed again from the source and compared.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "formats/q4/reader.h"
#include "kernels/kernels.h"
#include "libconvert/verify/piece.h"

namespace q4 {

// How many items of one kind differ, and the first of them in words.
struct Difference {
  std::uint64_t count = 0;
  std::string first;  // "element 12: got 3, expected 4"

  // Merges what was found further on in the tensor.
  void Append(const Difference& later) {
    if (count == 0) first = later.first;
    count += later.count;
  }
};

// The statistics of one piece of a slab, as the kernel gave them.
struct PieceStats {
  std::uint64_t first_elem = 0;  // in the tensor
  std::uint64_t elems = 0;
  SlabStats stats;
  std::vector<GroupSums> groups;
};

struct SlabResult {
  absl::Status status;                        // the source could not be read, or the container is damaged here
  std::uint64_t elems = 0, source_bytes = 0;  // compared
  std::uint64_t nonfinite = kAllFinite;       // element of the tensor
  Difference data, codes, scales, scale_codes, group_scales;
  std::vector<PieceStats> pieces;  // in element order; empty for an unquantized tensor
  std::vector<double> scale_sums;  // of the source's scales, one per group of 256 (Q7.3)
  // XXH3 of the source's bytes, and of the stored data or codes and decoded scales: tensors with equal digests are
  // equal.
  std::uint64_t source_digest = 0, stored_digest = 0;
};

// Number of slabs that CompareSlab() takes for a tensor; at least one.
std::uint64_t SlabCount(const Q4Tensor& tensor);

// Elements of slab `slab`; none in that of an empty tensor.
std::uint64_t SlabElems(const Q4Tensor& tensor, std::uint64_t slab);

// Compares slab `slab` of the pair. Codes and scales of the absmax encoder are computed again; of another encoder's
// slab only the statistics are. A nested tensor's scales are quantized with the recorded offset, so that one pass over
// the source is enough: the caller compares the offset itself with the sum of all `scale_sums` (Q5.1). Thread-safe.
// Holds about 12 MiB at a time beside the cache.
SlabResult CompareSlab(const TensorPair& pair, const PieceTools& tools, std::uint64_t slab);

}  // namespace q4
