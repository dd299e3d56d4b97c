// The encoders mse and weighted (docs/numerics.md Q9, Q16): every backend against the scalar reference by memcmp, and
// what the section promises of any block.
#include "kernels/search.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "tests/kernels/kernel_testing.h"
#include "tests/support/catch.h"

namespace q4::testing {
namespace {

struct Searched {
  std::uint64_t bad = 0;
  std::vector<float> scales;
  std::vector<double> floors, errors;
  std::vector<std::uint8_t> codes;
};

Searched Search(const KernelTable& backend, FloatType type, CodeBook book, const void* x, std::uint64_t n,
                std::uint32_t block_size, int effort, const float* weights = nullptr) {
  Searched out;
  const std::uint64_t blocks = BlockCount(n, block_size);
  out.scales.assign(blocks, -7);
  out.floors.assign(blocks, -7);
  out.errors.assign(blocks, -7);
  GuardedBytes codes(PackedBytes(n));
  out.bad = backend.search_scales(type, book, x, weights, n, block_size, effort, out.scales.data(), out.floors.data());
  backend.codes_under(type, book, x, n, block_size, out.scales.data(), codes.data());
  backend.block_errors(type, book, x, weights, n, block_size, out.scales.data(), out.errors.data());
  CHECK(codes.CanariesIntact());
  out.codes.assign(codes.data(), codes.data() + codes.size());
  return out;
}

bool Same(const Searched& a, const Searched& b) {
  return a.bad == b.bad && SameBits(a.scales, b.scales) && SameBits(a.floors, b.floors) &&
         SameBits(a.errors, b.errors) && SameBits(a.codes, b.codes);
}

// Error of each block as the decoder and plain fp64 see it: not by the kernels' own sums.
std::vector<double> DecodedErrors(FloatType type, CodeBook book, const void* x, std::uint64_t n,
                                  std::uint32_t block_size, const std::vector<std::uint8_t>& codes,
                                  const std::vector<float>& scales, const float* weights = nullptr) {
  std::vector<double> errors(scales.size());
  for (std::uint64_t i = 0; i < n; ++i) {
    const double y = Decode(book, UnpackCode(codes.data(), i), scales[i / block_size]);
    const double e = double{LoadElement(type, x, i)} - y;
    errors[i / block_size] += e * e * (weights == nullptr ? 1.0 : double{weights[i]});
  }
  return errors;
}

Quantized Absmax(FloatType type, CodeBook book, const void* x, std::uint64_t n, std::uint32_t block_size) {
  Quantized out{std::vector<std::uint8_t>(PackedBytes(n)), std::vector<float>(BlockCount(n, block_size))};
  REQUIRE(ScalarKernels().quantize(type, book, x, n, block_size, out.codes.data(), out.scales.data()) == kAllFinite);
  return out;
}

// Calls with inputs of every kind: case(type, book, block_size, n, content, x).
template <typename Case>
void ForInputs(std::uint64_t full_elems, const Case& test) {
  Random random(29);
  for (const FloatType type : kTypes) {
    for (const CodeBook book : kBooks) {
      for (const std::uint32_t block_size : {32u, 64u, 128u, 512u, 4096u}) {
        for (int content = 0; content < static_cast<int>(Content::kCount); ++content) {
          const std::uint64_t n = std::max<std::uint64_t>(full_elems, block_size) + random.Below(2 * block_size);
          GuardedBytes x(n * FloatSize(type), random.Below(4));
          FillElements(type, static_cast<Content>(content), block_size, n, &random, x.data());
          INFO(NameOf(type) << " " << NameOf(book) << " b" << block_size << " n " << n << " content " << content);
          test(type, book, block_size, n, x.data());
        }
      }
    }
  }
}

TEST_CASE("every backend finds the scales, codes and errors of the scalar search") {
  ForInputs(2000, [](FloatType type, CodeBook book, std::uint32_t block_size, std::uint64_t n, const std::uint8_t* x) {
    for (int effort = kLeastEffort; effort <= kMostEffort; ++effort) {
      const Searched expected = Search(ScalarKernels(), type, book, x, n, block_size, effort);
      CHECK(expected.bad == kAllFinite);
      for (const KernelTable* backend : SimdBackends()) {
        INFO(backend->name << " effort " << effort);
        CHECK(Same(Search(*backend, type, book, x, n, block_size, effort), expected));
      }
    }
  });
}

// Weights as they occur: of columns, most within a few powers of two and some far out, down to the least.
std::vector<float> ColumnWeights(std::uint64_t n, std::uint64_t columns, Random* random) {
  std::vector<float> of_columns(columns), weights(n);
  for (float& h : of_columns) h = std::exp2(2 * random->Normal());
  for (std::uint64_t k = 0; k < columns / 8; ++k) of_columns[random->Below(columns)] = 0x1p-20f;
  of_columns[random->Below(columns)] = 3000;
  for (std::uint64_t i = 0; i < n; ++i) weights[i] = of_columns[i % columns];
  return weights;
}

TEST_CASE("every backend weighs errors as the scalar search does") {
  Random random(59);
  ForInputs(2000, [&](FloatType type, CodeBook book, std::uint32_t block_size, std::uint64_t n, const std::uint8_t* x) {
    // Rows that do not end with blocks, short and long ones.
    const std::vector<float> weights = ColumnWeights(n, 7 + random.Below(3000), &random);
    for (int effort = kLeastEffort; effort <= kMostEffort; ++effort) {
      const Searched expected = Search(ScalarKernels(), type, book, x, n, block_size, effort, weights.data());
      for (const KernelTable* backend : SimdBackends()) {
        INFO(backend->name << " effort " << effort);
        CHECK(Same(Search(*backend, type, book, x, n, block_size, effort, weights.data()), expected));
      }
    }
  });
}

TEST_CASE("equal weights are none") {
  ForInputs(1000, [](FloatType type, CodeBook book, std::uint32_t block_size, std::uint64_t n, const std::uint8_t* x) {
    const std::vector<float> ones(n, 1.0f);
    for (const KernelTable* backend : {&ScalarKernels(), &BestCpuKernels()}) {
      for (int effort = kLeastEffort; effort <= kMostEffort; ++effort) {
        CHECK(Same(Search(*backend, type, book, x, n, block_size, effort, ones.data()),
                   Search(*backend, type, book, x, n, block_size, effort)));
      }
    }
  });
}

TEST_CASE("by their weights, no block is worse than absmax, and weights pay") {
  Random random(61);
  double unweighted = 0, weighted = 0;
  ForInputs(1000, [&](FloatType type, CodeBook book, std::uint32_t block_size, std::uint64_t n, const std::uint8_t* x) {
    const std::vector<float> weights = ColumnWeights(n, 100 + random.Below(400), &random);
    const Quantized absmax = Absmax(type, book, x, n, block_size);
    const std::vector<double> bound =
        DecodedErrors(type, book, x, n, block_size, absmax.codes, absmax.scales, weights.data());
    std::vector<double> default_errors;
    for (const int effort : {1, 2, 3}) {
      const Searched found = Search(BestCpuKernels(), type, book, x, n, block_size, effort, weights.data());
      const Searched mse = Search(BestCpuKernels(), type, book, x, n, block_size, effort);
      const std::vector<double> errors =
          DecodedErrors(type, book, x, n, block_size, found.codes, found.scales, weights.data());
      const std::vector<double> of_mse =
          DecodedErrors(type, book, x, n, block_size, mse.codes, mse.scales, weights.data());
      for (std::uint64_t k = 0; k < errors.size(); ++k) {
        CHECK(errors[k] <= bound[k] * (1 + 1e-12));
        CHECK(std::fabs(errors[k] - found.errors[k]) <= 1e-12 * errors[k]);
        CHECK(found.floors[k] <= bound[k]);
        if (effort == 3) CHECK(found.errors[k] <= default_errors[k]);
        CHECK((BitsOf(found.scales[k]) == BitsOf(absmax.scales[k]) || IsUsableScale(type, found.scales[k])));
        if (bound[k] == 0 || !std::isfinite(bound[k])) continue;
        weighted += errors[k] / bound[k];
        unweighted += of_mse[k] / bound[k];
      }
      if (effort == 2) default_errors = found.errors;
    }
  });
  INFO(weighted / unweighted);
  CHECK(weighted < 0.9 * unweighted);
}

TEST_CASE("every size gives the scalar bits") {
  Random random(31);
  for (const FloatType type : kTypes) {
    for (const std::uint32_t block_size : {32u, 64u}) {
      GuardedBytes x(4 * 400, 1);
      FillElements(type, Content::kNormal, block_size, 400, &random, x.data());
      const std::vector<float> weights = ColumnWeights(400, 37, &random);
      for (std::uint64_t n = 0; n <= 400; ++n) {
        for (const float* const h : {static_cast<const float*>(nullptr), weights.data()}) {
          const Searched expected = Search(ScalarKernels(), type, CodeBook::kNf4, x.data(), n, block_size, 2, h);
          for (const KernelTable* backend : SimdBackends()) {
            CHECK(Same(Search(*backend, type, CodeBook::kNf4, x.data(), n, block_size, 2, h), expected));
          }
        }
      }
    }
  }
}

TEST_CASE("codes under strange scales are the scalar ones") {
  Random random(37);
  const float strange[] = {0.0f, -0.0f, kTiny, -kTiny, 0x1p-149f, -0x1p-130f, FloatOf(0x7F7FFFFF), FloatOf(0xFF7FFFFF)};
  ForInputs(1000, [&](FloatType type, CodeBook book, std::uint32_t block_size, std::uint64_t n, const std::uint8_t* x) {
    std::vector<float> scales(BlockCount(n, block_size));
    for (float& scale : scales) scale = random.Below(2) == 0 ? strange[random.Below(8)] : random.FinitePattern();
    std::vector<std::uint8_t> expected(PackedBytes(n)), codes(expected);
    std::vector<double> expected_errors(scales.size()), errors(scales.size());
    ScalarKernels().codes_under(type, book, x, n, block_size, scales.data(), expected.data());
    ScalarKernels().block_errors(type, book, x, nullptr, n, block_size, scales.data(), expected_errors.data());
    for (const KernelTable* backend : SimdBackends()) {
      backend->codes_under(type, book, x, n, block_size, scales.data(), codes.data());
      backend->block_errors(type, book, x, nullptr, n, block_size, scales.data(), errors.data());
      CHECK(codes == expected);
      CHECK(SameBits(errors, expected_errors));
    }
  });
}

TEST_CASE("no block is worse than absmax, none can overflow, and more effort is never worse than the default") {
  std::uint64_t negative = 0, better = 0;
  ForInputs(1000, [&](FloatType type, CodeBook book, std::uint32_t block_size, std::uint64_t n, const std::uint8_t* x) {
    const Quantized absmax = Absmax(type, book, x, n, block_size);
    const std::vector<double> bound = DecodedErrors(type, book, x, n, block_size, absmax.codes, absmax.scales);
    std::vector<double> default_errors;
    for (const int effort : {1, 2, 3}) {
      const Searched mse = Search(BestCpuKernels(), type, book, x, n, block_size, effort);
      const std::vector<double> errors = DecodedErrors(type, book, x, n, block_size, mse.codes, mse.scales);
      for (std::uint64_t k = 0; k < errors.size(); ++k) {
        // Both sums are this test's own, in another order than Q7.1's.
        CHECK(errors[k] <= bound[k] * (1 + 1e-12));
        CHECK(std::fabs(errors[k] - mse.errors[k]) <= 1e-12 * errors[k]);
        CHECK(mse.floors[k] <= bound[k]);
        if (effort == 3) CHECK(mse.errors[k] <= default_errors[k]);
        better += errors[k] < bound[k];
        negative += mse.scales[k] < 0;
        if (BitsOf(mse.scales[k]) == BitsOf(absmax.scales[k])) continue;
        CHECK(BitsOf(SnappedScale(1, mse.scales[k])) == BitsOf(mse.scales[k]));
        CHECK(!IsInfinite(RoundTo(type, mse.scales[k])));
      }
      if (effort == 2) default_errors = mse.errors;
    }
  });
  CHECK(negative > 1000);
  CHECK(better > 5000);
}

TEST_CASE("blocks that absmax codes without a loss stay its own") {
  for (const CodeBook book : kBooks) {
    for (const float scale : {1.0f, 0.0371f, 3e-30f, 60000.0f}) {
      std::vector<float> x(256);
      Random random(41);
      for (std::size_t i = 0; i < x.size(); ++i) {
        x[i] = TablesOf(book).values[random.Below(16)] * scale;
        if (i % 64 == 0) x[i] = scale;
      }
      const Quantized absmax = Absmax(FloatType::kF32, book, x.data(), x.size(), 64);
      const Searched mse = Search(BestCpuKernels(), FloatType::kF32, book, x.data(), x.size(), 64, 3);
      CHECK(SameBits(mse.scales, absmax.scales));
      CHECK(mse.codes == absmax.codes);
    }
  }
}

TEST_CASE("the codes of absmax are those under its scales") {
  ForInputs(1000, [](FloatType type, CodeBook book, std::uint32_t block_size, std::uint64_t n, const std::uint8_t* x) {
    const Quantized absmax = Absmax(type, book, x, n, block_size);
    std::vector<std::uint8_t> codes(absmax.codes.size());
    ScalarKernels().codes_under(type, book, x, n, block_size, absmax.scales.data(), codes.data());
    CHECK(codes == absmax.codes);
  });
}

// The least error of a block by brute force: many scales of both signs, and for each pattern its best scale.
double LeastError(CodeBook book, const float* x, std::uint32_t size, float a) {
  double least = INFINITY, squares = 0;
  for (std::uint32_t i = 0; i < size; ++i) squares += double{x[i]} * double{x[i]};
  for (int step = 0; step <= 4400; ++step) {
    for (const double sign : {1.0, -1.0}) {
      const double scale = sign * (0.5 + step * 0.00025) * double{a};
      double xc = 0, cc = 0;
      for (std::uint32_t i = 0; i < size; ++i) {
        const double c = CodeValue(book, CodeOf(book, static_cast<float>(double{x[i]} / scale)));
        xc += double{x[i]} * c;
        cc += c * c;
      }
      if (cc > 0) least = std::min(least, squares - xc * xc / cc);
    }
  }
  return least;
}

TEST_CASE("the exact sweep finds what brute force finds, and the default comes within half a percent of it") {
  Random random(43);
  for (const CodeBook book : kBooks) {
    std::vector<float> x(64 * 60);
    for (float& v : x) v = 0.02f * random.Normal();
    const Searched sweep = Search(BestCpuKernels(), FloatType::kF32, book, x.data(), x.size(), 64, 3);
    double least = 0, swept = 0;
    for (std::uint64_t k = 0; k < sweep.errors.size(); ++k) {
      const auto a = *std::max_element(x.begin() + 64 * k, x.begin() + 64 * (k + 1),
                                       [](float l, float r) { return std::fabs(l) < std::fabs(r); });
      const double block = LeastError(book, x.data() + 64 * k, 64, std::fabs(a));
      // What rounding the scale to eight bits may cost.
      CHECK(sweep.errors[k] <= block * 1.01);
      CHECK(sweep.errors[k] >= block * 0.9999);
      least += block;
      swept += sweep.errors[k];
    }
    CHECK(swept <= least * 1.001);
  }
  // More blocks, without brute force.
  std::vector<float> x(64 * 4000);
  for (float& v : x) v = 0.02f * random.Normal();
  for (const CodeBook book : kBooks) {
    const auto total = [&](int effort) {
      const Searched s = Search(BestCpuKernels(), FloatType::kF32, book, x.data(), x.size(), 64, effort);
      double sum = 0;
      for (const double error : s.errors) sum += error;
      return sum;
    };
    const Quantized absmax = Absmax(FloatType::kF32, book, x.data(), x.size(), 64);
    double bound = 0;
    for (const double e : DecodedErrors(FloatType::kF32, book, x.data(), x.size(), 64, absmax.codes, absmax.scales)) {
      bound += e;
    }
    const double few = total(1), usual = total(2), exact = total(3);
    INFO("of absmax: " << few / bound << " " << usual / bound << " " << exact / bound);
    CHECK(exact <= usual);
    CHECK(usual <= exact * 1.005);
    CHECK(few <= exact * 1.02);
    CHECK(usual <= bound * (book == CodeBook::kNf4 ? 0.815 : 0.86));
  }
}

// What absmax' codes lose under the best of many scales.
TEST_CASE("the floor of absmax is below what its codes lose under any scale") {
  Random random(67);
  ForInputs(600, [&](FloatType type, CodeBook book, std::uint32_t block_size, std::uint64_t n, const std::uint8_t* x) {
    const Quantized absmax = Absmax(type, book, x, n, block_size);
    const std::vector<float> of_columns = ColumnWeights(n, 100 + random.Below(400), &random);
    const float* const weights = random.Below(2) == 0 ? nullptr : of_columns.data();
    const Searched mse = Search(BestCpuKernels(), type, book, x, n, block_size, 2, weights);
    for (int step = -40; step <= 40; ++step) {
      std::vector<float> scales = absmax.scales;
      for (float& s : scales) s *= 1 + 0.005f * static_cast<float>(step);
      const std::vector<double> errors = DecodedErrors(type, book, x, n, block_size, absmax.codes, scales, weights);
      for (std::uint64_t k = 0; k < errors.size(); ++k) {
        if (std::isfinite(errors[k])) CHECK(mse.floors[k] <= errors[k] * (1 + 1e-12));
      }
    }
  });
}

TEST_CASE("codes under group scales are those of nested scales without an offset") {
  Random random(47);
  std::vector<float> scales(1000);
  for (float& s : scales) s = random.Normal();
  std::fill(scales.begin() + 256, scales.begin() + 512, 0.0f);
  std::vector<std::uint8_t> expected(scales.size()), codes(scales.size());
  std::vector<float> groups(GroupCount(scales.size()));
  ScalarKernels().quantize_scales(scales.data(), scales.size(), 0, expected.data(), groups.data());
  CodesUnderGroups(scales.data(), scales.size(), groups.data(), codes.data());
  CHECK(codes == expected);
}

TEST_CASE("the first element that is not finite stops the search") {
  std::vector<float> x(500, 0.25f);
  x[333] = INFINITY;
  x[444] = NAN;
  std::vector<float> scales(8);
  for (const KernelTable* backend : AllBackends()) {
    CHECK(backend->search_scales(FloatType::kF32, CodeBook::kNf4, x.data(), nullptr, x.size(), 64, 2, scales.data(),
                                 nullptr) == 333);
  }
}

}  // namespace
}  // namespace q4::testing
