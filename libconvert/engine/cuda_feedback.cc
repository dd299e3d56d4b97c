// One allocation, cut into what stays for the tensor, what stays for a matrix, and two areas that are used twice: the
// factor in the making and then the couplings; the Hessian and then the scratch memory of tiles.
#include "libconvert/engine/cuda_feedback.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "formats/base/status.h"
#include "kernels/cuda_kernels.h"
#include "kernels/cuda_runtime.h"
#include "kernels/feedback.h"
#include "kernels/feedback_cuda.h"
#include "libconvert/engine/device_issues.h"

namespace q4 {
namespace {

constexpr std::uint64_t RoundedUp(std::uint64_t bytes) { return (bytes + 255) / 256 * 256; }

// What a tensor takes on the device, in bytes.
struct Sizes {
  std::uint64_t x, codes, scales;
  cuda::FeedbackSizes factor;
  std::uint64_t tile;
  static constexpr std::uint64_t kWords = 256;  // what kernels find, a word each

  Sizes(const SlabShape& shape, std::uint64_t columns)
      : x(RoundedUp(shape.elems * FloatSize(shape.type))),
        codes(RoundedUp(PackedBytes(shape.elems))),
        scales(RoundedUp(BlockCount(shape.elems, shape.block_size) * sizeof(float))),
        factor(cuda::FeedbackSizesOf(columns)),
        tile(cuda::FeedbackTileBytes(columns)) {}

  std::uint64_t first_area() const { return std::max(factor.work, factor.couplings); }
  std::uint64_t second_area(std::uint64_t tiles) const { return std::max(factor.hessian, tiles * tile); }
  std::uint64_t Total(std::uint64_t tiles) const {
    return x + codes + scales + factor.factor + factor.pivots + factor.order + kWords + first_area() +
           second_area(tiles);
  }
};

// What a kernel finds, one word each.
struct Found {
  std::uint32_t failed, largest, kept;
};

// One tensor's work on a device.
class Work {
 public:
  Work(Device& device, const FeedbackRun& run, const Q4Tensor& tensor, const WeightInput& calibrated)
      : device_(device),
        run_(run),
        tensor_(tensor),
        input_(*calibrated.input),
        transposed_(calibrated.transposed),
        shape_(SlabShapeOf(tensor, tensor.elems)),
        rows_(tensor.elems / input_.matrices / input_.columns),
        sizes_(shape_, input_.columns) {}

  absl::StatusOr<FeedbackResult> Run(const std::uint8_t* x, const float* decoded, std::uint8_t* codes);

 private:
  absl::Status Allocate();
  // Of a matrix; false where it was interrupted.
  absl::StatusOr<bool> MakeFactor(std::uint64_t matrix, FeedbackResult* result);
  absl::StatusOr<bool> ChooseCodes(std::uint64_t matrix, FeedbackResult* result);

  bool Interrupted() const { return run_.interrupted && run_.interrupted(); }
  // As HeldStation::Do() and Finish().
  void Do(const cuda::KernelError& error) {
    if (first_error_.ok()) first_error_ = error;
  }
  absl::Status Finish() {
    Do(cuda::Synchronize(stream_.handle()));
    return Checked(first_error_, device_.ordinal);
  }
  template <typename T>
  T* At(std::uint64_t offset) const {
    return reinterpret_cast<T*>(memory_.as<std::uint8_t>() + offset);
  }
  Found* found() const { return At<Found>(sizes_.x + sizes_.codes + sizes_.scales); }

