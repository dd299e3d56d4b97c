// Launches of feedback_cuda.cuh: a thread block a tile of rows, in scratch memory of its own.
#include "kernels/cuda_launch.cuh"
#include "kernels/feedback_cuda.cuh"

namespace q4::cuda {
namespace {

__global__ void __launch_bounds__(kFeedbackThreads)
    FeedbackKernel(const FeedbackCodesArgs args, std::uint32_t block_shift) {
  extern __shared__ __align__(16) unsigned char shared_bytes[];
  CodeTile(args, block_shift, *reinterpret_cast<FeedbackShared*>(shared_bytes));
}

static_assert(sizeof(FeedbackShared) <= 64 << 10, "the oldest devices have no more");

}  // namespace

std::uint64_t FeedbackTileBytes(std::uint64_t columns) { return TileArrays::Bytes(columns); }

KernelError FeedbackTilesAtOnce(std::uint64_t* tiles) {
  if (KernelError error = AllowSharedMemory(FeedbackKernel, sizeof(FeedbackShared)); !error.ok()) return error;
  unsigned grid = 0;
  const KernelError error =
      ResidentGrid(FeedbackKernel, static_cast<int>(kFeedbackThreads), 0x7FFFFFFF, &grid, sizeof(FeedbackShared));
  *tiles = grid;
  return error;
}

KernelError ChooseFeedbackCodes(const FeedbackCodesArgs& args, StreamHandle stream) {
  const FeedbackMatrix& matrix = args.matrix;
  if (!IsBlockSize(matrix.block_size)) return BadArgument("block size");
  const std::uint64_t tiles = FeedbackTiles(matrix.rows);
  if (args.first_tile > tiles || args.tiles > tiles - args.first_tile || args.tiles > 0x7FFFFFFF) {
    return BadArgument("tiles that are not there");
  }
  if (args.kept == nullptr || args.largest == nullptr) return BadArgument("no place for what is found");
  for (const void* const pointer : {static_cast<const void*>(matrix.codes), static_cast<const void*>(args.factor),
                                    static_cast<const void*>(args.couplings), static_cast<const void*>(args.scratch)}) {
    if (!IsAligned16(pointer)) return BadArgument("misaligned pointer");
  }
  if (args.tiles == 0) return {};
  if (KernelError error = AllowSharedMemory(FeedbackKernel, sizeof(FeedbackShared)); !error.ok()) return error;
  std::uint32_t block_shift = 0;
  while (std::uint32_t{1} << block_shift < matrix.block_size) ++block_shift;
  FeedbackKernel<<<static_cast<unsigned>(args.tiles), kFeedbackThreads, sizeof(FeedbackShared), RawStream(stream)>>>(
      args, block_shift);
  return CheckLaunch("choose codes by feedback");
}

}  // namespace q4::cuda
