// One slab of a tensor, computed again from the source and compared. This is the unit of work of a comparison: slabs of
// all tensors are independent, and source.cc merges their results in order. Findings are made there, when the whole
// tensor is known.
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
  // In elements, blocks or groups, as the kind goes.
  std::uint64_t count = 0;
  // The first of them: "element 12: got 3, expected 4"; "" if none differs.
  std::string first;

  // Merges what was found further on in the tensor: the first one stays.
  void Append(const Difference& later) {
    if (count == 0) first = later.first;
    count += later.count;
  }
};

// The statistics of one piece of a slab, as the kernel gave them. Pieces are kept apart because the tensor's sums are
// added group by group (Q7.4), and because worst.h needs to know in which piece a bad block lies.
struct PieceStats {
  // Element of the tensor that the piece begins with.
  std::uint64_t first_elem = 0;
  std::uint64_t elems = 0;
  // Indices in it count from the piece's first element and block.
  SlabStats stats;
  // One for each 256 blocks of the piece.
  std::vector<GroupSums> groups;
};

// What is found in one slab. Beside the differences it carries what only the whole tensor can be judged by: statistics,
// sums of scales and digests.
struct SlabResult {
  // The source could not be read, or the container is damaged here. The rest is then incomplete and must not be judged.
  absl::Status status;
  // What was compared, in elements and in bytes of the source.
  std::uint64_t elems = 0, source_bytes = 0;
  // The first NaN or infinite element of the source, counted in the tensor; the slab is compared up to its piece only.
  std::uint64_t nonfinite = kAllFinite;
  // `data` of a kept tensor. Of a quantized one `codes`, and either `scales` (fp32) or scale codes and group scales
  // (nested).
  Difference data, codes, scales, scale_codes, group_scales;
  // Of a tensor that cannot be computed again: codes that are not the nearest (EncoderProof::nearest).
  Difference not_nearest;
  // Of the same, and of all where PieceTools::compare_absmax is set: what absmax makes of the same elements, as sums of
  // squared errors by groups of 256 blocks, to be added one by one (Q7.3).
  std::vector<double> absmax_groups;
  // In element order; empty for a tensor that is kept.
  std::vector<PieceStats> pieces;
  // Of the source's fp32 scales, one sum per group of 256 (Q7.3), for the offset of nested scales.
  std::vector<double> scale_sums;
  // XXH3 of the source's bytes, and of the stored data or of codes and decoded scales. Tensors with equal digests are
  // taken to be equal (tied.h).
  std::uint64_t source_digest = 0, stored_digest = 0;
};

// Number of slabs that CompareSlab() takes for a tensor; at least one, so that an empty tensor is counted as compared.
std::uint64_t SlabCount(const Q4Tensor& tensor);

// Elements of slab `slab`: 2^22 of a quantized tensor, of a kept one as many as a chunk of data has, less in the last
// one, none in that of an empty tensor. REQUIRES: slab < SlabCount(tensor).
std::uint64_t SlabElems(const Q4Tensor& tensor, std::uint64_t slab);

// Compares slab `slab` of the pair and reads it once from either side. Codes and scales are computed again where that
// can be done (CanRecompute()); of another slab the statistics are, and what absmax would have made of it. A
// nested tensor's scales are quantized with the recorded offset, so that one pass over the source is enough: the caller
// compares the offset itself with the sum of all `scale_sums` (Q5.1). Only `absmax_groups` need the offset beforehand:
// `absmax_offset` is the mean of the scales that absmax gives the tensor, and counts for nested tensors of other
// encoders alone. Errors are in the result's status. Thread-safe; sets the float environment for itself. Holds about 12
// MiB at a time beside the cache.
SlabResult CompareSlab(const TensorPair& pair, const PieceTools& tools, std::uint64_t slab, float absmax_offset);

// Reads a slab of the source and sums the scales that absmax gives it, by groups: `scale_sums`, `elems` and
// `source_bytes` of the result, and its status.
SlabResult SumAbsmaxScales(const TensorPair& pair, const PieceTools& tools, std::uint64_t slab);

}  // namespace q4
