// Dequantizers on the CPU beside each other in one process: every target of q4 that runs here and, if its library is
// given, bitsandbytes'. All read the same codes and scales and write the same memory, in turn; bytes are compared
// first.
//   dequantize_bench [THREADS [REPEATS [PATH/libbitsandbytes_cpu.so]]]
// Each thread decodes a tensor of its own over and over and times every call; threads do not wait for one another, so a
// moment in which the machine does something else spoils one sample and not a whole repeat. Prints JSON: per shape,
// output type and dequantizer the elements per second of all threads together, from the median call of each ("median")
// and from its tenth percentile, which is what a quiet machine does ("quiet"); and the median ratio of adjacent calls,
// last target of q4 to bitsandbytes.
#include <dlfcn.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <new>
#include <string>
#include <thread>
#include <vector>

#include "kernels/kernels.h"

namespace q4 {
namespace {

constexpr std::uint32_t kBlockSize = 64;
constexpr std::uint64_t kColumns = 4096;
constexpr std::uint64_t kAlignment = 64;  // of torch's tensors

// What one thread decodes, and how many elements at a time.
struct Shape {
  const char* name;
  std::uint64_t elems, elems_per_call;
};
// Results that a second-level cache holds; that only a last-level cache holds; that none does.
constexpr Shape kShapes[] = {{"L2", std::uint64_t{1} << 17, std::uint64_t{1} << 17},
                             {"L3", std::uint64_t{1} << 21, std::uint64_t{1} << 21},
                             {"memory", std::uint64_t{48} << 20, std::uint64_t{12} << 20}};

struct OutType {
  FloatType type;
  const char* name;
  const char* peer;  // bitsandbytes' function
};
constexpr OutType kOutTypes[] = {{FloatType::kBF16, "bf16", "cdequantize_blockwise_cpu_nf4_bf16"},
                                 {FloatType::kF16, "f16", "cdequantize_blockwise_cpu_nf4_fp16"},
                                 {FloatType::kF32, "f32", "cdequantize_blockwise_cpu_nf4_fp32"}};

using PeerFunction = void (*)(const std::uint8_t* codes, const float* scales, void* out, long long block_size,
                              long long rows, long long columns);

struct Free {
  void operator()(std::uint8_t* p) const { ::operator delete (p, std::align_val_t{kAlignment}); }
};
using Memory = std::unique_ptr<std::uint8_t, Free>;

Memory Allocate(std::uint64_t bytes) {
  Memory memory(static_cast<std::uint8_t*>(::operator new (bytes, std::align_val_t{kAlignment})));
  std::memset(memory.get(), 0, bytes);  // every page is there before anything is timed
  return memory;
}

struct Tensor {
  // Codes of every kind, scales as weights of standard deviation 0.02 give them.
  explicit Tensor(std::uint64_t elems) : codes(Allocate(PackedBytes(elems))), out(Allocate(4 * elems)) {
    std::uint64_t state = 1;
    const auto next = [&state] { return state = state * 6364136223846793005u + 1442695040888963407u; };
    for (std::uint64_t i = 0; i < PackedBytes(elems); ++i) codes.get()[i] = static_cast<std::uint8_t>(next() >> 56);
    scales.resize(BlockCount(elems, kBlockSize));
    for (float& scale : scales) scale = 0.03f + 0x1p-62f * 0.16f * static_cast<float>(next() >> 2);
  }