  Device& device_;
  const FeedbackRun& run_;
  const Q4Tensor& tensor_;
  const InputStatistics& input_;
  const bool transposed_;
  const SlabShape shape_;
  const std::uint64_t rows_;
  const Sizes sizes_;
  std::uint64_t tiles_at_once_ = 0;
  Reservation reserved_;
  cuda::DeviceBuffer memory_;
  cuda::Stream stream_;
  cuda::KernelError first_error_;
  // Pieces of memory_.
  std::uint8_t *x_ = nullptr, *codes_ = nullptr;
  float *scales_ = nullptr, *factor_ = nullptr, *couplings_ = nullptr, *hessian_ = nullptr;
  double *pivots_ = nullptr, *work_ = nullptr;
  std::uint32_t* order_ = nullptr;
  std::unique_ptr<float[]> host_hessian_;
};

absl::Status Work::Allocate() {
  Q4_RETURN_IF_ERROR(Checked(cuda::SetDevice(device_.ordinal), device_.ordinal));
  std::uint64_t tiles = 0;
  Q4_RETURN_IF_ERROR(Checked(cuda::FeedbackTilesAtOnce(&tiles), device_.ordinal));
  tiles = std::max<std::uint64_t>(1, std::min(tiles, cuda::FeedbackTiles(rows_)));
  const std::uint64_t limit = device_.budget.limit();
  if (sizes_.Total(1) > limit) {
    return Fail(kDeviceMemory, {}, fmt::format("cuda:{}, tensor '{}'", device_.ordinal, tensor_.name),
                GotExpected(fmt::format("{} bytes", limit),
                            fmt::format("{} bytes for a Hessian of {} columns", sizes_.Total(1), input_.columns)));
  }
  if (sizes_.Total(tiles) > limit) tiles = (limit - sizes_.Total(0) + sizes_.second_area(0)) / sizes_.tile;
  tiles_at_once_ = tiles;
  reserved_ = Reservation(&device_.budget, sizes_.Total(tiles));
  device_.pool.Trim();
  if (!memory_.Allocate(sizes_.Total(tiles)).ok()) return TakenMemory(device_);
  Q4_RETURN_IF_ERROR(Checked(stream_.Create(), device_.ordinal));
  std::uint64_t at = 0;
  const auto take = [&](std::uint64_t bytes) { return At<std::uint8_t>(std::exchange(at, at + bytes)); };
  x_ = take(sizes_.x);
  codes_ = take(sizes_.codes);
  scales_ = reinterpret_cast<float*>(take(sizes_.scales));
  take(Sizes::kWords);
  factor_ = reinterpret_cast<float*>(take(sizes_.factor.factor));
  pivots_ = reinterpret_cast<double*>(take(sizes_.factor.pivots));
  order_ = reinterpret_cast<std::uint32_t*>(take(sizes_.factor.order));
  work_ = reinterpret_cast<double*>(take(sizes_.first_area()));
  couplings_ = reinterpret_cast<float*>(work_);
  hessian_ = reinterpret_cast<float*>(take(sizes_.second_area(tiles)));
  return absl::OkStatus();
}

absl::StatusOr<bool> Work::MakeFactor(std::uint64_t matrix, FeedbackResult* result) {
  const std::uint64_t n = input_.columns;
  const cuda::StreamHandle stream = stream_.handle();
  // Not a vector, which would fill it with zeros before.
  if (host_hessian_ == nullptr) host_hessian_ = std::make_unique_for_overwrite<float[]>(n * n);
  Q4_RETURN_IF_ERROR(run_.calibration.ReadHessian(input_, matrix, {host_hessian_.get(), n * n}));
  if (Interrupted()) return false;
  Do(cuda::CopyToDevice(hessian_, host_hessian_.get(), n * n * sizeof(float), stream));
  Do(cuda::MirrorHessian(n, hessian_, stream));
  std::vector<float> diagonal(n);
  for (std::uint64_t k = 0; k < n; ++k) diagonal[k] = host_hessian_[k * n + k];
  const std::vector<std::uint32_t> order = FeedbackOrder(diagonal);
  Do(cuda::CopyToDevice(order_, order.data(), n * sizeof(order[0]), stream));
  double damping = FeedbackDamping(diagonal);
  int raises = 0;
  while (true) {
    Do(cuda::FactorHessian({n, hessian_, order_, damping, work_, factor_, pivots_, &found()->largest, &found()->failed},
                           stream));
    std::uint32_t failed = 0;
    Do(cuda::CopyToHost(&failed, &found()->failed, sizeof(failed), stream));
    Q4_RETURN_IF_ERROR(Finish());
    if (Interrupted()) return false;
    if (failed == 0) break;
    if (raises == kMostFeedbackRaises) {
      return HessianNotPositive(run_.calibration, input_, matrix, tensor_.name);
    }
    damping = damping * 10;
    ++raises;
  }
  result->raised += raises != 0;
  result->most_raises = std::max(result->most_raises, raises);
  Do(cuda::MakeFeedbackCouplings({n, hessian_, order_, damping, couplings_}, stream));
  return true;
}

absl::StatusOr<bool> Work::ChooseCodes(std::uint64_t matrix, FeedbackResult* result) {
  const cuda::StreamHandle stream = stream_.handle();
  Do(cuda::Fill(&found()->kept, 0, sizeof(found()->kept), stream));
  cuda::FeedbackCodesArgs args;
  args.matrix = {shape_.type,       shape_.book(),
                 shape_.block_size, rows_,
                 input_.columns,    matrix * rows_ * input_.columns,
                 transposed_,       x_,
                 scales_,           codes_};
  args.order = order_;
  args.factor = factor_;
  args.couplings = couplings_;
  args.pivots = pivots_;
  args.largest = &found()->largest;
  args.passes = kFeedbackDescents;
  args.scratch = hessian_;  // of which nothing is needed any more
  args.kept = &found()->kept;
  const std::uint64_t tiles = cuda::FeedbackTiles(rows_);
  for (args.first_tile = 0; args.first_tile < tiles; args.first_tile += args.tiles) {
    args.tiles = std::min(tiles_at_once_, tiles - args.first_tile);
    Do(cuda::ChooseFeedbackCodes(args, stream));
    Q4_RETURN_IF_ERROR(Finish());
    if (Interrupted()) return false;
  }
  std::uint32_t kept = 0;
  Do(cuda::CopyToHost(&kept, &found()->kept, sizeof(kept), stream));
  Q4_RETURN_IF_ERROR(Finish());
  result->rows += rows_;
  result->kept_rows += kept;
  return true;
}

absl::StatusOr<FeedbackResult> Work::Run(const std::uint8_t* x, const float* decoded, std::uint8_t* codes) {
  const ScopedFloatEnvironment environment;
  Q4_RETURN_IF_ERROR(Allocate());
  const cuda::StreamHandle stream = stream_.handle();
  Do(cuda::CopyToDevice(x_, x, shape_.elems * FloatSize(shape_.type), stream));
  Do(cuda::CopyToDevice(scales_, decoded, BlockCount(shape_.elems, shape_.block_size) * sizeof(float), stream));
  Do(cuda::CodesUnder({shape_.type, shape_.book(), x_, shape_.elems, shape_.block_size, scales_, codes_}, stream));
  FeedbackResult result;
  for (std::uint64_t matrix = 0; matrix < input_.matrices; ++matrix) {
    for (const auto step : {&Work::MakeFactor, &Work::ChooseCodes}) {
      absl::StatusOr<bool> done = (this->*step)(matrix, &result);
      // What was begun uses memory that is about to go.
      const absl::Status finished = Finish();
      if (!done.ok()) return done.status();
      Q4_RETURN_IF_ERROR(finished);
      if (!*done) {
        result.interrupted = true;
        return result;
      }
    }
  }
  Do(cuda::CopyToHost(codes, codes_, PackedBytes(shape_.elems), stream));
  Q4_RETURN_IF_ERROR(Finish());
  return result;
}

}  // namespace

absl::StatusOr<FeedbackResult> ChooseFeedbackCodesOn(Device& device, const FeedbackRun& run, const Q4Tensor& tensor,
                                                     const WeightInput& calibrated, const std::uint8_t* x,
                                                     const float* decoded, std::uint8_t* codes) {
  return Work(device, run, tensor, calibrated).Run(x, decoded, codes);
}

std::uint64_t FeedbackMemoryBeside(const WeightInput& calibrated) {
  const std::uint64_t columns = calibrated.input->columns;
  // The order and the diagonal, and what reading a Hessian takes.
  return columns * columns * sizeof(float) + columns * (2 * sizeof(double) + 4 * sizeof(float));
}

}  // namespace q4
