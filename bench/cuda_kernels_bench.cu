// Speed of the CUDA kernels: CUDA events, median of N runs on one large tensor after a warm-up. Before anything is
// timed its output is compared by bytes with the scalar reference on parts of the tensor; a benchmark that differs
// prints no time.
//   cuda_kernels_bench [runs [rows columns [mse]]]      with "mse": the rows of that encoder and of weighted
// alone
// Bytes are those that must cross the memory bus: each input read once, each output written once.
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "kernels/cuda_kernels.h"
#include "kernels/cuda_runtime.h"
#include "kernels/numeric.h"
#include "kernels/scalar_kernels.h"

namespace q4 {
namespace {

int failures = 0;

void Check(const cuda::KernelError& error) {
  if (error.ok()) return;
  std::printf("FAILED %s: %s\n", error.what, cuda::ErrorText(error));
  std::exit(1);
}

// Approximately normal weights, from the element's index.
__global__ void FillWeights(FloatType type, void* x, std::uint64_t n) {
  const std::uint64_t threads = std::uint64_t{gridDim.x} * blockDim.x;
  for (std::uint64_t i = std::uint64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < n; i += threads) {
    float sum = -6;
    std::uint64_t h = (i + 1) * 0x9E3779B97F4A7C15u;
    for (int k = 0; k < 3; ++k) {
      h = (h ^ (h >> 30)) * 0xBF58476D1CE4E5B9u;
      h = (h ^ (h >> 27)) * 0x94D049BB133111EBu;
      h ^= h >> 31;
      for (int j = 0; j < 4; ++j) sum += static_cast<float>((h >> (16 * j)) & 0xFFFF) * 0x1p-16f;
    }
    StoreElement(type, x, i, 0.02f * sum);
  }
}

struct Bench {
  int runs = 25;
  std::uint64_t n = std::uint64_t{16384} * 65536;
  double copy_bytes_per_second = 0;

  double Median(const std::function<cuda::KernelError()>& work) const {
    cuda::Event begin, end;
    Check(begin.Create());
    Check(end.Create());
    std::vector<double> seconds;
    for (int run = -3; run < runs; ++run) {
      Check(begin.Record(nullptr));
      Check(work());
      Check(end.Record(nullptr));
      Check(end.Wait());
      float ms = 0;
      Check(cuda::Event::Elapsed(begin, end, &ms));
      if (run >= 0) seconds.push_back(ms * 1e-3);
    }
    std::sort(seconds.begin(), seconds.end());
    return seconds[seconds.size() / 2];
  }

  void Report(const char* name, double bytes, bool equal, const std::function<cuda::KernelError()>& work) const {
    if (!equal) {
      std::printf("%-44s DIFFERS FROM THE REFERENCE\n", name);
      ++failures;
      return;
    }
    const double s = Median(work);
    std::printf("%-44s %8.3f ms %8.1f G el/s %8.1f GB/s %6.1f %% of copy\n", name, s * 1e3,
                static_cast<double>(n) / s * 1e-9, bytes / s * 1e-9, 100 * bytes / s / copy_bytes_per_second);
  }
};

// One tensor on the device and what is made of it.
struct Tensor {
  Tensor(FloatType type_in, CodeBook book_in, std::uint64_t n_in, std::uint32_t block_size_in)
      : type(type_in), book(book_in), n(n_in), block_size(block_size_in), blocks(BlockCount(n, block_size)) {
    Check(x.Allocate(n * FloatSize(type)));
    Check(codes.Allocate(PackedBytes(n)));
    Check(scales.Allocate(4 * blocks));
    Check(first_bad.Allocate(8));
    Check(scale_codes.Allocate(blocks));
    Check(absmax2.Allocate(4 * GroupCount(blocks)));
    Check(offset.Allocate(4));
    Check(sum.Allocate(sizeof(cuda::ScaleSum)));
    Check(sum_workspace.Allocate(cuda::SumScalesWorkspace(blocks)));
    Check(decoded.Allocate(4 * blocks));
    Check(groups.Allocate(GroupCount(blocks) * sizeof(GroupSums)));
    Check(stats.Allocate(sizeof(SlabStats)));
    Check(stats_workspace.Allocate(cuda::ErrorStatsWorkspace()));
    FillWeights<<<4096, 256>>>(type, x.data(), n);
    Check(cuda::Synchronize(nullptr));
  }

