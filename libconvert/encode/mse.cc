// The search is a kernel. What stands here is how nested scales are chosen (Q9.8), from kernels: by groups of 256
// blocks, which need nothing of the rest of the tensor because their offset is 0. The CUDA engine does not use this
// object: kernels/search_nested_cuda.cu nests what kernels/search_cuda.cu has found.
#include "libconvert/encode/mse.h"

#include <algorithm>
#include <vector>

namespace q4 {
namespace {

// The weights are written out element by element, in pieces of so many at the most, whatever the size of a tile.
constexpr std::uint64_t kPieceElems = std::uint64_t{1} << 16;

// Calls work(first element, elements, their weights or nullptr) for pieces of whole blocks, in order, until it returns
// something else than kAllFinite; that counts from the first element of all. What a block gets depends on the block
// alone.
template <typename Work>
std::uint64_t InPieces(const SlabShape& shape, std::vector<float>* weights, const Work& work) {
  if (shape.weights == nullptr) return work(0, shape.elems, nullptr);
  for (std::uint64_t first = 0; first < shape.elems; first += kPieceElems) {
    weights->resize(std::min(kPieceElems, shape.elems - first));
    shape.weights->Expand(shape.first + first, *weights);
    if (const std::uint64_t bad = work(first, weights->size(), weights->data()); bad != kAllFinite) return first + bad;
  }
  return kAllFinite;
}

// `weighted` where a slab has weights, else `mse`: without them the two choose the same.
class Mse : public SearchingEncoder {
 public:
  explicit Mse(Q4Encoder id) : id_(id) {}
  Q4Encoder id() const override { return id_; }
  bool has_cuda_kernels() const override { return true; }

  std::uint64_t ChooseScales(const KernelTable& kernels, const SlabShape& shape, const std::uint8_t* x,
                             float* scales) const override {
    std::vector<float> weights;
    return Search(kernels, shape, x, &weights, scales, nullptr);
  }

  std::uint64_t ChooseNested(const KernelTable& kernels, const SlabShape& shape, const std::uint8_t* x,
                             const NestedSlab& out) const override {
    TileScratch scratch;
    const std::uint64_t tile_elems = TileElems(shape.block_size);
    for (std::uint64_t first = 0; first < shape.elems; first += tile_elems) {
      const SlabShape tile = PartOf(shape, first, std::min(tile_elems, shape.elems - first));
      const std::uint64_t block = first / shape.block_size, group = block / kScaleGroup;
      const std::uint64_t bad =
          NestTile(kernels, tile, x + first * FloatSize(shape.type), &scratch,
                   {out.scales + block, out.scale_codes + block, out.group_scales + group, out.losses + group});
      if (bad != kAllFinite) return first + bad;
    }
    return kAllFinite;
  }

 private:
  // One entry a block; `weights` one an element of a piece.
  struct TileScratch {
    std::vector<double> floors, errors, absmax_errors;
    std::vector<float> absmax, decoded, weights;
    std::vector<std::uint8_t> absmax_codes;
  };

  static std::uint64_t Search(const KernelTable& kernels, const SlabShape& shape, const std::uint8_t* x,
                              std::vector<float>* weights, float* scales, double* floors) {
    return InPieces(shape, weights, [&](std::uint64_t first, std::uint64_t elems, const float* h) {
      const std::uint64_t block = first / shape.block_size;
      return kernels.search_scales(shape.type, shape.book(), x + first * FloatSize(shape.type), h, elems,
                                   shape.block_size, shape.effort, scales + block,
                                   floors == nullptr ? nullptr : floors + block);
    });
  }

  // A tile is whole groups, unless it is the tensor's last.
  static std::uint64_t NestTile(const KernelTable& kernels, const SlabShape& shape, const std::uint8_t* x,
                                TileScratch* scratch, const NestedSlab& out) {
    const std::uint64_t blocks = BlockCount(shape.elems, shape.block_size);
    auto& [floors, errors, absmax_errors, absmax, decoded, weights, absmax_codes] = *scratch;
    for (std::vector<double>* per_block : {&floors, &errors, &absmax_errors}) per_block->resize(blocks);
    absmax.resize(blocks);
    decoded.resize(blocks);
    absmax_codes.resize(blocks);
    const std::uint64_t bad = Search(kernels, shape, x, &weights, out.scales, floors.data());
    if (bad != kAllFinite) return bad;

    // What each block loses under its own scale as it decodes, and under that of absmax in the same grid.
    const auto errors_under = [&](const std::uint8_t* codes, std::vector<double>* per_block) {
      kernels.dequantize_scales(codes, out.group_scales, blocks, /*offset=*/0, decoded.data());
      (void)InPieces(shape, &weights, [&](std::uint64_t first, std::uint64_t elems, const float* h) {
        const std::uint64_t block = first / shape.block_size;
        kernels.block_errors(shape.type, shape.book(), x + first * FloatSize(shape.type), h, elems, shape.block_size,
                             decoded.data() + block, per_block->data() + block);
        return kAllFinite;
      });
    };
    kernels.quantize_scales(out.scales, blocks, /*offset=*/0, out.scale_codes, out.group_scales);
    errors_under(out.scale_codes, &errors);
    (void)kernels.absmax(shape.type, x, shape.elems, shape.block_size, absmax.data());  // finite, as was seen above
    CodesUnderGroups(absmax.data(), blocks, out.group_scales, absmax_codes.data());
    errors_under(absmax_codes.data(), &absmax_errors);

    for (std::uint64_t begin = 0; begin < blocks; begin += kScaleGroup) {
      NestedLoss loss;
      for (std::uint64_t k = begin; k < std::min(begin + kScaleGroup, blocks); ++k) {
        if (absmax_errors[k] < errors[k]) {
          out.scale_codes[k] = absmax_codes[k];
          errors[k] = absmax_errors[k];
        }
        loss.error += errors[k];
        loss.absmax_floor += floors[k];
      }
      out.losses[begin / kScaleGroup] = loss;
    }
    return kAllFinite;
  }

  const Q4Encoder id_;
};

}  // namespace

const Encoder& MseEncoder() {
  static const Mse encoder(Q4Encoder::kMse);
  return encoder;
}

const Encoder& WeightedEncoder() {
  static const Mse encoder(Q4Encoder::kWeighted);
  return encoder;
}

const Encoder& FeedbackEncoder() {
  static const Mse encoder(Q4Encoder::kFeedback);
  return encoder;
}

}  // namespace q4
