// Launches of the factor (feedback_factor_cuda.cuh): three kernels for each panel, on one stream, so that the device
// goes from one to the next without the host.
#include "kernels/cuda_launch.cuh"
#include "kernels/feedback_factor_cuda.cuh"

namespace q4::cuda {
namespace {

__global__ void __launch_bounds__(kFactorThreads) MirrorKernel(std::uint64_t n, float* hessian) {
  MirrorSquare(n, hessian);
}
__global__ void __launch_bounds__(kFactorThreads) LoadKernel(const FeedbackFactorArgs args) { LoadSquare(args); }
__global__ void __launch_bounds__(kFactorThreads)
    DiagonalKernel(const FeedbackFactorArgs args, std::uint64_t panel, double least) {
  FactorDiagonalSquare(args, panel, least);
}
__global__ void __launch_bounds__(kFactorThreads) SolveKernel(const FeedbackFactorArgs args, std::uint64_t panel) {
  extern __shared__ __align__(16) double shared_doubles[];
  SolveSquare(args, panel, shared_doubles);
}
__global__ void __launch_bounds__(kFactorThreads, 2)
    SubtractKernel(const FeedbackFactorArgs args, std::uint64_t panel) {
  SubtractSquare(args, panel);
}
__global__ void __launch_bounds__(kFactorThreads) StoreFactorKernel(const FeedbackFactorArgs args) {
  StoreFactorSquare(args);
}
__global__ void __launch_bounds__(kFactorThreads) StoreCouplingsKernel(const FeedbackCouplingsArgs args) {
  StoreCouplingsSquare(args);
}

// A grid's second dimension has this limit.
constexpr std::uint64_t kMostColumns = 65535 * std::uint64_t{kMirrorSide};

constexpr std::uint64_t RoundedUp(std::uint64_t bytes) { return (bytes + 255) / 256 * 256; }

}  // namespace

FeedbackSizes FeedbackSizesOf(std::uint64_t columns) {
  const std::uint64_t panels = FeedbackPanels(columns), triangle = FeedbackFactor::FactorAt(panels);
  return {RoundedUp(columns * columns * sizeof(float)),
          triangle * sizeof(double),
          triangle * sizeof(float),
          RoundedUp(panels * columns * kFeedbackPanel * sizeof(float)),
          RoundedUp(columns * sizeof(double)),
          RoundedUp(columns * sizeof(std::uint32_t))};
}

KernelError MirrorHessian(std::uint64_t columns, float* hessian, StreamHandle stream) {
  if (columns == 0 || columns > kMostColumns) return BadArgument("columns of a Hessian");
  const auto side = static_cast<unsigned>((columns + kMirrorSide - 1) / kMirrorSide);
  MirrorKernel<<<dim3(side, side), kFactorThreads, 0, RawStream(stream)>>>(columns, hessian);
  return CheckLaunch("mirror a Hessian");
}

KernelError FactorHessian(const FeedbackFactorArgs& args, StreamHandle stream) {
  if (args.columns == 0 || args.columns > kMostColumns) return BadArgument("columns of a Hessian");
  if (args.largest == nullptr || args.failed == nullptr) return BadArgument("no place for what is found");
  const cudaStream_t raw = RawStream(stream);
  for (std::uint32_t* const word : {args.largest, args.failed}) {
    const KernelError cleared = Check(cudaMemsetAsync(word, 0, sizeof(*word), raw), "begin a factor");
    if (!cleared.ok()) return cleared;
  }
  constexpr std::size_t kSolveBytes = kSolveDoubles * sizeof(double);
  if (const KernelError error = AllowSharedMemory(SolveKernel, kSolveBytes); !error.ok()) return error;
  const auto panels = static_cast<unsigned>(FeedbackPanels(args.columns));
  LoadKernel<<<dim3(panels, panels), kFactorThreads, 0, raw>>>(args);
  for (unsigned panel = 0; panel < panels; ++panel) {
    DiagonalKernel<<<1, kFactorThreads, 0, raw>>>(args, panel, args.damping * 0.5);
    const unsigned behind = panels - panel - 1;
    if (behind == 0) break;
    SolveKernel<<<behind, kFactorThreads, kSolveBytes, raw>>>(args, panel);
    SubtractKernel<<<dim3(behind, behind), kFactorThreads, 0, raw>>>(args, panel);
  }
  StoreFactorKernel<<<dim3(panels, panels), kFactorThreads, 0, raw>>>(args);
  return CheckLaunch("factor a Hessian");
}

KernelError MakeFeedbackCouplings(const FeedbackCouplingsArgs& args, StreamHandle stream) {
  if (args.columns == 0 || args.columns > kMostColumns) return BadArgument("columns of a Hessian");
  const auto panels = static_cast<unsigned>(FeedbackPanels(args.columns));
  StoreCouplingsKernel<<<dim3(panels, panels), kFactorThreads, 0, RawStream(stream)>>>(args);
  return CheckLaunch("make couplings");
}

}  // namespace q4::cuda