  cuda::QuantizeArgs Args() const {
    return {type,
            book,
            x.data(),
            n,
            block_size,
            codes.as<std::uint8_t>(),
            scales.as<float>(),
            first_bad.as<std::uint64_t>()};
  }
  cuda::NestedScales Nested() const {
    return {scale_codes.as<std::uint8_t>(), absmax2.as<float>(), offset.as<float>()};
  }

  cuda::KernelError Quantize() const { return cuda::Quantize(Args(), nullptr); }
  cuda::KernelError QuantizeScales() const {
    cuda::KernelError error = cuda::Fill(sum.data(), 0, sizeof(cuda::ScaleSum), nullptr);
    if (error.ok()) {
      error = cuda::SumScales(
          {scales.as<float>(), blocks, sum.as<cuda::ScaleSum>(), offset.as<float>(), blocks, sum_workspace.data()},
          nullptr);
    }
    if (!error.ok()) return error;
    return cuda::QuantizeScales(
        {scales.as<float>(), blocks, offset.as<float>(), scale_codes.as<std::uint8_t>(), absmax2.as<float>()}, nullptr);
  }
  cuda::KernelError QuantizeNested() const {
    const cuda::KernelError error = Quantize();
    return error.ok() ? QuantizeScales() : error;
  }
  cuda::KernelError QuantizeWithStats() const {
    return cuda::QuantizeWithStats({Args(), groups.as<GroupSums>(), stats.as<SlabStats>(), stats_workspace.data()},
                                   nullptr);
  }
  cuda::KernelError ErrorStats(const float* used_scales) const {
    return cuda::ErrorStats({type, book, x.data(), codes.as<std::uint8_t>(), used_scales, n, block_size,
                             groups.as<GroupSums>(), stats.as<SlabStats>(), stats_workspace.data()},
                            nullptr);
  }
  cuda::KernelError Dequantize(FloatType out_type, bool nested, void* out) const {
    return cuda::Dequantize(
        {book, codes.as<std::uint8_t>(), nested ? nullptr : scales.as<float>(), Nested(), n, block_size, out_type, out},
        nullptr);
  }

