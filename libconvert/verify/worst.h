// The blocks of a tensor with the largest errors, and whether the elements around them keep within their bound.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "libconvert/judge/verify_report.h"
#include "libconvert/verify/piece.h"
#include "libconvert/verify/slab.h"

namespace q4 {

// A range of a tensor's elements, and its worst block.
struct WorstPiece {
  std::uint64_t first_elem = 0, elems = 0;
  std::uint64_t block = 0;  // of the tensor
  double sum_e2 = 0;        // of that block
};

// Keeps the kWorstBlocks pieces with the largest worst blocks, ties to the smaller index. They hold the tensor's
// kWorstBlocks worst blocks: each of these pieces has a block that is worse than any block of the other pieces.
class WorstPieces {
 public:
  // REQUIRES: pieces come in element order.
  void Add(const PieceStats& piece, std::uint32_t block_size);
  const std::vector<WorstPiece>& pieces() const { return pieces_; }

 private:
  std::vector<WorstPiece> pieces_;  // worst first
};

struct WorstBlocks {
  std::vector<WorstBlock> blocks;  // worst first; none without any error
  // The first element of these pieces whose error is larger than the absmax encoder can make it (Q8.8, for nested
  // scales in the form for them): "element 7: got ..., expected ...". "" if there is none, or another encoder chose the
  // codes.
  std::string broken_bound;
};

// Reads the pieces again. Thread-safe.
absl::StatusOr<WorstBlocks> FindWorstBlocks(const TensorPair& pair, const PieceTools& tools,
                                            const std::vector<WorstPiece>& pieces);

}  // namespace q4