  Memory codes, out;
  std::vector<float> scales;
};

struct Dequantizer {
  std::string name;
  std::function<void(const Tensor&, std::uint64_t first, std::uint64_t n)> run;
};

std::vector<Dequantizer> Dequantizers(const OutType& out, void* library) {
  std::vector<const KernelTable*> backends = SimdKernels();
  backends.insert(backends.begin(), &ScalarKernels());
  std::vector<Dequantizer> all;
  for (const KernelTable* kernels : backends) {
    all.push_back({kernels->name, [kernels, &out](const Tensor& tensor, std::uint64_t first, std::uint64_t n) {
                     kernels->dequantize(CodeBook::kNf4, tensor.codes.get() + first / 2,
                                         tensor.scales.data() + first / kBlockSize, n, kBlockSize, out.type,
                                         tensor.out.get() + first * FloatSize(out.type));
                   }});
  }
  if (library == nullptr) return all;
  const auto peer = reinterpret_cast<PeerFunction>(::dlsym(library, out.peer));
  if (peer == nullptr) {
    std::fprintf(stderr, "the library has no %s\n", out.peer);
    std::exit(1);
  }
  all.push_back({"bitsandbytes", [peer, &out](const Tensor& tensor, std::uint64_t first, std::uint64_t n) {
                   peer(tensor.codes.get() + first / 2, tensor.scales.data() + first / kBlockSize,
                        tensor.out.get() + first * FloatSize(out.type), kBlockSize,
                        static_cast<long long>(n / kColumns), static_cast<long long>(kColumns));
                 }});
  return all;
}

// Exits unless every dequantizer gives the scalar one's bytes. bitsandbytes' fp16 may differ in single values
// (docs/numerics.md), which are counted.
std::uint64_t CompareAll(const std::vector<Dequantizer>& all, const OutType& out, std::uint64_t n) {
  const Tensor tensor(n);
  const std::uint64_t size = FloatSize(out.type);
  all.front().run(tensor, 0, n);
  const std::vector<std::uint8_t> expected(tensor.out.get(), tensor.out.get() + n * size);
  std::uint64_t differing = 0;
  for (const Dequantizer& dequantizer : all) {
    std::memset(tensor.out.get(), 0xA7, n * size);
    dequantizer.run(tensor, 0, n);
    differing = 0;
    for (std::uint64_t i = 0; i < n; ++i) {
      differing += std::memcmp(tensor.out.get() + i * size, expected.data() + i * size, size) != 0;
    }
    if (differing != 0 && (dequantizer.name != "bitsandbytes" || out.type != FloatType::kF16)) {
      std::fprintf(stderr, "%s, %s: %llu of %llu values differ from the scalar reference\n", dequantizer.name.c_str(),
                   out.name, static_cast<unsigned long long>(differing), static_cast<unsigned long long>(n));
      std::exit(1);
    }
  }
  return differing;
}

using Samples = std::vector<std::vector<double>>;  // seconds of every call, by dequantizer

// The scalar reference is slow: it is called in the first repeat only.
Samples Measure(const std::vector<Dequantizer>& all, const Shape& shape, int repeats) {
  const Tensor tensor(shape.elems);
  Samples samples(all.size());
  for (int repeat = 0; repeat < repeats; ++repeat) {
    for (std::uint64_t first = 0; first < shape.elems; first += shape.elems_per_call) {
      for (std::size_t i = repeat == 0 ? 0 : 1; i < all.size(); ++i) {
        const auto start = std::chrono::steady_clock::now();
        all[i].run(tensor, first, shape.elems_per_call);
        samples[i].push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
      }
    }
  }
  return samples;
}

double Quantile(std::vector<double> values, double q) {
  std::sort(values.begin(), values.end());
  return values[static_cast<std::size_t>(q * static_cast<double>(values.size() - 1))];
}

// Elements per second of all threads.
double Speed(const std::vector<Samples>& threads, std::size_t dequantizer, const Shape& shape, double q) {
  double sum = 0;
  for (const Samples& samples : threads) {
    sum += static_cast<double>(shape.elems_per_call) / Quantile(samples[dequantizer], q);
  }
  return sum;
}

void MeasureAndPrint(const Shape& shape, const OutType& out, std::size_t thread_count, int repeats, void* library) {
  const std::vector<Dequantizer> all = Dequantizers(out, library);
  const std::uint64_t differing = CompareAll(all, out, shape.elems_per_call);
  std::vector<Samples> threads(thread_count);
  std::vector<std::thread> running;
  for (Samples& samples : threads) running.emplace_back([&] { samples = Measure(all, shape, repeats); });
  for (std::thread& thread : running) thread.join();

  std::printf(" {\"shape\": \"%s\", \"elements_per_call\": %llu, \"dtype\": \"%s\", \"speeds\": {", shape.name,
              static_cast<unsigned long long>(shape.elems_per_call), out.name);
  for (std::size_t i = 0; i < all.size(); ++i) {
    std::printf("%s\n   \"%s\": {\"median\": %.4g, \"quiet\": %.4g}", i == 0 ? "" : ",", all[i].name.c_str(),
                Speed(threads, i, shape, 0.5), Speed(threads, i, shape, 0.1));
  }
  std::printf("}");
  if (library != nullptr) {
    std::vector<double> ratios;
    for (const Samples& samples : threads) {
      const auto &theirs = samples.back(), &ours = samples[samples.size() - 2];
      for (std::size_t k = 0; k < ours.size(); ++k) ratios.push_back(theirs[k] / ours[k]);
    }
    std::printf(",\n  \"ratio\": %.3g, \"values_that_differ\": %llu", Quantile(ratios, 0.5),
                static_cast<unsigned long long>(differing));
  }
  std::printf("}");
}

}  // namespace
}  // namespace q4

int main(int argc, char** argv) {
  const int threads = argc > 1 ? std::atoi(argv[1]) : static_cast<int>(std::thread::hardware_concurrency());
  const int repeats = argc > 2 ? std::atoi(argv[2]) : 20;
  if (threads < 1 || repeats < 1 || argc > 4) {
    std::fprintf(stderr, "usage: dequantize_bench [THREADS [REPEATS [PATH/libbitsandbytes_cpu.so]]]\n");
    return 2;
  }
  ::setenv("OMP_NUM_THREADS", "1", 1);  // the threads are ours
  void* library = nullptr;
  if (argc > 3 && (library = ::dlopen(argv[3], RTLD_NOW)) == nullptr) {
    std::fprintf(stderr, "%s\n", ::dlerror());
    return 1;
  }
  std::printf("{\"threads\": %d, \"block_size\": %u, \"code_book\": \"nf4\", \"results\": [\n", threads,
              q4::kBlockSize);
  bool first = true;
  for (const q4::Shape& shape : q4::kShapes) {
    // As many calls for the small shapes as take about as long as those for the large one.
    const auto more = static_cast<int>(std::max<std::uint64_t>(q4::kShapes[2].elems / shape.elems / 4, 1));
    for (const q4::OutType& out : q4::kOutTypes) {
      if (!first) std::printf(",\n");
      first = false;
      q4::MeasureAndPrint(shape, out, static_cast<std::size_t>(threads), repeats * more, library);
    }
  }
  std::printf("\n]}\n");
  return 0;
}
