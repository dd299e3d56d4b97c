// What the encoder feedback (docs/numerics.md Q17) costs on a core, part by part: processor seconds of one matrix, on
// one thread, and what a layer of other sizes takes at that pace. The Hessian and the weights are made up; where the
// time goes does not depend on them.
//   Q4_CPU_TARGET=AVX3 feedback_bench [COLUMNS [ROWS]]      4096 columns and 256 rows
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <functional>
#include <random>
#include <vector>

#include "kernels/feedback.h"
#include "kernels/kernels.h"
#include "kernels/numeric.h"

namespace q4 {
namespace {

constexpr std::uint32_t kBlockSize = 64;
constexpr int kDescents = 2;

double Now() {
  timespec time{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

// Products of neighbours, and a diagonal: positive definite, and of no use to anybody else.
std::vector<float> MadeUpHessian(std::uint64_t columns, std::mt19937* random) {
  std::uniform_real_distribution<float> spread(0.5f, 2.0f);
  std::vector<float> size(columns), hessian(columns * columns);
  for (float& each : size) each = spread(*random);
  for (std::uint64_t i = 0; i < columns; ++i) {
    for (std::uint64_t j = 0; j < columns; ++j) {
      const std::uint64_t apart = i < j ? j - i : i - j;
      hessian[i * columns + j] = size[i] * size[j] / static_cast<float>(1 + apart);
    }
  }
  return hessian;
}

int Run(std::uint64_t columns, std::uint64_t rows, const KernelTable& kernels) {
  const ScopedFloatEnvironment environment;
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0, 0.02f);
  std::vector<float> hessian = MadeUpHessian(columns, &random), x(rows * columns), scales(x.size() / kBlockSize);
  for (float& each : x) each = normal(random);
  for (std::size_t b = 0; b < scales.size(); ++b) {
    for (std::size_t i = 0; i < kBlockSize; ++i) scales[b] = std::max(scales[b], std::abs(x[b * kBlockSize + i]));
  }
  std::vector<std::uint8_t> codes(PackedBytes(x.size()));
  for (std::size_t i = 0; i < x.size(); ++i) {
    const std::uint8_t code = CodeOf(CodeBook::kNf4, x[i] / scales[i / kBlockSize]);
    codes[i / 2] = static_cast<std::uint8_t>(codes[i / 2] | (i % 2 == 0 ? code << 4 : code));
  }

  const SpreadWork alone = [](std::uint64_t count, const std::function<void(std::uint64_t)>& work) {
    for (std::uint64_t i = 0; i < count; ++i) work(i);
  };
  FeedbackFactor factor;
  const double start = Now();
  if (!MakeFeedbackFactor(kernels, columns, hessian, alone, &factor)) return 1;
  const double made = Now() - start;

  const FeedbackMatrix matrix{FloatType::kF32, CodeBook::kNf4, kBlockSize,    rows,        columns, 0,
                              false,           x.data(),       scales.data(), codes.data()};
  FeedbackTile tile(columns);
  std::uint64_t kept = 0;
  const double begin = Now();
  for (std::uint64_t t = 0; t * kFeedbackRows < rows; ++t) {
    kept += tile.ChooseCodes(kernels, factor, kDescents, t, matrix);
  }
  const double chosen = Now() - begin;
  std::uint64_t digest = 0;
  for (const std::uint8_t byte : codes) digest = (digest ^ byte) * 0x100000001B3u;

  const double n = static_cast<double>(columns), m = static_cast<double>(rows);
  // Products and sums of the definition: a third of a cube in fp64; per row 0.5 of a square with the factor, 1 in each
  // descent, 0.5 for each of two errors.
  const double factor_work = n * n * n / 6, code_work = m * n * n * (0.5 + kDescents + 1);
  std::printf("%s, %llu columns, %llu rows (%llu keep their codes, digest %016llx)\n", kernels.name,
              static_cast<unsigned long long>(columns), static_cast<unsigned long long>(rows),
              static_cast<unsigned long long>(kept), static_cast<unsigned long long>(digest));
  std::printf("factor %8.2f s  %6.1f G products/s\ncodes  %8.2f s  %6.1f G products/s, %.2f M weights/s\n", made,
              factor_work / made * 1e-9, chosen, code_work / chosen * 1e-9, m * n / chosen * 1e-6);
  constexpr double kWide = 11008, kTall = 4096;
  std::printf("at this pace a layer of 4096 x 11008 takes %.0f s: %.0f the factor, %.0f the codes\n",
              made * (kWide / n) * (kWide / n) * (kWide / n) + chosen * (kWide / n) * (kWide / n) * (kTall / m),
              made * (kWide / n) * (kWide / n) * (kWide / n), chosen * (kWide / n) * (kWide / n) * (kTall / m));
  return 0;
}

}  // namespace
}  // namespace q4

int main(int argc, char** argv) {
  const std::uint64_t columns = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 4096;
  const std::uint64_t rows = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 256;
  if (columns == 0 || rows == 0 || columns * rows % 64 != 0) {
    std::fputs("feedback_bench [COLUMNS [ROWS]], whose product is a multiple of 64\n", stderr);
    return 1;
  }
  return q4::Run(columns, rows, q4::BestCpuKernels());
}
