// Matrices of a stack come one after the other, since each has a Hessian of its own that is as large as what its factor
// takes. Within one, threads share the panels of the factor and then the tiles of rows; the arithmetic is
// kernels/feedback.h.
#include "libconvert/encode/feedback.h"

#include <algorithm>
#include <atomic>
#include <memory>
#include <vector>

#include "fmt/format.h"
#include "formats/base/status.h"
#include "formats/base/text.h"
#include "formats/calibration/calibration_issues.h"
#include "kernels/feedback.h"
#include "libconvert/base/parallel.h"
#include "libconvert/encode/mse.h"

namespace q4 {
namespace {

// work(i) for each i below `count` on several threads.
void Spread(unsigned threads, std::uint64_t count, const std::function<void(std::uint64_t)>& work) {
  (void)ParallelInOrder(
      count, threads,
      [&](std::uint64_t i) {
        const ScopedFloatEnvironment environment;
        work(i);
        return true;
      },
      [](std::uint64_t, bool) { return absl::OkStatus(); });
}

// The nearest codes, by pieces that begin with whole bytes of codes and whole groups of blocks.
void NearestCodesOf(const FeedbackRun& run, const Q4Tensor& tensor, const std::uint8_t* x, const float* decoded,
                    std::uint8_t* codes) {
  const std::uint64_t piece = TileElems(tensor.block_size);
  Spread(run.threads, tensor.elems / piece + (tensor.elems % piece != 0), [&](std::uint64_t i) {
    const std::uint64_t first = i * piece;
    const SlabShape shape = SlabShapeOf(tensor, std::min(piece, tensor.elems - first));
    SearchingEncoder::CodesUnder(run.kernels, shape, x + first * FloatSize(shape.type),
                                 decoded + first / tensor.block_size, codes + first / 2);
  });
}

// The factor of matrix `m`: a kept one, or made of its Hessian. nullptr after an interruption.
absl::StatusOr<std::shared_ptr<const FeedbackFactor>> FactorOf(const FeedbackRun& run, const InputStatistics& input,
                                                               std::uint64_t m, const std::string& tensor) {
  if (run.factors != nullptr) {
    if (auto kept = run.factors->Find(input, m)) return kept;
  }
  const auto interrupted = [&run] { return run.interrupted && run.interrupted(); };
  auto factor = std::make_shared<FeedbackFactor>();
  std::vector<float> hessian(input.columns * input.columns);
  Q4_RETURN_IF_ERROR(run.calibration.ReadHessian(input, m, hessian));
  // Once it is interrupted the factor is nothing, and may look like no factor at all.
  const bool made = MakeFeedbackFactor(
      run.kernels, input.columns, hessian,
      [&](std::uint64_t count, const std::function<void(std::uint64_t)>& work) {
        if (!interrupted()) Spread(run.threads, count, work);
      },
      factor.get());
  if (interrupted()) return nullptr;
  if (!made) return HessianNotPositive(run.calibration, input, m, tensor);
  if (run.factors != nullptr) run.factors->Offer(input, m, factor);
  return factor;
}

}  // namespace

absl::StatusOr<FeedbackResult> ChooseFeedbackCodes(const FeedbackRun& run, const Q4Tensor& tensor,
                                                   const WeightInput& calibrated, const std::uint8_t* x,
                                                   const float* decoded, std::uint8_t* codes) {
  const InputStatistics& input = *calibrated.input;
  const std::uint64_t columns = input.columns, rows = tensor.elems / input.matrices / columns;
  const SlabShape shape = SlabShapeOf(tensor, tensor.elems);
  const ScopedFloatEnvironment environment;
  FeedbackResult result;
  const auto interrupted = [&run] { return run.interrupted && run.interrupted(); };
  NearestCodesOf(run, tensor, x, decoded, codes);
  for (std::uint64_t m = 0; m < input.matrices; ++m) {
    Q4_ASSIGN_OR_RETURN(const std::shared_ptr<const FeedbackFactor> factor, FactorOf(run, input, m, tensor.name));
    if ((result.interrupted = factor == nullptr)) return result;
    result.raised += factor->raises != 0;
    result.most_raises = std::max(result.most_raises, factor->raises);
    const FeedbackMatrix matrix{
        shape.type, shape.book(), tensor.block_size, rows, columns, m * rows * columns, calibrated.transposed, x,
        decoded,    codes};
    std::atomic<std::uint64_t> kept{0}, next{0};
    const std::uint64_t tiles = rows / kFeedbackRows + (rows % kFeedbackRows != 0);
    // A thread takes tile after tile, so that it needs scratch for one.
    Spread(run.threads, std::min<std::uint64_t>(run.threads, tiles), [&](std::uint64_t) {
      FeedbackTile scratch(columns);
      for (std::uint64_t tile; (tile = next++) < tiles && !interrupted();) {
        kept += scratch.ChooseCodes(run.kernels, *factor, kFeedbackDescents, tile, matrix);
      }
    });
    if ((result.interrupted = interrupted())) return result;
    result.rows += rows;
    result.kept_rows += kept;
  }
  return result;
}

absl::Status HessianNotPositive(const Calibration& calibration, const InputStatistics& input, std::uint64_t matrix,
                                const std::string& tensor) {
  return Fail(kHessianNotPositive, calibration.path(),
              fmt::format("input '{}'{}, for tensor '{}'", input.name,
                          input.matrices == 1 ? "" : fmt::format(", matrix {}", matrix), tensor),
              "100 times the mean of its diagonal, added to it, is not enough; calibrate again, or use --encoder "
              "weighted for this tensor");
}

std::string FeedbackNote(const Q4Tensor& tensor, const FeedbackResult& result) {
  if (result.raised == 0) return {};
  double damping = 0.01;
  for (int i = 0; i < result.most_raises; ++i) damping *= 10;
  return fmt::format(
      "tensor '{}': {} not positive definite with the usual damping, which was raised to {} of the mean of the "
      "diagonal: "
      "calibrate with more text",
      Printable(tensor.name),
      result.raised == 1 ? "its Hessian is" : fmt::format("{} of its Hessians are", result.raised), damping);
}

std::uint64_t FeedbackMemory(const WeightInput& calibrated, unsigned threads) {
  const std::uint64_t columns = calibrated.input->columns;
  return std::max(FeedbackPeakBytes(columns), FeedbackFactorBytes(columns) + threads * FeedbackTile::Bytes(columns));
}

}  // namespace q4