  FloatType type;
  CodeBook book;
  std::uint64_t n;
  std::uint32_t block_size;
  std::uint64_t blocks;
  cuda::DeviceBuffer x, codes, scales, first_bad, scale_codes, absmax2, offset, sum, sum_workspace, decoded, groups,
      stats, stats_workspace;
};

template <typename T>
std::vector<T> Download(const void* device, std::uint64_t first, std::uint64_t count) {
  std::vector<T> host(count);
  Check(cuda::CopyToHost(host.data(), static_cast<const T*>(device) + first, count * sizeof(T), nullptr));
  Check(cuda::Synchronize(nullptr));
  return host;
}

template <typename T>
bool SameBytes(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

// The tensor's first, middle and last 64 groups (or all of it), against the reference.
template <typename Compare>
bool EveryPart(const Tensor& t, const Compare& compare) {
  const std::uint64_t group = kScaleGroup * t.block_size,
                      size = std::min<std::uint64_t>(t.n, std::max<std::uint64_t>(group, 1 << 20));
  bool equal = true;
  for (const std::uint64_t begin : {std::uint64_t{0}, t.n / 2 / group * group, (t.n - size) / group * group}) {
    equal = equal && compare(begin, std::min(size, t.n - begin));
  }
  return equal;
}

struct Part {
  std::vector<std::uint8_t> x, codes;
  std::vector<float> scales;
};

Part ReferencePart(const Tensor& t, std::uint64_t begin, std::uint64_t size) {
  Part part;
  part.x = Download<std::uint8_t>(t.x.data(), begin * FloatSize(t.type), size * FloatSize(t.type));
  part.codes.resize(PackedBytes(size));
  part.scales.resize(BlockCount(size, t.block_size));
  scalar::Quantize(t.type, t.book, part.x.data(), size, t.block_size, part.codes.data(), part.scales.data());
  return part;
}

bool CodesAreEqual(const Tensor& t) {
  return EveryPart(t, [&](std::uint64_t begin, std::uint64_t size) {
    const Part part = ReferencePart(t, begin, size);
    return SameBytes(part.codes, Download<std::uint8_t>(t.codes.data(), begin / 2, PackedBytes(size))) &&
           SameBytes(part.scales, Download<float>(t.scales.data(), begin / t.block_size, part.scales.size()));
  });
}

// The decoded nested scales of a part, by the reference. Checks the offset's sum on the whole tensor.
bool NestedAreEqual(const Tensor& t) {
  const std::vector<float> scales = Download<float>(t.scales.data(), 0, t.blocks);
  Sum256 sum;
  sum.Add(scales);
  const float offset = NestedOffset(sum.total(), t.blocks);
  std::vector<std::uint8_t> codes(t.blocks);
  std::vector<float> absmax2(GroupCount(t.blocks));
  scalar::QuantizeScales(scales.data(), t.blocks, offset, codes.data(), absmax2.data());
  return SameBytes({offset}, Download<float>(t.offset.data(), 0, 1)) &&
         SameBytes(codes, Download<std::uint8_t>(t.scale_codes.data(), 0, t.blocks)) &&
         SameBytes(absmax2, Download<float>(t.absmax2.data(), 0, absmax2.size()));
}

bool GroupSumsAreEqual(const Tensor& t, const float* device_scales) {
  return EveryPart(t, [&](std::uint64_t begin, std::uint64_t size) {
    const Part part = ReferencePart(t, begin, size);
    const std::vector<float> scales = Download<float>(device_scales, begin / t.block_size, part.scales.size());
    std::vector<GroupSums> expected(GroupCount(part.scales.size()));
    SlabStats stats;
    scalar::ErrorStats(t.type, t.book, part.x.data(), part.codes.data(), scales.data(), size, t.block_size,
                       expected.data(), &stats);
    return SameBytes(expected,
                     Download<GroupSums>(t.groups.data(), begin / t.block_size / kScaleGroup, expected.size()));
  });
}

bool OutputIsEqual(const Tensor& t, const float* device_scales, FloatType out_type, const void* out) {
  return EveryPart(t, [&](std::uint64_t begin, std::uint64_t size) {
    const Part part = ReferencePart(t, begin, size);
    const std::vector<float> scales = Download<float>(device_scales, begin / t.block_size, part.scales.size());
    std::vector<std::uint8_t> expected(size * FloatSize(out_type));
    scalar::Dequantize(t.book, part.codes.data(), scales.data(), size, t.block_size, out_type, expected.data());
    return SameBytes(expected, Download<std::uint8_t>(out, begin * FloatSize(out_type), expected.size()));
  });
}

const char* NameOf(FloatType type) {
  return type == FloatType::kF32 ? "f32" : type == FloatType::kF16 ? "f16" : "bf16";
}
const char* NameOf(CodeBook book) { return book == CodeBook::kNf4 ? "nf4" : "fp4"; }

void MeasureCopy(Bench* bench) {
  cuda::DeviceBuffer from, to;
  const std::uint64_t bytes = std::uint64_t{4} << 30;
  Check(from.Allocate(bytes));
  Check(to.Allocate(bytes));
  FillWeights<<<4096, 256>>>(FloatType::kBF16, from.data(), bytes / 2);
  const double s = bench->Median([&] { return cuda::CopyOnDevice(to.data(), from.data(), bytes, nullptr); });
  bench->copy_bytes_per_second = 2.0 * static_cast<double>(bytes) / s;
  std::printf("%-44s %8.3f ms %30.1f GB/s (read and written)\n", "device-to-device copy of 4 GiB", s * 1e3,
              bench->copy_bytes_per_second * 1e-9);
}

void MeasureTensor(const Bench& bench, FloatType type, CodeBook book, std::uint32_t block_size, bool everything) {
  const Tensor t(type, book, bench.n, block_size);
  const std::string shape = std::string(NameOf(book)) + " " + NameOf(type) + " b" + std::to_string(block_size);
  const auto n = static_cast<double>(bench.n), blocks = static_cast<double>(t.blocks);
  const double in = n * static_cast<double>(FloatSize(type)), packed = n / 2, scales = 4 * blocks,
               nested = blocks * (1 + 4.0 / 256);

  Check(t.Quantize());
  const bool equal = CodesAreEqual(t);
  bench.Report(("quantize " + shape).c_str(), in + packed + scales, equal, [&] { return t.Quantize(); });
  if (!everything) return;

  Check(t.QuantizeScales());
  Check(cuda::DequantizeScales({t.Nested(), t.blocks, t.decoded.as<float>()}, nullptr));
  const bool nested_equal = equal && NestedAreEqual(t);
  bench.Report(("quantize, double quantization " + shape).c_str(), in + packed + nested, nested_equal,
               [&] { return t.QuantizeNested(); });
  bench.Report(("  of which the scales " + shape).c_str(), scales + nested, nested_equal,
               [&] { return t.QuantizeScales(); });

  Check(t.ErrorStats(t.scales.as<float>()));
  bench.Report(("statistics " + shape).c_str(), in + packed + scales, GroupSumsAreEqual(t, t.scales.as<float>()),
               [&] { return t.ErrorStats(t.scales.as<float>()); });
  Check(t.ErrorStats(t.decoded.as<float>()));
  bench.Report(("statistics, nested scales " + shape).c_str(), in + packed + scales,
               GroupSumsAreEqual(t, t.decoded.as<float>()), [&] { return t.ErrorStats(t.decoded.as<float>()); });
  Check(t.QuantizeWithStats());
  bench.Report(("quantize with statistics " + shape).c_str(), in + packed + scales,
               CodesAreEqual(t) && GroupSumsAreEqual(t, t.scales.as<float>()), [&] { return t.QuantizeWithStats(); });

  for (const FloatType out_type : {FloatType::kBF16, FloatType::kF16, FloatType::kF32}) {
    cuda::DeviceBuffer out;
    Check(out.Allocate(bench.n * FloatSize(out_type)));
    const double out_bytes = n * static_cast<double>(FloatSize(out_type));
    for (const bool is_nested : {false, true}) {
      Check(cuda::Fill(out.data(), 0xA7, out.size(), nullptr));
      Check(t.Dequantize(out_type, is_nested, out.data()));
      const bool same = OutputIsEqual(t, (is_nested ? t.decoded : t.scales).as<float>(), out_type, out.data());
      const std::string name = std::string("dequantize to ") + NameOf(out_type) + (is_nested ? ", nested " : " ") +
                               NameOf(book) + " b" + std::to_string(block_size);
      bench.Report(name.c_str(), packed + out_bytes + (is_nested ? nested : scales), same,
                   [&] { return t.Dequantize(out_type, is_nested, out.data()); });
    }
  }
}

// The encoders mse and weighted: what a slab takes with plain scales, and with nested ones, to the codes and to the
// statistics.
struct MseTensor : Tensor {
  MseTensor(FloatType type_in, CodeBook book_in, std::uint64_t n_in, std::uint32_t block_size_in, int effort_in,
            bool weighted)
      : Tensor(type_in, book_in, n_in, block_size_in), effort(effort_in) {
    if (weighted) {
      for (std::uint32_t j = 0; j < kWeightedColumns; ++j) host_features.push_back(0.1f + static_cast<float>(j % 61));
      Check(features.Allocate(sizeof(float) * host_features.size()));
      Check(cuda::CopyToDevice(features.data(), host_features.data(), features.size(), nullptr));
      Check(cuda::Synchronize(nullptr));
    }
    Check(absmax.Allocate(4 * blocks));
    Check(floors.Allocate(8 * blocks));
    Check(losses.Allocate(sizeof(NestedLoss) * GroupCount(blocks)));
    Check(cuda::Fill(offset.data(), 0, 4, nullptr));
  }
  cuda::SearchScalesArgs SearchArgs(bool with_floors) const {
    return {type,
            book,
            x.data(),
            n,
            block_size,
            effort,
            scales.as<float>(),
            absmax.as<float>(),
            with_floors ? floors.as<double>() : nullptr,
            first_bad.as<std::uint64_t>(),
            {features.as<float>(), n / kWeightedColumns + 1, kWeightedColumns, 0, 0, false}};
  }
  cuda::KernelError CodesUnder(const float* used) const {
    return cuda::CodesUnder({type, book, x.data(), n, block_size, used, codes.as<std::uint8_t>()}, nullptr);
  }
  cuda::KernelError Search() const { return cuda::SearchScales(SearchArgs(false), nullptr); }
  cuda::KernelError Encode() const {
    const cuda::KernelError error = Search();
    return error.ok() ? CodesUnder(scales.as<float>()) : error;
  }
  cuda::KernelError EncodeNested() const {
    cuda::KernelError error = cuda::SearchScales(SearchArgs(true), nullptr);
    if (error.ok()) {
      error = cuda::NestSearchedScales({SearchArgs(true), scale_codes.as<std::uint8_t>(), absmax2.as<float>(),
                                        losses.as<NestedLoss>(), offset.as<float>()},
                                       nullptr);
    }
    if (error.ok()) error = cuda::DequantizeScales({Nested(), blocks, decoded.as<float>()}, nullptr);
    return error.ok() ? CodesUnder(decoded.as<float>()) : error;
  }

  static constexpr std::uint32_t kWeightedColumns = 11008;
  int effort;
  std::vector<float> host_features;  // none: mse
  cuda::DeviceBuffer absmax, floors, losses, features;
};

// Scales, and codes under them or, `nested`, under the decoded ones, against the kernels of the cores.
bool MseIsEqual(const MseTensor& t, bool nested) {
  const KernelTable& cores = BestCpuKernels();
  return EveryPart(t, [&](std::uint64_t begin, std::uint64_t size) {
    const auto x = Download<std::uint8_t>(t.x.data(), begin * FloatSize(t.type), size * FloatSize(t.type));
    std::vector<float> scales(BlockCount(size, t.block_size));
    std::vector<std::uint8_t> codes(PackedBytes(size));
    std::vector<float> weights(t.host_features.empty() ? 0 : size);
    for (std::size_t i = 0; i < weights.size(); ++i) {
      weights[i] = t.host_features[(begin + i) % MseTensor::kWeightedColumns];
    }
    cores.search_scales(t.type, t.book, x.data(), weights.empty() ? nullptr : weights.data(), size, t.block_size,
                        t.effort, scales.data(), nullptr);
    bool equal = SameBytes(scales, Download<float>(t.scales.data(), begin / t.block_size, scales.size()));
    if (nested) scales = Download<float>(t.decoded.data(), begin / t.block_size, scales.size());
    cores.codes_under(t.type, t.book, x.data(), size, t.block_size, scales.data(), codes.data());
    return equal && SameBytes(codes, Download<std::uint8_t>(t.codes.data(), begin / 2, codes.size()));
  });
}

void MeasureMse(Bench bench, FloatType type, CodeBook book, std::uint32_t block_size, int effort,
                bool weighted = false) {
  if (effort == kMostEffort) {
    // The exact sweep is many times slower: less of it.
    bench.n /= 16;
    bench.runs = std::min(bench.runs, 5);
  }
  const MseTensor t(type, book, bench.n, block_size, effort, weighted);
  const std::string shape = std::string(NameOf(book)) + " " + NameOf(type) + " b" + std::to_string(block_size) +
                            " effort " + std::to_string(effort);
  const std::string name = weighted ? "weighted" : "mse";
  const auto n = static_cast<double>(bench.n), blocks = static_cast<double>(t.blocks);
  const double in = n * static_cast<double>(FloatSize(type)), packed = n / 2;
  Check(t.Encode());
  const bool equal = MseIsEqual(t, false);
  bench.Report((name + ", scales alone " + shape).c_str(), in + 4 * blocks, equal, [&] { return t.Search(); });
  bench.Report((name + " " + shape).c_str(), in + packed + 4 * blocks, equal, [&] { return t.Encode(); });
  Check(t.EncodeNested());
  const bool nested_equal = MseIsEqual(t, true);
  bench.Report((name + ", double quantization " + shape).c_str(), in + packed + blocks * (1 + 4.0 / 256), nested_equal,
               [&] { return t.EncodeNested(); });
  if (effort != kDefaultEffort) return;
  bench.Report((name + ", double quantization, statistics " + shape).c_str(), in + packed + blocks * (1 + 4.0 / 256),
               nested_equal, [&] {
                 const cuda::KernelError error = t.EncodeNested();
                 return error.ok() ? t.ErrorStats(t.decoded.as<float>()) : error;
               });
}

void MeasureAllMse(const Bench& bench) {
  for (const int effort : {2, 1, 3}) MeasureMse(bench, FloatType::kBF16, CodeBook::kNf4, 64, effort);
  MeasureMse(bench, FloatType::kBF16, CodeBook::kFp4, 64, kDefaultEffort);
  MeasureMse(bench, FloatType::kF32, CodeBook::kNf4, 64, kDefaultEffort);
  for (const std::uint32_t block_size : {32u, 128u, 256u, 4096u}) {
    MeasureMse(bench, FloatType::kBF16, CodeBook::kNf4, block_size, kDefaultEffort);
  }
  for (const std::uint32_t block_size : {64u, 256u}) {
    for (const CodeBook book : {CodeBook::kNf4, CodeBook::kFp4}) {
      MeasureMse(bench, FloatType::kBF16, book, block_size, kDefaultEffort, true);
    }
  }
}

int Run(int argc, char** argv) {
  Bench bench;
  if (argc > 1) bench.runs = std::atoi(argv[1]);
  if (argc > 3) bench.n = std::strtoull(argv[2], nullptr, 10) * std::strtoull(argv[3], nullptr, 10);
  int devices = 0;
  if (!cuda::DeviceCount(&devices).ok() || devices == 0) {
    std::printf("SKIP: no CUDA device\n");
    return 77;
  }
  cuda::DeviceInfo info;
  Check(cuda::GetDeviceInfo(0, &info));
  std::printf("%s, %d multiprocessors, driver CUDA %d, runtime CUDA %d; %llu elements, median of %d\n", info.name,
              info.multiprocessors, info.driver, info.runtime, static_cast<unsigned long long>(bench.n), bench.runs);
  MeasureCopy(&bench);
  if (argc > 4 && std::string(argv[4]) == "mse") {
    MeasureAllMse(bench);
    return failures == 0 ? 0 : 1;
  }
  MeasureTensor(bench, FloatType::kBF16, CodeBook::kNf4, 64, true);
  MeasureTensor(bench, FloatType::kBF16, CodeBook::kFp4, 64, false);
  MeasureTensor(bench, FloatType::kF16, CodeBook::kNf4, 64, false);
  MeasureTensor(bench, FloatType::kF32, CodeBook::kNf4, 64, false);
  for (const std::uint32_t block_size : {32u, 128u, 256u, 512u, 1024u, 2048u, 4096u}) {
    MeasureTensor(bench, FloatType::kBF16, CodeBook::kNf4, block_size, false);
  }
  MeasureAllMse(bench);
  return failures == 0 ? 0 : 1;
}

}  // namespace
}  // namespace q4

int main(int argc, char** argv) { return q4::Run(argc, argv); }
