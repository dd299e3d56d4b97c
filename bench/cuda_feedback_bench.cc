// What the encoder feedback (docs/numerics.md Q17) costs on a GPU: a layer of 4096 x 11008, and a model of 7 billion
// parameters from its four shapes. Before anything is timed, the factor of 11008 columns is compared with that of the
// cores, bit by bit, and so are the codes of the first 64 rows and of the last; one that differs prints no time.
//   cuda_feedback_bench [runs [threads]]      medians of 3 runs; threads of the cores' factor: 16
// Seconds by the host's clock. Hessian and weights are made up; where the time goes does not depend on them.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <random>
#include <thread>
#include <vector>

#include "kernels/cuda_kernels.h"
#include "kernels/cuda_runtime.h"
#include "kernels/feedback.h"
#include "kernels/feedback_cuda.h"
#include "kernels/kernels.h"
#include "kernels/numeric.h"

namespace q4 {
namespace {

constexpr std::uint32_t kBlockSize = 64;
constexpr int kDescents = 2;

double Now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

void Check(const cuda::KernelError& error) {
  if (error.ok()) return;
  std::printf("FAILED %s: %s\n", error.what, cuda::ErrorText(error));
  std::exit(1);
}

struct Layer {
  std::uint64_t rows, columns;
  std::vector<float> hessian, x, scales;
  std::vector<std::uint8_t> codes;

  Layer(std::uint64_t m, std::uint64_t n) : rows(m), columns(n), hessian(n * n), x(m * n), scales(m * n / kBlockSize) {
    std::mt19937 random(1);
    std::uniform_real_distribution<float> spread(0.5f, 2.0f);
    std::vector<float> size(n);
    for (float& each : size) each = spread(random);
    for (std::uint64_t i = 0; i < n; ++i) {
      for (std::uint64_t j = 0; j < n; ++j) {
        hessian[i * n + j] = size[i] * size[j] / static_cast<float>(1 + (i < j ? j - i : i - j));
      }
    }
    // The sum of two bytes of a generator: quick, and near enough to weights.
    std::uint64_t state = 1;
    for (float& each : x) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      each = 0.0003f * (static_cast<float>(state >> 56) + static_cast<float>(state >> 40 & 0xFF) - 255.0f);
    }
    (void)BestCpuKernels().absmax(FloatType::kF32, x.data(), x.size(), kBlockSize, scales.data());
    codes.resize(PackedBytes(x.size()));
    BestCpuKernels().codes_under(FloatType::kF32, CodeBook::kNf4, x.data(), x.size(), kBlockSize, scales.data(),
                                 codes.data());
  }
  FeedbackMatrix Of(const void* elements, const float* decoded, std::uint8_t* of) const {
    return {FloatType::kF32, CodeBook::kNf4, kBlockSize, rows, columns, 0, false, elements, decoded, of};
  }
};

struct Seconds {
  double copy = 0, factor = 0, codes = 0;
  double total() const { return copy + factor + codes; }
};

// A layer on the device, with all that it needs.
class OnDevice {
 public:
  explicit OnDevice(const Layer& layer) : layer_(layer), sizes_(cuda::FeedbackSizesOf(layer.columns)) {
    std::uint64_t at_once = 0;
    Check(cuda::FeedbackTilesAtOnce(&at_once));
    tiles_at_once_ = std::min(at_once, cuda::FeedbackTiles(layer.rows));
    Allocate(&hessian_, sizes_.hessian);
    Allocate(&work_, std::max(sizes_.work, sizes_.couplings));
    Allocate(&factor_, sizes_.factor);
    Allocate(&pivots_, sizes_.pivots);
    Allocate(&order_, sizes_.order);
    Allocate(&words_, 256);
    Allocate(&x_, layer.x.size() * sizeof(float));
    Allocate(&scales_, layer.scales.size() * sizeof(float));
    Allocate(&codes_, (layer.codes.size() + 3) / 4 * 4);
    Allocate(&scratch_, tiles_at_once_ * cuda::FeedbackTileBytes(layer.columns));
  }
  std::uint64_t bytes() const { return bytes_; }

