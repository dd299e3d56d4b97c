// Elements per second of every kernel, backend by backend, from inputs larger than any cache. A backend whose output is
// not equal to the scalar reference's is reported as an error and never timed. On one thread and on all processors.
//   kernels_bench --benchmark_repetitions=5 --benchmark_report_aggregates_only=true --benchmark_filter='AVX2.*quantize'
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "kernels/kernels.h"
#include "kernels/numeric.h"

namespace q4 {
namespace {

constexpr std::uint64_t kElems = std::uint64_t{64} << 20;
constexpr std::uint64_t kCheckedElems = std::uint64_t{2} << 20;
constexpr std::uint32_t kBlockSize = 64;
constexpr std::uint64_t kTile = 4 * kScaleGroup * kBlockSize;  // 128 KiB of bf16: stays in the second-level cache

struct Work {
  const KernelTable* kernels;
  FloatType type;
  CodeBook book;
};

// A thread's share of the tensor and of every output.
struct Slab {
  const std::uint8_t* x;
  std::uint64_t n;
  std::uint8_t* codes;
  float* scales;
  std::uint8_t* scale_codes;
  float* absmax2;
  GroupSums* groups;
  SlabStats* stats;
  std::uint8_t* out;
};

struct Buffers {
  explicit Buffers(std::uint64_t n, std::uint64_t threads = 1)
      : codes(PackedBytes(n)),
        scales(BlockCount(n, kBlockSize)),
        scale_codes(scales.size()),
        absmax2(GroupCount(scales.size())),
        groups(absmax2.size()),
        stats(threads),
        out_storage(4 * n + 63),
        out(&out_storage[-reinterpret_cast<std::uintptr_t>(out_storage.data()) % 64], 4 * n) {}

  Slab At(const std::uint8_t* x, FloatType type, std::uint64_t begin, std::uint64_t n, std::uint64_t thread) {
    const std::uint64_t block = begin / kBlockSize, group = block / kScaleGroup;
    return {x + begin * FloatSize(type),
            n,
            &codes[begin / 2],
            &scales[block],
            &scale_codes[block],
            &absmax2[group],
            &groups[group],
            &stats[thread],
            &out[4 * begin]};
  }

