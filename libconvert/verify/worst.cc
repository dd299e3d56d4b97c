// For each piece: widen the source to fp32, decode what is stored, rank the blocks by their sum of squared errors, and
// keep the elements that are farthest off of those that may be listed.
//
// On the way the bound of Q8.8 is checked element by element, in the form that also holds for nested scales: |e| <= h a
// + |a - s| |value|, where a is the block's absmax, s its decoded scale and h half the step around x / a. It cannot be
// checked from statistics, which know s alone. Only the worst pieces are checked: all others would cost a second pass
// over the source.
#include "libconvert/verify/worst.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>

#include "fmt/format.h"
#include "formats/base/status.h"
#include "formats/q4/encoders.h"
#include "libconvert/scheme/slab.h"

namespace q4 {
namespace {

// Ordered by how bad they are, worst first: larger sum, then smaller index.
template <typename T>
bool IsWorse(const T& a, const T& b) {
  return a.sum_e2 != b.sum_e2 ? a.sum_e2 > b.sum_e2 : a.block < b.block;
}

// Adds to a list that is kept sorted and short.
template <typename T, typename Before>
void AddSorted(T item, const Before& before, std::size_t most, std::vector<T>* list) {
  list->insert(std::upper_bound(list->begin(), list->end(), item, before), std::move(item));
  if (list->size() > most) list->pop_back();
}

// Codes lie two in a byte, the earlier one in the high half (Q3.1).
std::uint8_t CodeAt(const std::uint8_t* codes, std::uint64_t elem) {
  return codes[elem / 2] >> (elem % 2 == 0 ? 4 : 0) & 15;
}

// Half the distance between the two code values on either side of u in [-1, 1]. `values` are ascending and distinct.
// The search leaves out the ends, so that u at or beyond one of them has the last step.
double HalfStep(std::span<const double> values, double u) {
  const auto above = std::lower_bound(values.begin() + 1, values.end() - 1, u);
  return (*above - *(above - 1)) / 2;
}

// Q8.8: room for rounding in x / a and in the decoded value.
constexpr double kRounding = 1 + 1e-5;

// Goes through the pieces of one tensor, one after the other, with the same buffers.
class PieceSearch {
 public:
  PieceSearch(const TensorPair& pair, const PieceTools& tools)
      : kernels_(tools.kernels), stored_(*pair.stored), book_(CodeBookOf(stored_.scheme)), reader_(pair, tools) {
    // FP4 has 0 twice, as 0 and -0: steps are between distinct values.
    for (const float value : CodeValues(book_)) sorted_values_.push_back(double{value});
    std::sort(sorted_values_.begin(), sorted_values_.end());
    sorted_values_.erase(std::unique(sorted_values_.begin(), sorted_values_.end()), sorted_values_.end());
  }

  absl::Status Run(const WorstPiece& piece) {
    Q4_RETURN_IF_ERROR(reader_.ReadSource(piece.first_elem, piece.elems, &bytes_));
    x_.resize(piece.elems);
    kernels_.convert(FloatTypeOf(stored_.dtype), bytes_.data(), piece.elems, FloatType::kF32, x_.data());
    const std::uint64_t first_block = piece.first_elem / stored_.block_size;
    const std::uint64_t blocks = BlockCount(piece.elems, stored_.block_size);
    Q4_ASSIGN_OR_RETURN(const BlockScales scales, reader_.ReadScales(first_block, blocks));
    Q4_ASSIGN_OR_RETURN(const PartBytes packed, reader_.decoder().ReadCodes(piece.first_elem, piece.elems));
    const std::uint8_t* const codes = packed.data();
    decoded_.resize(piece.elems);
    reader_.decoder().Decode(codes, scales.decoded.data(), piece.elems, FloatType::kF32, decoded_.data());
    // One finding for a tensor is enough, and the quick test spares the exact one in nearly all pieces.
    const bool check_bounds =
        FindQ4Encoder(stored_.encoder)->absmax_scales && result_.broken_bound.empty() && !AllAreNearest(codes, blocks);
    for (std::uint64_t block = 0; block < blocks; ++block) {
      const std::uint64_t begin = block * stored_.block_size;
      const std::uint64_t elems = std::min<std::uint64_t>(stored_.block_size, piece.elems - begin);
      const Block view{first_block + block,
                       piece.first_elem + begin,
                       scales.decoded[block],
                       codes + begin / 2,
                       std::span<const float>(x_).subspan(begin, elems),
                       std::span<const float>(decoded_).subspan(begin, elems)};
      Rank(view);
      if (check_bounds && result_.broken_bound.empty()) CheckBounds(view);
    }
    return absl::OkStatus();
  }

  WorstBlocks Take() { return std::move(result_); }

 private:
  // One block of the piece: views into the buffers.
  struct Block {
    std::uint64_t number, first_elem;
    float scale;
    const std::uint8_t* codes;
    std::span<const float> x, decoded;
  };

  static double ErrorOf(float x, float decoded) { return double{x} - double{decoded}; }