  Seconds Run() {
    const std::uint64_t n = layer_.columns;
    Seconds seconds;
    double begin = Now();
    Check(cuda::CopyToDevice(hessian_.data(), layer_.hessian.data(), n * n * sizeof(float), nullptr));
    Check(cuda::CopyToDevice(x_.data(), layer_.x.data(), layer_.x.size() * sizeof(float), nullptr));
    Check(cuda::CopyToDevice(scales_.data(), layer_.scales.data(), layer_.scales.size() * sizeof(float), nullptr));
    Check(cuda::CopyToDevice(codes_.data(), layer_.codes.data(), layer_.codes.size(), nullptr));
    Lap(&begin, &seconds.copy);

    std::vector<float> diagonal(n);
    for (std::uint64_t k = 0; k < n; ++k) diagonal[k] = layer_.hessian[k * n + k];
    const std::vector<std::uint32_t> order = FeedbackOrder(diagonal);
    const double damping = FeedbackDamping(diagonal);
    auto* const words = words_.as<std::uint32_t>();
    Check(cuda::CopyToDevice(order_.data(), order.data(), n * sizeof(order[0]), nullptr));
    Check(cuda::MirrorHessian(n, hessian_.as<float>(), nullptr));
    Check(cuda::FactorHessian({n, hessian_.as<float>(), order_.as<std::uint32_t>(), damping, work_.as<double>(),
                               factor_.as<float>(), pivots_.as<double>(), words, words + 1},
                              nullptr));
    Check(cuda::MakeFeedbackCouplings({n, hessian_.as<float>(), order_.as<std::uint32_t>(), damping, work_.as<float>()},
                                      nullptr));
    Check(cuda::Fill(words + 2, 0, 4, nullptr));
    Lap(&begin, &seconds.factor);

    cuda::FeedbackCodesArgs args;
    args.matrix = layer_.Of(x_.data(), scales_.as<float>(), codes_.as<std::uint8_t>());
    args.order = order_.as<std::uint32_t>();
    args.factor = factor_.as<float>();
    args.couplings = work_.as<float>();
    args.pivots = pivots_.as<double>();
    args.largest = words;
    args.passes = kDescents;
    args.scratch = scratch_.data();
    args.kept = words + 2;
    const std::uint64_t tiles = cuda::FeedbackTiles(layer_.rows);
    for (args.first_tile = 0; args.first_tile < tiles; args.first_tile += args.tiles) {
      args.tiles = std::min(tiles_at_once_, tiles - args.first_tile);
      Check(cuda::ChooseFeedbackCodes(args, nullptr));
    }
    Lap(&begin, &seconds.codes);
    return seconds;
  }

  std::vector<std::uint8_t> Codes() const { return Download<std::uint8_t>(codes_, layer_.codes.size()); }
  bool Is(const FeedbackFactor& expected) const {
    return Same(factor_, expected.factor) && Same(work_, expected.couplings) && Same(pivots_, expected.pivots);
  }

 private:
  void Allocate(cuda::DeviceBuffer* buffer, std::uint64_t bytes) {
    Check(buffer->Allocate(bytes));
    bytes_ += bytes;
  }
  static void Lap(double* begin, double* seconds) {
    Check(cuda::Synchronize(nullptr));
    const double now = Now();
    *seconds = now - *begin;
    *begin = now;
  }
  template <typename T>
  static std::vector<T> Download(const cuda::DeviceBuffer& buffer, std::uint64_t size) {
    std::vector<T> host(size);
    Check(cuda::CopyToHost(host.data(), buffer.data(), size * sizeof(T), nullptr));
    Check(cuda::Synchronize(nullptr));
    return host;
  }
  template <typename T>
  static bool Same(const cuda::DeviceBuffer& buffer, const std::vector<T>& expected) {
    return std::memcmp(Download<T>(buffer, expected.size()).data(), expected.data(), expected.size() * sizeof(T)) == 0;
  }

