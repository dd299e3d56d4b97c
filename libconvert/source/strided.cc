// Elements [first, first + n) in row-major order are cut into boxes: whole rows, planes and so on in the middle, pieces
// of them at both ends. A box has the same steps in the file and in memory for each of its dimensions, so that the
// order of the dimensions is free: files are read in the order in which they lie there.
//
// A box is cut into blocks that fit the scratch memory. The bytes of a block are read, in one read where the gaps are
// small and else in a read for each stretch, and then go to their places with the dimension innermost that is so in
// memory: for a transposed matrix, one block is some columns of the file, each read in long stretches, and written as
// short pieces of rows.
#include "libconvert/source/strided.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <new>
#include <vector>

#include "formats/base/checked_math.h"
#include "formats/base/limits.h"
#include "formats/base/status.h"
#include "formats/source/checkpoint_issues.h"

namespace q4 {
namespace {

constexpr std::uint64_t kScratchBytes = std::uint64_t{512} << 10;
// Of one stretch of a block with several, so that a block has stretches enough to fill cache lines in memory.
constexpr std::uint64_t kStretchBytes = std::uint64_t{8} << 10;
// Bytes between two stretches up to which both are read at once: copying these takes as long as another read.
constexpr std::uint64_t kGapBytes = std::uint64_t{8} << 10;

// One dimension of a box or block: `size` steps of `in` elements in the file and `out` elements in memory.
struct Dimension {
  std::uint64_t size = 1, in = 0, out = 0;
  std::uint64_t pitch = 0;  // of a block: elements in the scratch
};
using Dimensions = std::vector<Dimension>;

// One read of a box.
class StridedRead {
 public:
  StridedRead(const Checkpoint& checkpoint, const SourceTensor& tensor, std::span<std::uint8_t> out)
      : checkpoint_(checkpoint),
        tensor_(tensor),
        out_(out),
        item_(ItemSize(tensor.dtype)),
        scratch_(std::make_unique<std::uint8_t[]>(kScratchBytes)) {}

  // Elements [first, first + count) below dimension `depth`, whose first one is element `in` of the extent. They go to
  // memory from element `out` on.
  absl::Status Range(std::size_t depth, std::uint64_t first, std::uint64_t count, std::uint64_t in, std::uint64_t out) {
    const Shape& shape = tensor_.shape;
    if (count == 0) return absl::OkStatus();
    std::uint64_t below = 1;  // elements of one step
    for (std::size_t d = depth + 1; d < shape.size(); ++d) below *= shape[d];
    if (depth == shape.size()) return Box(depth, 1, in, out);
    const std::uint64_t stride = (*tensor_.strides)[depth];
    std::uint64_t step = first / below;
    if (const std::uint64_t skip = first % below; skip != 0 || count < below) {
      const std::uint64_t head = std::min(count, below - skip);
      Q4_RETURN_IF_ERROR(Range(depth + 1, skip, head, in + step * stride, out));
      count -= head;
      out += head;
      ++step;
    }
    const std::uint64_t whole = count / below;
    if (whole > 0) Q4_RETURN_IF_ERROR(Box(depth, whole, in + step * stride, out));
    const std::uint64_t tail = count % below;
    return tail == 0 ? absl::OkStatus() : Range(depth + 1, 0, tail, in + (step + whole) * stride, out + whole * below);
  }

 private:
  // `steps` steps of dimension `depth`, and all of those below it.
  absl::Status Box(std::size_t depth, std::uint64_t steps, std::uint64_t in, std::uint64_t out) {
    Dimensions box;
    std::uint64_t below = 1;
    for (std::size_t d = tensor_.shape.size(); d-- > depth;) {
      const std::uint64_t size = d == depth ? steps : tensor_.shape[d];
      if (size != 1) box.push_back({size, (*tensor_.strides)[d], below});
      below *= tensor_.shape[d];
    }
    // As they lie in the file, innermost first.
    std::stable_sort(box.begin(), box.end(), [](const Dimension& a, const Dimension& b) { return a.in < b.in; });
    return Blocks(box, box.size(), in, out, BlockOf(box));
  }