  // Whether the piece in x_ has the nearest codes under the scales that the absmax encoder gives it. Then every element
  // is within its bound by the triangle inequality: |x - v s| <= |x - v a| + |a - s| |v|, and the first term is at most
  // half a step.
  bool AllAreNearest(const std::uint8_t* codes, std::uint64_t blocks) {
    std::vector<float> absmax(blocks);
    std::vector<GroupSums> sums(GroupCount(blocks));
    SlabStats stats;
    kernels_.absmax(FloatType::kF32, x_.data(), x_.size(), stored_.block_size, absmax.data());
    kernels_.error_stats(FloatType::kF32, book_, x_.data(), codes, absmax.data(), x_.size(), stored_.block_size,
                         sums.data(), &stats);
    return stats.clipped == 0 && stats.max_gap_ratio <= kRounding;
  }

  // Keeps the block if it is among the worst so far.
  void Rank(const Block& block) {
    double sum_e2 = 0;
    for (std::size_t i = 0; i < block.x.size(); ++i) {
      const double e = ErrorOf(block.x[i], block.decoded[i]);
      sum_e2 += e * e;
    }
    // This sum is cheap but in another order than S64, so it only tells which blocks may be among the worst: with room
    // for the difference in rounding, those are summed again by BlockSum().
    constexpr double kOrder = 1 + 1e-9;
    const std::vector<WorstBlock>& worst = result_.blocks;
    if (worst.size() < kWorstBlocks || sum_e2 * kOrder >= worst.back().sum_e2) Keep(block, BlockSum(block));
  }

  // S64 (Q7.1) of the squared errors: what the kernel finds as the worst of this block alone.
  double BlockSum(const Block& block) const {
    SlabStats stats;
    GroupSums sums;
    kernels_.error_stats(FloatType::kF32, book_, block.x.data(), block.codes, &block.scale, block.x.size(),
                         stored_.block_size, &sums, &stats);
    return stats.worst_block_e2;
  }

  // Lists the block with the elements that are farthest off, unless kWorstBlocks worse ones are known.
  void Keep(const Block& block, double sum_e2) {
    WorstBlock worst{block.number, sum_e2, block.scale, {}};
    std::vector<WorstBlock>& blocks = result_.blocks;
    // A block without error is not worth listing, even if there is room.
    if (sum_e2 == 0 || (blocks.size() == kWorstBlocks && !IsWorse(worst, blocks.back()))) return;
    const auto farther = [](const WorstElement& a, const WorstElement& b) {
      const double left = std::fabs(ErrorOf(a.source, a.decoded)), right = std::fabs(ErrorOf(b.source, b.decoded));
      return left != right ? left > right : a.index < b.index;
    };
    for (std::uint64_t i = 0; i < block.x.size(); ++i) {
      AddSorted(WorstElement{block.first_elem + i, block.x[i], block.decoded[i]}, farther, kWorstElements,
                &worst.elements);
    }
    AddSorted(std::move(worst), IsWorse<WorstBlock>, kWorstBlocks, &blocks);
  }

  // Looks for the first element of the block that is above its bound.
  void CheckBounds(const Block& block) {
    double absmax = 0;
    for (const float x : block.x) absmax = std::max(absmax, std::fabs(double{x}));
    // Of a subnormal absmax: the block may be coded against TINY instead (Q4.3).
    if (absmax < double{std::numeric_limits<float>::min()}) return;
    for (std::uint64_t i = 0; i < block.x.size(); ++i) {
      const double error = std::fabs(ErrorOf(block.x[i], block.decoded[i]));
      // The code value that is stored, not the nearest one.
      const double value{CodeValues(book_)[CodeAt(block.codes, i)]};
      const double bound = HalfStep(sorted_values_, double{block.x[i]} / absmax) * absmax +
                           std::fabs(absmax - double{block.scale}) * std::fabs(value);
      if (error <= bound * kRounding) continue;
      result_.broken_bound = fmt::format("element {}: error {}", block.first_elem + i,
                                         GotExpected(fmt::to_string(error), fmt::format("at most {}", bound)));
      return;
    }
  }

  const KernelTable& kernels_;
  const Q4Tensor& stored_;
  const CodeBook book_;
  const PieceReader reader_;
  std::vector<double> sorted_values_;
  std::vector<std::uint8_t> bytes_;
  std::vector<float> x_, decoded_;
  WorstBlocks result_;
};

}  // namespace

void WorstPieces::Add(const PieceStats& piece, std::uint32_t block_size) {
  // The kernel counts blocks from the piece's begin.
  const WorstPiece worst{piece.first_elem, piece.elems, piece.first_elem / block_size + piece.stats.worst_block,
                         piece.stats.worst_block_e2};
  if (worst.sum_e2 > 0) AddSorted(worst, IsWorse<WorstPiece>, kWorstBlocks, &pieces_);
}

absl::StatusOr<WorstBlocks> FindWorstBlocks(const TensorPair& pair, const PieceTools& tools,
                                            const std::vector<WorstPiece>& pieces) {
  const ScopedFloatEnvironment environment;
  PieceSearch search(pair, tools);
  for (const WorstPiece& piece : pieces) Q4_RETURN_IF_ERROR(search.Run(piece));
  return search.Take();
}

}  // namespace q4
