// Error statistics against an independent fp64 evaluation of numerics.md Q7 and Q8, written in another way than the
// kernels: whole arrays first, sums by explicit lane lists, intervals by sorting.
#include <algorithm>
#include <cmath>
#include <limits>

#include "tests/kernels/kernel_testing.h"
#include "tests/support/bytes.h"
#include "tests/support/catch.h"

namespace q4::testing {
namespace {

struct Input {
  FloatType type;
  CodeBook book;
  std::uint32_t block_size;
  std::vector<std::uint8_t> x, codes;
  std::vector<float> scales;
  std::uint64_t n;
};

// Q7.1 over block k of `terms`.
double BlockSum(const std::vector<double>& terms, std::uint64_t k, std::uint32_t block_size) {
  std::vector<double> lanes(16, 0.0);
  for (std::uint64_t i = k * block_size; i < std::min<std::uint64_t>((k + 1) * block_size, terms.size()); ++i) {
    lanes[(i - k * block_size) % 16] += terms[i];
  }
  while (lanes.size() > 1) {
    const std::size_t half = lanes.size() / 2;
    for (std::size_t j = 0; j < half; ++j) lanes[j] += lanes[j + half];
    lanes.resize(half);
  }
  return lanes[0];
}

struct Expected {
  std::vector<GroupSums> groups;
  SlabStats stats;
};

Expected Model(const Input& in) {
  std::vector<double> x(in.n), y(in.n), e(in.n), abs_e(in.n), e2(in.n), x2(in.n), xy(in.n);
  const auto values = CodeValues(in.book);
  Expected result;
  SlabStats& stats = result.stats;
  stats.count = in.n;
  for (std::uint64_t i = 0; i < in.n; ++i) {
    const unsigned code = test::GetCode(in.codes, i);
    ++stats.hist[code];
    const float y32 = values[code] * in.scales[i / in.block_size];
    x[i] = static_cast<double>(LoadElement(in.type, in.x.data(), i));
    y[i] = static_cast<double>(y32);
    e[i] = x[i] - y[i];
    abs_e[i] = std::fabs(e[i]);
    e2[i] = e[i] * e[i];
    x2[i] = x[i] * x[i];
    xy[i] = x[i] * y[i];
    stats.overflow += std::isinf(RoundTo(in.type, y32));
  }
  for (std::uint64_t i = 0; i < in.n; ++i) {
    if (!(abs_e[i] > stats.max_abs_err)) continue;
    stats.max_abs_err = abs_e[i];
    stats.max_abs_err_index = i;
  }

  std::vector<double> sorted(values.begin(), values.end());
  std::sort(sorted.begin(), sorted.end());
  sorted.erase(std::unique(sorted.begin(), sorted.end()), sorted.end());
  const std::uint64_t blocks = BlockCount(in.n, in.block_size);
  result.groups.resize(GroupCount(blocks));
  for (std::uint64_t k = 0; k < blocks; ++k) {
    const double s = static_cast<double>(in.scales[k]);
    bool all_zero = true;
    for (std::uint64_t i = k * in.block_size; i < std::min<std::uint64_t>((k + 1) * in.block_size, in.n); ++i) {
      all_zero = all_zero && x[i] == 0;
      if (std::fabs(s) < static_cast<double>(kTiny)) continue;
      const double u = x[i] / s;
      if (u < sorted.front() || u > sorted.back()) {
        ++stats.clipped;
        continue;
      }
      const auto upper = std::max(std::lower_bound(sorted.begin(), sorted.end(), u), sorted.begin() + 1);
      const double half_gap = (*upper - *(upper - 1)) / 2;
      stats.max_gap_ratio = std::max(stats.max_gap_ratio, abs_e[i] / (half_gap * std::fabs(s)));
    }
    stats.zero_blocks += all_zero;
    stats.tiny_blocks += !all_zero && std::fabs(s) < static_cast<double>(kTiny);
    GroupSums& group = result.groups[k / 256];
    group.e += BlockSum(e, k, in.block_size);
    group.abs_e += BlockSum(abs_e, k, in.block_size);
    group.x2 += BlockSum(x2, k, in.block_size);
    group.xy += BlockSum(xy, k, in.block_size);
    const double block_e2 = BlockSum(e2, k, in.block_size);
    group.e2 += block_e2;
    if (block_e2 > stats.worst_block_e2) {
      stats.worst_block_e2 = block_e2;
      stats.worst_block = k;
    }
  }
  for (GroupSums& group : result.groups) {  // which NaN is not IEEE's business but ours
    for (double* sum : {&group.e, &group.abs_e, &group.e2, &group.x2, &group.xy}) {
      if (std::isnan(*sum)) *sum = std::numeric_limits<double>::quiet_NaN();
    }
  }
  return result;
}

Input MakeInput(FloatType type, CodeBook book, std::uint32_t block_size, std::uint64_t n, Content content,
                Random* random) {
  Input in{type,
           book,
           block_size,
           std::vector<std::uint8_t>(n * FloatSize(type)),
           std::vector<std::uint8_t>(PackedBytes(n)),
           std::vector<float>(BlockCount(n, block_size)),
           n};
  FillElements(type, content, block_size, n, random, in.x.data());
  REQUIRE(ScalarKernels().quantize(type, book, in.x.data(), n, block_size, in.codes.data(), in.scales.data()) ==
          kAllFinite);
  return in;
}

void CheckAll(const Input& in) {
  const Expected expected = Model(in);
  for (const KernelTable* kernels : AllBackends()) {
    std::vector<GroupSums> groups(expected.groups.size());
    SlabStats stats;
    kernels->error_stats(in.type, in.book, in.x.data(), in.codes.data(), in.scales.data(), in.n, in.block_size,
                         groups.data(), &stats);
    INFO(kernels->name << " " << NameOf(in.type) << " " << NameOf(in.book) << " block " << in.block_size << " n "
                       << in.n);
    CHECK(std::memcmp(groups.data(), expected.groups.data(), groups.size() * sizeof(GroupSums)) == 0);
    CHECK(std::memcmp(&stats, &expected.stats, sizeof(stats)) == 0);
  }
}

}  // namespace

TEST_CASE("statistics equal an independent evaluation") {
  Random random(1);
  for (const FloatType type : kTypes) {
    for (const CodeBook book : kBooks) {
      for (int content = 0; content < static_cast<int>(Content::kCount); ++content) {
        for (const std::uint32_t block_size : {32u, 64u, 1024u}) {
          Input in = MakeInput(type, book, block_size, 3 * block_size + 41 + 600 * random.Below(20),
                               static_cast<Content>(content), &random);
          CheckAll(in);
          for (float& s : in.scales) s *= static_cast<float>(0.9 + 0.2 * random.Uniform());  // as after nesting
          CheckAll(in);
          for (float& s : in.scales) s *= random.Below(3) == 0 ? -1.0f : 1.0f;
          CheckAll(in);
        }
      }
    }
  }
}

// Of either sign, with codes chosen under them: nearly all elements lie below the maxima, which the kernels make use
// of.
TEST_CASE("statistics under scales that a search makes") {
  Random random(4);
  for (const FloatType type : kTypes) {
    for (const CodeBook book : kBooks) {
      for (const std::uint32_t block_size : {32u, 64u, 256u, 4096u}) {
        for (const bool strange : {false, true}) {
          Input in = MakeInput(type, book, block_size, 70 * block_size + 23, Content::kNormal, &random);
          for (float& s : in.scales) {
            s *= static_cast<float>(0.7 + 0.6 * random.Uniform()) * (random.Below(2) == 0 ? -1.0f : 1.0f);
            // Around the limits of the estimates: 2^-100, and what overflows 16-bit types and fp32.
            if (strange && random.Below(5) == 0)
              s = std::copysign(std::ldexp(1.0f, random.Below(2) == 0 ? -100 : 126), s);
          }
          ScalarKernels().codes_under(type, book, in.x.data(), in.n, block_size, in.scales.data(), in.codes.data());
          CheckAll(in);
        }
      }
    }
  }
}

TEST_CASE("encoder absmax with its own scales: nothing clipped, gap ratio at most 1") {
  Random random(2);
  for (const FloatType type : kTypes) {
    for (const CodeBook book : kBooks) {
      const Input in = MakeInput(type, book, 64, 300'000, Content::kNormal, &random);
      for (const KernelTable* kernels : AllBackends()) {
        std::vector<GroupSums> groups(GroupCount(in.scales.size()));
        SlabStats stats;
        kernels->error_stats(type, book, in.x.data(), in.codes.data(), in.scales.data(), in.n, 64, groups.data(),
                             &stats);
        CHECK(stats.clipped == 0);
        CHECK(stats.max_gap_ratio > 0.99);
        CHECK(stats.max_gap_ratio <= 1 + 1e-5);
      }
    }
  }
}

TEST_CASE("equal errors: the smallest index and block win") {
  std::vector<float> x(32 * 300, 1.0f);
  std::vector<std::uint8_t> codes(x.size() / 2, 0xFF);
  std::vector<float> scales(300, 1.0f);
  for (const std::size_t block : {17u, 40u, 299u}) scales[block] = 1.5f;
  for (const KernelTable* kernels : AllBackends()) {
    std::vector<GroupSums> groups(2);
    SlabStats stats;
    kernels->error_stats(FloatType::kF32, CodeBook::kNf4, x.data(), codes.data(), scales.data(), x.size(), 32,
                         groups.data(), &stats);
    CHECK(stats.max_abs_err == 0.5);
    CHECK(stats.max_abs_err_index == 17 * 32);
    CHECK(stats.worst_block == 17);
    CHECK(stats.worst_block_e2 == 8.0);
    CHECK(stats.hist[15] == x.size());
  }
}

TEST_CASE("an empty slab has empty statistics") {
  for (const KernelTable* kernels : AllBackends()) {
    SlabStats stats;
    stats.count = 99;
    stats.hist[3] = 99;
    kernels->error_stats(FloatType::kF32, CodeBook::kNf4, nullptr, nullptr, nullptr, 0, 64, nullptr, &stats);
    const SlabStats empty;
    CHECK(std::memcmp(&stats, &empty, sizeof(stats)) == 0);
  }
}

}  // namespace q4::testing
