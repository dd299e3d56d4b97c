// The blocks of a tensor with the largest errors, and the bound of each element near them. Internal to
// libconvert/verify*.cc.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "libconvert/judge/verify_report.h"
#include "libconvert/verify/piece.h"
#include "libconvert/verify/slab.h"

namespace q4 {

// A run of elements, of which the worst block is known.
struct WorstPiece {
  std::uint64_t first_elem = 0, elems = 0;
  std::uint64_t block = 0;  // of the tensor
  double sum_e2 = 0;        // of that block
};

// Keeps the kWorstBlocks pieces with the largest worst blocks, ties to the smaller index. The tensor's kWorstBlocks
// worst blocks all lie in these: whatever lies elsewhere has that many before it.
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
  // An element of these pieces that lies farther from its code's value than the absmax encoder can leave it, whatever
  // codes and scales say (Q8.8, with a double-quantized scale the form for that): "element 7: got ..., expected ...".
  // "" if there is none, or another encoder made the codes.
  std::string broken_bound;
};

// Reads the pieces again. Thread-safe.
absl::StatusOr<WorstBlocks> FindWorstBlocks(const TensorPair& pair, const PieceTools& tools,
                                            const std::vector<WorstPiece>& pieces);

}  // namespace q4