  // How many steps of each dimension a block has, and how it lies in the scratch.
  Dimensions BlockOf(const Dimensions& box) const {
    Dimensions block = box;
    std::uint64_t filled = 1;  // elements of the scratch that the dimensions so far take
    for (std::size_t d = 0; d < block.size(); ++d) {
      Dimension& dimension = block[d];
      // Steps may also overlap.
      const bool close =
          (dimension.in <= filled || (dimension.in - filled) * item_ <= kGapBytes) && IsOneRead(block, d);
      dimension.pitch = close ? dimension.in : filled;
      const std::uint64_t most = (d == 0 && block.size() > 1 ? kStretchBytes : kScratchBytes) / item_;
      // (size - 1) * pitch + filled <= most.
      const std::uint64_t fits = filled >= most ? 1 : 1 + (most - filled) / std::max<std::uint64_t>(dimension.pitch, 1);
      dimension.size = std::min(dimension.size, fits);
      filled += (dimension.size - 1) * dimension.pitch;
    }
    return block;
  }
  // Whether the dimensions before `d` lie in the scratch as they lie in the file.
  static bool IsOneRead(const Dimensions& block, std::size_t d) {
    return std::all_of(block.begin(), block.begin() + static_cast<std::ptrdiff_t>(d),
                       [](const Dimension& dimension) { return dimension.pitch == dimension.in; });
  }

  // All blocks of a box: goes through its dimensions from the outermost, `open` of them left, and in each by the steps
  // of a block. `block` has the sizes of a whole one; at the end of a dimension it is shorter.
  absl::Status Blocks(const Dimensions& box, std::size_t open, std::uint64_t in, std::uint64_t out, Dimensions block) {
    if (open == 0) {
      Q4_RETURN_IF_ERROR(Fill(block, block.size(), in, 0));
      std::sort(block.begin(), block.end(), [](const Dimension& a, const Dimension& b) { return a.out > b.out; });
      Place(block, 0, 0, out);
      return absl::OkStatus();
    }
    const Dimension& dimension = box[open - 1];
    const std::uint64_t steps = block[open - 1].size;
    for (std::uint64_t i = 0; i < dimension.size; i += steps) {
      block[open - 1].size = std::min(steps, dimension.size - i);
      Q4_RETURN_IF_ERROR(Blocks(box, open - 1, in + i * dimension.in, out + i * dimension.out, block));
    }
    return absl::OkStatus();
  }

  // Reads the first `open` dimensions of a block, which begin at element `in` of the extent, to element `at` of the
  // scratch.
  absl::Status Fill(const Dimensions& block, std::size_t open, std::uint64_t in, std::uint64_t at) {
    if (IsOneRead(block, open)) {
      std::uint64_t span = 1;
      for (std::size_t d = 0; d < open; ++d) span += (block[d].size - 1) * block[d].in;
      return checkpoint_.Read(tensor_, in * item_, {scratch_.get() + at * item_, span * item_});
    }
    const Dimension& dimension = block[open - 1];
    for (std::uint64_t i = 0; i < dimension.size; ++i) {
      Q4_RETURN_IF_ERROR(Fill(block, open - 1, in + i * dimension.in, at + i * dimension.pitch));
    }
    return absl::OkStatus();
  }

  // From the scratch to memory, with the innermost dimension of memory last.
  void Place(const Dimensions& block, std::size_t depth, std::uint64_t at, std::uint64_t out) {
    static constexpr Dimension kOneElement;
    const Dimension& dimension = block.empty() ? kOneElement : block[depth];
    if (depth + 1 < block.size()) {
      for (std::uint64_t i = 0; i < dimension.size; ++i) {
        Place(block, depth + 1, at + i * dimension.pitch, out + i * dimension.out);
      }
      return;
    }
    switch (item_) {
      case 1:
        return Copy<1>(dimension, at, out);
      case 2:
        return Copy<2>(dimension, at, out);
      case 4:
        return Copy<4>(dimension, at, out);
      default:
        return Copy<8>(dimension, at, out);
    }
  }
  // A constant size makes a move of each element; the loop is what a transposed tensor's time goes to.
  template <std::size_t kItem>
  void Copy(const Dimension& dimension, std::uint64_t at, std::uint64_t out) {
    const std::uint8_t* from = scratch_.get() + at * kItem;
    std::uint8_t* to = out_.data() + out * kItem;
    for (std::uint64_t i = 0; i < dimension.size; ++i) {
      std::memcpy(to + i * dimension.out * kItem, from + i * dimension.pitch * kItem, kItem);
    }
  }

  const Checkpoint& checkpoint_;
  const SourceTensor& tensor_;
  const std::span<std::uint8_t> out_;
  const std::uint64_t item_;
  const std::unique_ptr<std::uint8_t[]> scratch_;
};

}  // namespace

absl::Status ReadStrided(const Checkpoint& checkpoint, const SourceTensor& tensor, std::uint64_t first,
                         std::span<std::uint8_t> out) {
  const std::uint64_t count = out.size() / ItemSize(tensor.dtype);
  if (!RangeFits(first, count, tensor.elems)) {
    return Fail(kReadOutsideTensor, checkpoint.FileOf(tensor).path(), tensor.name);
  }
  return StridedRead(checkpoint, tensor, out).Range(0, first, count, 0, 0);
}

}  // namespace q4
