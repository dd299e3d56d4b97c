// Quantize: the encoder alone. See quantize_cuda.cuh for the arithmetic and its division over lanes, for memory traffic
// and for why the bits are the reference's.
//
// Grid: thread blocks of 8 warps, a tile of the slab per warp and turn, about four turns to a warp. A tile of 16-bit
// elements in blocks of 64 is 2048 elements, 4 KiB, all of whose loads are in flight at once.
// Warps work independently: after the table is filled there is no barrier.
#include <cstdint>

#include "kernels/cuda_launch.cuh"
#include "kernels/quantize_cuda.cuh"

namespace q4::cuda {
namespace {

constexpr int kThreads = 256;

// Vectors per lane: enough loads in flight to cover the memory's latency.
constexpr std::uint32_t kVectors = 8;

// Tiles of a warp: enough to pay for its thread block's table, few enough to keep all of the memory busy.
constexpr std::uint64_t kWarpTiles = 4;

// Each warp takes tiles in turn; the one whose turn comes after the last tile takes the tail block.
template <typename Shape, bool kCodes>
__global__ void __launch_bounds__(kThreads) QuantizeKernel(const QuantizeArgs args, std::uint64_t tiles) {
  __shared__ SharedCodeCells cells;
  // Without codes the kernel finds scales only (KernelTable::absmax) and needs no table.
  if constexpr (kCodes) {
    cells.Fill(args.book);
    __syncthreads();
  }
  const SharedCodeCells::Column column = cells.ColumnOf(threadIdx.x % kWarp);
  const std::uint64_t full_end = args.n / Shape::kBlockSize * Shape::kBlockSize;
  const std::uint64_t warps = std::uint64_t{gridDim.x} * (kThreads / kWarp);
  std::uint64_t tile = std::uint64_t{blockIdx.x} * (kThreads / kWarp) + threadIdx.x / kWarp;
  for (; tile < tiles; tile += warps) {
    QuantizeTile<Shape, kCodes>(args, tile * Shape::kTile, full_end, column);
  }
  // Exactly one warp of the grid reaches this number, since warps step by the number of warps.
  if (tile == tiles && full_end < args.n) QuantizeTail<kCodes>(args, column);
}

template <FloatType kType, std::uint32_t kBlockSize, bool kCodes>
KernelError LaunchQuantize(const QuantizeArgs& args, StreamHandle stream) {
  using Shape = QuantizeShape<kType, kBlockSize, kVectors>;
  const std::uint64_t full = args.n / kBlockSize * kBlockSize, tiles = full / Shape::kTile + (full % Shape::kTile != 0);
  // One more than the quotient: a warp for the tail block even when there is no full tile.
  const std::uint64_t grid = tiles / (kWarpTiles * kThreads / kWarp) + 1;
  QuantizeKernel<Shape, kCodes><<<GridSize(grid), kThreads, 0, RawStream(stream)>>>(args, tiles);
  return CheckLaunch("quantize");
}

}  // namespace

KernelError CheckQuantizeArgs(const QuantizeArgs& args) {
  if (!IsBlockSize(args.block_size)) return BadArgument("block size");
  if (args.first_bad == nullptr) return BadArgument("no place for the first bad index");
  if (!IsAligned16(args.x) || !IsAligned16(args.codes) || !IsAligned16(args.scales))
    return BadArgument("misaligned pointer");
  return {};
}

KernelError Quantize(const QuantizeArgs& args, StreamHandle stream) {
  if (KernelError error = CheckQuantizeArgs(args); !error.ok()) return error;
  // kAllFinite is all ones.
  const cudaError_t cleared = cudaMemsetAsync(args.first_bad, 0xFF, sizeof(*args.first_bad), RawStream(stream));
  if (cleared != cudaSuccess) return Check(cleared, "clear the first bad index");
  if (args.n == 0) return {};
  return ForShape(args.type, args.block_size, [&]<FloatType kType, std::uint32_t kBlockSize>() {
    if (args.codes == nullptr) return LaunchQuantize<kType, kBlockSize, false>(args, stream);
    return LaunchQuantize<kType, kBlockSize, true>(args, stream);
  });
}

}  // namespace q4::cuda
