// Quantize: the encoder alone. See quantize_cuda.cuh for the arithmetic and its division over lanes.
#include <cstdint>

#include "kernels/cuda_launch.cuh"
#include "kernels/quantize_cuda.cuh"

namespace q4::cuda {
namespace {

constexpr int kThreads = 256;

// Warps take tiles in turn. The warp after the last one to have a full tile takes the tail block.
template <FloatType kType, std::uint32_t kBlockSize, bool kCodes>
__global__ void __launch_bounds__(kThreads) QuantizeKernel(const QuantizeArgs args, std::uint64_t tiles) {
  __shared__ SharedCodeCells cells;
  if constexpr (kCodes) {
    cells.Fill(args.book);
    __syncthreads();
  }
  const SharedCodeCells::Column column = cells.ColumnOf(threadIdx.x % kWarp);
  const std::uint64_t full_end = args.n / kBlockSize * kBlockSize;
  const std::uint64_t warps = std::uint64_t{gridDim.x} * (kThreads / kWarp);
  std::uint64_t tile = std::uint64_t{blockIdx.x} * (kThreads / kWarp) + threadIdx.x / kWarp;
  for (; tile < tiles; tile += warps) {
    QuantizeTile<kType, kBlockSize, kCodes, true>(args, tile * QuantizeShape<kType, kBlockSize>::kTile, full_end, column);
  }
  if (tile == tiles && full_end < args.n) QuantizeTail<kCodes>(args, column);
}

template <FloatType kType, std::uint32_t kBlockSize, bool kCodes>
KernelError LaunchQuantize(const QuantizeArgs& args, StreamHandle stream) {
  constexpr std::uint64_t kTile = QuantizeShape<kType, kBlockSize>::kTile;
  const std::uint64_t tiles = args.n / kBlockSize / (kTile / kBlockSize) + (args.n / kBlockSize % (kTile / kBlockSize) != 0);
  const auto kernel = QuantizeKernel<kType, kBlockSize, kCodes>;
  unsigned grid = 0;
  const KernelError error = ResidentGrid(kernel, kThreads, tiles / (kThreads / kWarp) + 1, &grid);
  if (!error.ok()) return error;
  kernel<<<grid, kThreads, 0, RawStream(stream)>>>(args, tiles);
  return CheckLaunch("quantize");
}

}  // namespace

KernelError CheckQuantizeArgs(const QuantizeArgs& args) {
  if (!IsBlockSize(args.block_size)) return BadArgument("block size");
  if (args.first_bad == nullptr) return BadArgument("no place for the first bad index");
  if (!IsAligned16(args.x) || !IsAligned16(args.codes) || !IsAligned16(args.scales)) return BadArgument("misaligned pointer");
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
