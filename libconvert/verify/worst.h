// The blocks of a tensor with the largest errors, for a reader of the report to look at, and whether the elements
// around them keep within their bound. The statistics of pieces (slab.h) tell where these blocks lie, so that only a
// few pieces of a tensor are read a second time.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "libconvert/judge/verify_report.h"
#include "libconvert/verify/piece.h"
#include "libconvert/verify/slab.h"

namespace q4 {

// A range of a tensor's elements, and the worst block in it.
struct WorstPiece {
  // The piece, as in PieceStats.
  std::uint64_t first_elem = 0, elems = 0;
  // The number of its worst block, counted in the tensor.
  std::uint64_t block = 0;
  // Sum of squared errors of that block, S64 (Q7.1).
  double sum_e2 = 0;
};

// Keeps the kWorstBlocks pieces with the largest worst blocks, ties to the smaller index. They hold the tensor's
// kWorstBlocks worst blocks: each of these pieces has a block that is worse than any block of the other pieces. Not
// thread-safe.
class WorstPieces {
 public:
  // `block_size` in elements. A piece without any error is not kept. REQUIRES: pieces come in element order.
  void Add(const PieceStats& piece, std::uint32_t block_size);
  // Worst first, at most kWorstBlocks.
  const std::vector<WorstPiece>& pieces() const { return pieces_; }

 private:
  std::vector<WorstPiece> pieces_;  // worst first
};

// What FindWorstBlocks() finds out about a tensor.
struct WorstBlocks {
  // Worst first, at most kWorstBlocks; none without any error.
  std::vector<WorstBlock> blocks;
  // The first element of these pieces whose error is larger than the absmax encoder can make it (Q8.8, for nested
  // scales in the form for them): "element 7: got ..., expected ...". "" if there is none, or another encoder chose the
  // codes.
  std::string broken_bound;
};

// Reads the given pieces of a quantized pair again, from both sides, and ranks their blocks. `pieces` are those of
// WorstPieces. Errors: those of PieceReader. Thread-safe; sets the float environment for itself.
absl::StatusOr<WorstBlocks> FindWorstBlocks(const TensorPair& pair, const PieceTools& tools,
                                            const std::vector<WorstPiece>& pieces);

}  // namespace q4