  const Layer& layer_;
  const cuda::FeedbackSizes sizes_;
  std::uint64_t tiles_at_once_ = 0, bytes_ = 0;
  cuda::DeviceBuffer hessian_, work_, factor_, pivots_, order_, words_, x_, scales_, codes_, scratch_;
};

// Whether the device has made what the cores make.
bool IsRight(const Layer& layer, const OnDevice& device, unsigned threads) {
  const double begin = Now();
  std::vector<float> hessian = layer.hessian;
  FeedbackFactor factor;
  const SpreadWork spread = [threads](std::uint64_t count, const std::function<void(std::uint64_t)>& work) {
    std::atomic<std::uint64_t> next{0};
    std::vector<std::thread> helpers;
    for (unsigned t = 0; t < threads; ++t) {
      helpers.emplace_back([&] {
        for (std::uint64_t i; (i = next++) < count;) work(i);
      });
    }
    for (std::thread& helper : helpers) helper.join();
  };
  if (!MakeFeedbackFactor(BestCpuKernels(), layer.columns, hessian, spread, &factor)) return false;
  const double made = Now() - begin;
  if (!device.Is(factor)) {
    std::printf("DIFFERENT: the factor\n");
    return false;
  }
  std::vector<std::uint8_t> codes = layer.codes;
  const std::uint64_t last = (layer.rows - 1) / kFeedbackRows;
  spread(2, [&](std::uint64_t i) {
    FeedbackTile tile(layer.columns);
    (void)tile.ChooseCodes(BestCpuKernels(), factor, kDescents, i * last,
                           layer.Of(layer.x.data(), layer.scales.data(), codes.data()));
  });
  const std::vector<std::uint8_t> there = device.Codes();
  const auto same = [&](std::uint64_t first_row, std::uint64_t end_row) {
    const std::uint64_t begin_at = first_row * layer.columns / 2, end = end_row * layer.columns / 2;
    return std::memcmp(&codes[begin_at], &there[begin_at], end - begin_at) == 0;
  };
  if (!same(0, kFeedbackRows) || !same(last * kFeedbackRows, layer.rows) || codes == layer.codes) {
    std::printf("DIFFERENT: the codes\n");
    return false;
  }
  std::printf(
      "equal to the cores (%s, %u threads: factor %.1f s): factor, couplings and pivots of %llu columns, codes of 128 "
      "rows\n",
      BestCpuKernels().name, threads, made, static_cast<unsigned long long>(layer.columns));
  return true;
}

int Main(int runs, unsigned threads) {
  Check(cuda::StartDevice(0));
  cuda::DeviceInfo info;
  Check(cuda::GetDeviceInfo(0, &info));
  const ScopedFloatEnvironment environment;
  struct Shape {
    std::uint64_t rows, columns;
    int of_block;  // matrices of this shape in a block of the model
  };
  const Shape shapes[] = {{4096, 11008, 1}, {4096, 4096, 4}, {11008, 4096, 2}};
  constexpr int kBlocks = 32;
  double model = 0;
  std::printf("%s; seconds, medians of %d runs\n", info.name, runs);
  for (const Shape& shape : shapes) {
    const Layer layer(shape.rows, shape.columns);
    OnDevice device(layer);
    (void)device.Run();
    if (&shape == shapes && !IsRight(layer, device, threads)) return 1;
    std::vector<Seconds> all;
    for (int run = 0; run < runs; ++run) all.push_back(device.Run());
    std::sort(all.begin(), all.end(), [](const Seconds& a, const Seconds& b) { return a.total() < b.total(); });
    const Seconds& median = all[all.size() / 2];
    const double n = static_cast<double>(shape.columns), m = static_cast<double>(shape.rows);
    std::printf(
        "%5llu x %5llu  %.3f s: copies %.3f, factor %.3f (%.0f G products/s), codes %.3f (%.0f G products/s); %.2f "
        "GB\n",
        static_cast<unsigned long long>(shape.rows), static_cast<unsigned long long>(shape.columns), median.total(),
        median.copy, median.factor, n * n * n / 6 / median.factor * 1e-9, median.codes,
        m * n * n * (0.5 + kDescents + 0.5) / median.codes * 1e-9, static_cast<double>(device.bytes()) * 1e-9);
    std::fflush(stdout);
    model += kBlocks * shape.of_block * median.total();
  }
  std::printf("7B, %d blocks of 4 x (4096 x 4096), 2 x (11008 x 4096), 1 x (4096 x 11008): %.0f s\n", kBlocks, model);
  return 0;
}

}  // namespace
}  // namespace q4

int main(int argc, char** argv) {
  const int runs = argc > 1 ? std::atoi(argv[1]) : 3;
  const int threads = argc > 2 ? std::atoi(argv[2]) : 16;
  if (runs < 1 || threads < 1) {
    std::fputs("cuda_feedback_bench [runs [threads]]\n", stderr);
    return 1;
  }
  return q4::Main(runs, static_cast<unsigned>(threads));
}
