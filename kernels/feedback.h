// The encoder feedback (docs/numerics.md Q17): codes that make up for each other's errors, for scales that are there
// already. The steps of one matrix, as pure functions over memory of the caller; who calls them may share the work
// among threads as the comments say, which changes no bit.
//
// Columns stand in the order of work (Q17.2): column k is the k-th to be coded.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "kernels/kernels.h"

namespace q4 {

// Columns of a panel, whose sums are made at once (Q17.5): a part of the definition.
inline constexpr std::uint64_t kFeedbackPanel = 64;
// Rows of a tile, which lie side by side: arrays of a tile are [column][kFeedbackRows]. Rows do not know of each other,
// so this is no part of the definition.
inline constexpr std::uint64_t kFeedbackRows = 64;

constexpr std::uint64_t FeedbackPanels(std::uint64_t columns) {
  return columns / kFeedbackPanel + (columns % kFeedbackPanel != 0);
}

// ---- Q17.2 to Q17.4: of a Hessian

// How a caller shares work among threads: calls work(i) for each i below `count`, in any order, and returns when all
// have returned.
using SpreadWork = std::function<void(std::uint64_t count, const std::function<void(std::uint64_t)>& work)>;

// Q17.3: how often the damping is raised before a matrix is given up.
inline constexpr int kMostFeedbackRaises = 4;

// Q17.2: the columns by falling diagonal. Q17.3: what is added to it, before that is raised. For backends that make
// their factor themselves.
std::vector<std::uint32_t> FeedbackOrder(std::span<const float> diagonal);
double FeedbackDamping(std::span<const float> diagonal);

// What feedback needs of a Hessian. Coefficients lie in panels of kFeedbackPanel columns: those that errors of column j
// have in column c of panel p are at [p][j][c], zero past the last column.
struct FeedbackFactor {
  std::uint64_t columns = 0;
  std::vector<std::uint32_t> order;  // Q17.2: columns of the matrix in the order of work
  double damping = 0;
  int raises = 0;
  std::vector<float> factor;     // U; of panel p the rows before its end, panels one after the other
  std::vector<float> couplings;  // N; all rows of every panel
  std::vector<double> pivots;    // D, by column
  float largest = 0;             // magnitude in `factor`

  const float* FactorPanel(std::uint64_t panel) const { return factor.data() + FactorAt(panel); }
  const float* CouplingsPanel(std::uint64_t panel) const { return couplings.data() + panel * columns * kFeedbackPanel; }
  static constexpr std::uint64_t FactorAt(std::uint64_t panel) {
    return kFeedbackPanel * kFeedbackPanel * (panel * (panel + 1) / 2);
  }
};

// Q17.2 to Q17.4. `hessian`[columns * columns]: as in the calibration file, finite, with a diagonal that is not
// negative; the half below the diagonal is overwritten with the mirror image of the other. Returns false, with `factor`
// unspecified, where no damping makes a positive definite matrix of it.
bool MakeFeedbackFactor(const KernelTable& kernels, std::uint64_t columns, std::span<float> hessian,
                        const SpreadWork& spread, FeedbackFactor* factor);

// Bytes of a FeedbackFactor, and of all that is in memory at the worst moment while it is made, the Hessian among it.
std::uint64_t FeedbackFactorBytes(std::uint64_t columns);
std::uint64_t FeedbackPeakBytes(std::uint64_t columns);

// ---- Q17.5 to Q17.7, a tile of rows

// A matrix whose codes are to be chosen: a tensor, or one of a stack. Blocks are consecutive elements of the tensor,
// across the ends of rows and matrices (Q1.3).
struct FeedbackMatrix {
  FloatType type;
  CodeBook book;
  std::uint32_t block_size;
  std::uint64_t rows, columns;  // outputs and inputs of the layer
  std::uint64_t first = 0;      // its first element in the tensor
  bool transposed = false;      // it is stored as (inputs, outputs)
  // Of the whole tensor.
  const void* x;        // elements, finite
  const float* scales;  // as they decode, finite
  std::uint8_t* codes;  // packed: the nearest ones (Q9.2) before, those of the encoder after

  constexpr std::uint64_t ElementAt(std::uint64_t row, std::uint64_t column) const {
    return first + (transposed ? column * rows + row : row * columns + column);
  }
};

// Scratch of one tile at a time, to be used again for the next.
class FeedbackTile {
 public:
  explicit FeedbackTile(std::uint64_t columns);
  static std::uint64_t Bytes(std::uint64_t columns);

  // Chooses the codes of rows tile * kFeedbackRows and so on, with `passes` of coordinate descent. Tiles may be shared
  // among threads: none writes a code of another's, and a byte that two of them share is written atomically. Returns
  // how many rows keep the codes that they had.
  std::uint64_t ChooseCodes(const KernelTable& kernels, const FeedbackFactor& factor, int passes, std::uint64_t tile,
                            const FeedbackMatrix& matrix);

 private:
  void Load(const FeedbackFactor& factor, const FeedbackMatrix& matrix, std::uint64_t first, std::uint64_t rows);
  void Pass(const KernelTable& kernels, CodeBook book, const FeedbackFactor& factor, bool descend);
  void RowErrors(const KernelTable& kernels, const FeedbackFactor& factor, const std::vector<float>& errors,
                 double* row_errors);
  void OldRowErrors(const KernelTable& kernels, const FeedbackFactor& factor, const double* enough, std::uint64_t rows,
                    double* row_errors);
  void AddRowErrors(const KernelTable& kernels, const FeedbackFactor& factor, const std::vector<float>& errors,
                    std::uint64_t panel, double* row_errors);

  std::uint64_t columns_;
  // [column][kFeedbackRows]: elements, scales, element less decoded under the codes as they are and as they were.
  std::vector<float> x_, scales_, errors_, old_errors_;
  std::vector<std::uint8_t> codes_;
  std::vector<float> sums_;  // [kFeedbackPanel][kFeedbackRows]
};

}  // namespace q4