  std::vector<std::uint8_t> codes;
  std::vector<float> scales;
  std::vector<std::uint8_t> scale_codes;
  std::vector<float> absmax2;
  std::vector<GroupSums> groups;
  std::vector<SlabStats> stats;
  std::vector<std::uint8_t> out_storage;
  std::span<std::uint8_t> out;  // at a multiple of 64 bytes, as tensors in memory are
};

using Operation = void (*)(const Work&, const Slab&);

void Quantize(const Work& w, const Slab& s) {
  w.kernels->quantize(w.type, w.book, s.x, s.n, kBlockSize, s.codes, s.scales);
}

// Codes and statistics of one cache-resident tile after the other, as the converter does it.
void QuantizeWithStats(const Work& w, const Slab& s) {
  SlabStats tile;
  for (std::uint64_t i = 0; i < s.n; i += kTile) {
    const std::uint64_t n = std::min(kTile, s.n - i);
    const std::uint8_t* x = s.x + i * FloatSize(w.type);
    std::uint8_t* codes = s.codes + i / 2;
    float* scales = s.scales + i / kBlockSize;
    w.kernels->quantize(w.type, w.book, x, n, kBlockSize, codes, scales);
    w.kernels->error_stats(w.type, w.book, x, codes, scales, n, kBlockSize, s.groups + i / (kScaleGroup * kBlockSize),
                           &tile);
    s.stats->max_abs_err = std::max(s.stats->max_abs_err, tile.max_abs_err);
  }
}

// The encoder mse at its default effort.
void Search(const Work& w, const Slab& s) {
  w.kernels->search_scales(w.type, w.book, s.x, nullptr, s.n, kBlockSize, kDefaultEffort, s.scales, nullptr);
  w.kernels->codes_under(w.type, w.book, s.x, s.n, kBlockSize, s.scales, s.codes);
}

// Codes and double-quantized scales: the scales' mean is needed first.
void QuantizeNested(const Work& w, const Slab& s) {
  const std::uint64_t blocks = BlockCount(s.n, kBlockSize);
  w.kernels->absmax(w.type, s.x, s.n, kBlockSize, s.scales);
  Sum256 sum;
  sum.Add({s.scales, blocks});
  w.kernels->quantize_scales(s.scales, blocks, NestedOffset(sum.total(), blocks), s.scale_codes, s.absmax2);
  w.kernels->quantize(w.type, w.book, s.x, s.n, kBlockSize, s.codes, s.scales);
}

void Absmax(const Work& w, const Slab& s) { w.kernels->absmax(w.type, s.x, s.n, kBlockSize, s.scales); }

// Only the scales: their sum and their codes.
void QuantizeScales(const Work& w, const Slab& s) {
  const std::uint64_t blocks = BlockCount(s.n, kBlockSize);
  Sum256 sum;
  sum.Add({s.scales, blocks});
  w.kernels->quantize_scales(s.scales, blocks, NestedOffset(sum.total(), blocks), s.scale_codes, s.absmax2);
}

void ErrorStats(const Work& w, const Slab& s) {
  w.kernels->error_stats(w.type, w.book, s.x, s.codes, s.scales, s.n, kBlockSize, s.groups, s.stats);
}

void SearchWithStats(const Work& w, const Slab& s) {
  Search(w, s);
  ErrorStats(w, s);
}

void Dequantize(const Work& w, const Slab& s) {
  w.kernels->dequantize(w.book, s.codes, s.scales, s.n, kBlockSize, w.type, s.out);
}

void ConvertFromF32(const Work& w, const Slab& s) { w.kernels->convert(FloatType::kF32, s.x, s.n, w.type, s.out); }

// kElems weights of N(0, 0.02), made once per type from a short random sequence.
const std::vector<std::uint8_t>& Elements(FloatType type) {
  static std::vector<std::uint8_t> elements[3];
  std::vector<std::uint8_t>& mine = elements[static_cast<int>(type)];
  if (mine.empty()) {
    mine.resize(kElems * FloatSize(type));
    const std::uint64_t period = (std::uint64_t{1} << 20) + 64 * 7;
    std::mt19937_64 engine(7);
    std::normal_distribution<float> normal(0.0f, 0.02f);
    for (std::uint64_t i = 0; i < period; ++i) StoreElement(type, mine.data(), i, normal(engine));
    for (std::uint64_t done = period; done < kElems;) {
      const std::uint64_t more = std::min(done, kElems - done);
      std::memcpy(mine.data() + done * FloatSize(type), mine.data(), more * FloatSize(type));
      done += more;
    }
  }
  return mine;
}

bool SameBytes(const auto& a, const auto& b) { return std::memcmp(a.data(), b.data(), a.size() * sizeof(a[0])) == 0; }

// Runs the operation on the first elements with the backend and with the scalar reference.
bool AgreesWithScalar(const Work& work, Operation operation, FloatType x_type) {
  const auto run = [&](const KernelTable* kernels, Buffers& buffers) {
    const Work w{kernels, work.type, work.book};
    const Slab slab = buffers.At(Elements(x_type).data(), x_type, 0, kCheckedElems, 0);
    Quantize({kernels, x_type, work.book}, slab);  // codes and scales for the operations that read them
    operation(w, slab);
  };
  Buffers expected(kCheckedElems), actual(kCheckedElems);
  run(&ScalarKernels(), expected);
  run(work.kernels, actual);
  return SameBytes(expected.codes, actual.codes) && SameBytes(expected.scales, actual.scales) &&
         SameBytes(expected.scale_codes, actual.scale_codes) && SameBytes(expected.absmax2, actual.absmax2) &&
         SameBytes(expected.groups, actual.groups) && SameBytes(expected.stats, actual.stats) &&
         SameBytes(expected.out, actual.out);
}

void Run(benchmark::State& state, Work work, Operation operation, FloatType x_type) {
  static std::unique_ptr<Buffers>
      buffers;  // one benchmark runs at a time; thread 0 sets up, and the loop's start is a barrier
  static bool agrees;
  const auto threads = static_cast<std::uint64_t>(state.threads());
  const auto thread = static_cast<std::uint64_t>(state.thread_index());
  const std::uint64_t n = kElems / threads / kTile * kTile;
  if (thread == 0) {
    agrees = AgreesWithScalar(work, operation, x_type);
    if (buffers == nullptr || buffers->stats.size() != threads) buffers = std::make_unique<Buffers>(kElems, threads);
    for (std::uint64_t t = 0; t < threads; ++t) {
      Quantize({&BestCpuKernels(), x_type, work.book}, buffers->At(Elements(x_type).data(), x_type, t * n, n, t));
    }
  }
  for (auto _ : state) {
    if (!agrees) {
      state.SkipWithError("the output differs from the scalar reference");
      break;
    }
    operation(work, buffers->At(Elements(x_type).data(), x_type, thread * n, n, thread));
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(static_cast<std::int64_t>(n) * static_cast<std::int64_t>(state.iterations()));
}

const char* NameOf(FloatType type) {
  return type == FloatType::kF32 ? "f32" : type == FloatType::kF16 ? "f16" : "bf16";
}
const char* NameOf(CodeBook book) { return book == CodeBook::kNf4 ? "nf4" : "fp4"; }

void Register(const char* name, Work work, Operation operation, FloatType x_type) {
  const std::string full_name =
      std::string(work.kernels->name) + "/" + name + "/" + NameOf(work.type) + "/" + NameOf(work.book);
  auto* registered = benchmark::RegisterBenchmark(full_name.c_str(), Run, work, operation, x_type);
  registered->UseRealTime()->Unit(benchmark::kMillisecond)->Threads(1);
  const int processors = static_cast<int>(std::thread::hardware_concurrency());
  if (processors > 1) registered->Threads(processors);
}

void RegisterAll() {
  std::vector<const KernelTable*> backends = SimdKernels();
  backends.insert(backends.begin(), &ScalarKernels());
  for (const KernelTable* kernels : backends) {
    for (const FloatType type : {FloatType::kBF16, FloatType::kF16, FloatType::kF32}) {
      for (const CodeBook book : {CodeBook::kNf4, CodeBook::kFp4}) {
        const Work work{kernels, type, book};
        Register("quantize", work, Quantize, type);
        Register("quantize+stats", work, QuantizeWithStats, type);
        Register("search", work, Search, type);
        Register("search+stats", work, SearchWithStats, type);
        Register("quantize+nested", work, QuantizeNested, type);
        Register("error_stats", work, ErrorStats, type);
        Register("dequantize", work, Dequantize, FloatType::kBF16);
      }
      Register("absmax", {kernels, type, CodeBook::kNf4}, Absmax, type);
      if (type != FloatType::kF32)
        Register("convert_from_f32", {kernels, type, CodeBook::kNf4}, ConvertFromF32, FloatType::kF32);
    }
    Register("quantize_scales", {kernels, FloatType::kBF16, CodeBook::kNf4}, QuantizeScales, FloatType::kBF16);
  }
}

}  // namespace
}  // namespace q4

int main(int argc, char** argv) {
  q4::RegisterAll();
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
