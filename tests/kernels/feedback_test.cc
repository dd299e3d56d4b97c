// The encoder feedback (numerics.md Q17): its loops and whole matrices on every backend, against the specification
// written down anew, sum by sum; that no row gets worse; and Hessians that are none.
#include "kernels/feedback.h"

#include <algorithm>
#include <numeric>
#include <thread>

#include "tests/kernels/feedback_testing.h"

namespace q4::testing {
namespace {

// Q17.2 to Q17.4, entry by entry in the order of work, from the last column back.
struct Reference {
  Count n;
  std::vector<Count> order;
  std::vector<float> u, couplings;  // [j * n + k]
  std::vector<double> pivots;

  Reference(Count columns, const std::vector<float>& hessian, double damping)
      : n(columns), order(columns), u(columns * columns), couplings(columns * columns), pivots(columns) {
    std::iota(order.begin(), order.end(), Count{0});
    std::stable_sort(order.begin(), order.end(),
                     [&](Count a, Count b) { return hessian[a * n + a] > hessian[b * n + b]; });
    const auto entry = [&](Count j, Count k) {
      const Count a = std::min(order[j], order[k]), b = std::max(order[j], order[k]);
      return static_cast<double>(hessian[a * n + b]) + (j == k ? damping : 0.0);
    };
    std::vector<double> r(n * n);
    for (Count k = n; k-- > 0;) {
      for (Count j = k + 1; j-- > 0;) {
        volatile double sum = entry(j, k);
        for (Count m = n; m-- > k + 1;) {
          volatile double product = r[j * n + m] * r[k * n + m];
          sum = sum - product;
        }
        r[j * n + k] = j == k ? std::sqrt(sum) : sum / r[k * n + k];
      }
      pivots[k] = r[k * n + k] * r[k * n + k];
      for (Count j = 0; j < n; ++j) {
        if (j < k) u[j * n + k] = static_cast<float>(r[j * n + k] / r[k * n + k]);
        if (j != k) couplings[j * n + k] = static_cast<float>(entry(j, k) / entry(k, k));
      }
    }
  }

  // Q17.5, Q17.6 of one row.
  void Pass(const FeedbackTestMatrix& matrix, Count row, const std::vector<float>& coefficients,
            std::vector<float>* errors, std::vector<std::uint8_t>* codes) const {
    for (Count begin = 0; begin < n; begin += 64) {
      const Count end = std::min(begin + 64, n);
      std::vector<float> sums(64, 0.0f);
      for (Count k = begin; k < end; ++k) {
        for (Count j = 0; j < n; ++j) {
          volatile float product = (*errors)[j] * coefficients[j * n + k];
          sums[k - begin] = sums[k - begin] + product;
        }
      }
      for (Count k = begin; k < end; ++k) {
        const Count elem = matrix.At(row, order[k]);
        const float x = matrix.Element(elem), scale = matrix.scales[elem / matrix.block_size];
        float target = x + sums[k - begin];
        if (!std::isfinite(target) || std::fabs(scale) <= kTiny) target = x;
        const float divisor = std::fabs(scale) <= kTiny ? std::copysign(kTiny, scale) : scale;
        volatile float reciprocal = 1.0f / divisor;
        volatile float scaled = target * reciprocal;
        (*codes)[k] = CodeOf(matrix.book, scaled);
        volatile float y = CodeValue(matrix.book, (*codes)[k]) * scale;
        const float error = x - y;
        volatile float change = error - (*errors)[k];
        for (Count later = k + 1; later < end; ++later) {
          volatile float product = change * coefficients[k * n + later];
          sums[later - begin] = sums[later - begin] + product;
        }
        (*errors)[k] = error;
      }
    }
  }

  double RowError(const std::vector<float>& errors) const {
    double total = 0;
    for (Count k = 0; k < n; ++k) {
      float sum = 0;
      for (Count j = 0; j < k; ++j) {
        volatile float product = errors[j] * u[j * n + k];
        sum = sum + product;
      }
      const float all = errors[k] + sum;
      volatile double square = static_cast<double>(all) * static_cast<double>(all);
      volatile double weighted = square * pivots[k];
      total = total + weighted;
    }
    return total;
  }

  std::vector<std::uint8_t> Coded(const FeedbackTestMatrix& matrix, int passes) const {
    std::vector<std::uint8_t> result = matrix.codes;
    for (Count row = 0; row < matrix.rows; ++row) {
      std::vector<float> errors(n, 0.0f), old_errors(n);
      std::vector<std::uint8_t> codes(n);
      Pass(matrix, row, u, &errors, &codes);
      for (int p = 0; p < passes; ++p) Pass(matrix, row, couplings, &errors, &codes);
      for (Count k = 0; k < n; ++k) {
        const Count elem = matrix.At(row, order[k]);
        volatile float y = matrix.Decoded(matrix.codes, elem);
        old_errors[k] = matrix.Element(elem) - y;
      }
      if (!(RowError(errors) < RowError(old_errors))) continue;
      for (Count k = 0; k < n; ++k) {
        const Count elem = matrix.At(row, order[k]);
        std::uint8_t& byte = result[elem / 2];
        byte = static_cast<std::uint8_t>(elem % 2 == 0 ? (byte & 0x0F) | (codes[k] << 4) : (byte & 0xF0) | codes[k]);
      }
    }
    return result;
  }
};

// e (H + damping I) e^T of one row, in fp64 and in the matrix' own order of columns.
double RowErrorIn(const std::vector<float>& hessian, double damping, const FeedbackTestMatrix& matrix,
                  const std::vector<std::uint8_t>& codes, Count row) {
  const Count n = matrix.columns;
  std::vector<double> e(n);
  for (Count j = 0; j < n; ++j) {
    const Count elem = matrix.At(row, j);
    e[j] = static_cast<double>(matrix.Element(elem)) - static_cast<double>(matrix.Decoded(codes, elem));
  }
  double total = 0;
  for (Count a = 0; a < n; ++a) {
    double sum = damping * e[a];
    for (Count b = 0; b < n; ++b) sum += static_cast<double>(hessian[std::min(a, b) * n + std::max(a, b)]) * e[b];
    total += e[a] * sum;
  }
  return total;
}

}  // namespace

TEST_CASE("the loops of feedback are the same on every backend") {
  Random random(17);
  for (const Count terms : {0, 1, 5, 64, 130}) {
    std::vector<float> left(terms * kFeedbackRows), right(terms * kFeedbackPanel), sums(kFeedbackPanel * kFeedbackRows);
    for (std::vector<float>* v : {&left, &right, &sums}) {
      for (float& f : *v) f = random.Below(9) == 0 ? random.FinitePattern() : random.Normal();
    }
    std::vector<float> expected = sums;
    ScalarKernels().add_products(expected.data(), left.data(), right.data(), terms);
    for (const KernelTable* kernels : SimdBackends()) {
      INFO(kernels->name << " terms " << terms);
      std::vector<float> got = sums;
      kernels->add_products(got.data(), left.data(), right.data(), terms);
      // The sign of a NaN is not specified.
      for (std::size_t i = 0; i < got.size(); ++i) {
        if (!(IsNan(got[i]) && IsNan(expected[i])) && BitsOf(got[i]) != BitsOf(expected[i])) FAIL("sum " << i);
      }
    }
  }
  for (const Count terms : {0, 1, 9, 64}) {
    for (const Count columns : {1, 3, 4, 6, 64}) {
      std::vector<double> left(terms * kFeedbackPanel), right(terms * kFeedbackPanel), sums(columns * kFeedbackPanel);
      for (std::vector<double>* v : {&left, &right, &sums}) {
        for (double& d : *v) d = static_cast<double>(random.Normal()) * (random.Below(5) == 0 ? 1e9 : 1.0);
      }
      std::vector<double> expected = sums;
      ScalarKernels().subtract_products(expected.data(), left.data(), right.data(), terms, columns);
      for (const KernelTable* kernels : SimdBackends()) {
        INFO(kernels->name << " terms " << terms << " columns " << columns);
        std::vector<double> got = sums;
        kernels->subtract_products(got.data(), left.data(), right.data(), terms, columns);
        CHECK(SameBits(got, expected));
      }
    }
  }
}

TEST_CASE("codes of a panel are the same on every backend, whatever the elements and scales") {
  Random random(18);
  for (const CodeBook book : kBooks) {
    for (int round = 0; round < 40; ++round) {
      const Count columns = round % 4 == 0 ? 64 : 1 + random.Below(64), size = kFeedbackPanel * kFeedbackRows;
      std::vector<float> x(size), scales(size), sums(size), errors(size), matrix(kFeedbackPanel * kFeedbackPanel);
      for (std::vector<float>* v : {&x, &scales, &sums, &errors, &matrix}) {
        for (float& f : *v) {
          const Count kind = random.Below(round % 2 == 0 ? 40 : 8);
          f = kind == 0   ? random.FinitePattern()
              : kind == 1 ? 0.0f * random.Normal()
              : kind == 2 ? Nudge(random.Below(2) == 0 ? kTiny : -kTiny, static_cast<int>(random.Below(3)) - 1)
                          : random.Normal();
        }
      }
      if (round % 8 == 1) sums[random.Below(size)] = std::numeric_limits<float>::infinity();
      if (round % 8 == 3) sums[random.Below(size)] = std::numeric_limits<float>::quiet_NaN();
      std::vector<float> sums1 = sums, errors1 = errors;
      std::vector<std::uint8_t> codes1(size, 77);
      ScalarKernels().feedback_panel(book, x.data(), scales.data(), matrix.data(), columns, sums1.data(),
                                     errors1.data(), codes1.data());
      for (const KernelTable* kernels : SimdBackends()) {
        INFO(kernels->name << ' ' << NameOf(book) << " round " << round);
        std::vector<float> sums2 = sums, errors2 = errors;
        std::vector<std::uint8_t> codes2(size, 77);
        kernels->feedback_panel(book, x.data(), scales.data(), matrix.data(), columns, sums2.data(), errors2.data(),
                                codes2.data());
        CHECK(SameBits(codes1, codes2));
        CHECK(SameBits(errors1, errors2));
      }
    }
  }
}

TEST_CASE("feedback is what its specification says, on every backend and for every shape") {
  Random random(19);
  for (const FeedbackShape& shape : kFeedbackShapes) {
    for (const CodeBook book : kBooks) {
      FeedbackTestMatrix matrix(shape.type, book, shape.block_size, shape.rows, shape.columns, shape.content, &random,
                                shape.first, shape.transposed);
      const std::vector<float> hessian = HessianOf(shape.columns, 3 * shape.columns, &random);
      const FeedbackFactor factor = FactorOf(ScalarKernels(), shape.columns, hessian);
      CHECK(factor.raises == 0);
      const Reference reference(shape.columns, hessian, factor.damping);
      CHECK(SameBits(reference.pivots, factor.pivots));
      for (const int passes : {0, 2}) {
        const std::vector<std::uint8_t> expected = reference.Coded(matrix, passes);
        for (const KernelTable* kernels : AllBackends()) {
          INFO(kernels->name << ' ' << NameOf(book) << ' ' << NameOf(shape.type) << ' ' << shape.rows << 'x'
                             << shape.columns << " passes " << passes);
          const FeedbackFactor same = FactorOf(*kernels, shape.columns, hessian);
          CHECK(same.order == factor.order);
          CHECK(SameBits(same.pivots, factor.pivots));
          CHECK(SameBits(same.factor, factor.factor));
          CHECK(SameBits(same.couplings, factor.couplings));
          Count kept = 0;
          CHECK(SameBits(matrix.Coded(*kernels, same, passes, &kept), expected));
        }
      }
    }
  }
}

TEST_CASE("no row has a larger error than with the nearest codes, and most have far less") {
  Random random(20);
  for (const Content content : {Content::kNormal, Content::kGrid, Content::kSparse}) {
    for (const CodeBook book : kBooks) {
      const Count columns = 192, rows = 40;
      FeedbackTestMatrix matrix(FloatType::kF32, book, 64, rows, columns, content, &random);
      const std::vector<float> hessian = HessianOf(columns, 400, &random);
      const FeedbackFactor factor = FactorOf(BestCpuKernels(), columns, hessian);
      double before = 0, feedback = 0, after = 0;
      Count kept = 0;
      const std::vector<std::uint8_t> once = matrix.Coded(BestCpuKernels(), factor, 0, &kept);
      const std::vector<std::uint8_t> codes = matrix.Coded(BestCpuKernels(), factor, 2, &kept);
      for (Count row = 0; row < rows; ++row) {
        const double old_error = RowErrorIn(hessian, factor.damping, matrix, matrix.codes, row);
        const double error = RowErrorIn(hessian, factor.damping, matrix, codes, row);
        CHECK(error <= old_error * (1 + 1e-5));
        before += old_error;
        after += error;
        feedback += RowErrorIn(hessian, factor.damping, matrix, once, row);
      }
      INFO(NameOf(book) << " before " << before << " feedback " << feedback << " descent " << after);
      if (content == Content::kNormal) {
        CHECK(kept == 0);
        CHECK(feedback < 0.6 * before);
        CHECK(after < feedback);
      }
    }
  }
}

TEST_CASE("columns that were never used, and no inputs at all") {
  Random random(21);
  const Count columns = 70;
  FeedbackTestMatrix matrix(FloatType::kF32, CodeBook::kNf4, 32, 5, columns, Content::kNormal, &random);
  Count kept = 0;

  // Rank one, with two dead columns: the damping alone makes it positive definite.
  std::vector<float> hessian(columns * columns);
  for (Count a = 0; a < columns; ++a) {
    for (Count b = 0; b < columns; ++b) {
      hessian[a * columns + b] = a == 3 || a == 69 || b == 3 || b == 69 ? 0.0f : 1.0f;
    }
  }
  FeedbackFactor factor = FactorOf(BestCpuKernels(), columns, hessian);
  CHECK(factor.raises == 0);
  CHECK(factor.order[columns - 2] == 3);
  CHECK(factor.order[columns - 1] == 69);
  const std::vector<std::uint8_t> codes = matrix.Coded(BestCpuKernels(), factor, 2, &kept);
  double before = 0, after = 0;
  for (Count row = 0; row < matrix.rows; ++row) {
    CHECK(UnpackCode(codes.data(), row * columns + 3) == UnpackCode(matrix.codes.data(), row * columns + 3));
    before += RowErrorIn(hessian, factor.damping, matrix, matrix.codes, row);
    after += RowErrorIn(hessian, factor.damping, matrix, codes, row);
  }
  CHECK(after < 0.8 * before);

  // Nothing is known: the nearest codes stay.
  std::fill(hessian.begin(), hessian.end(), 0.0f);
  factor = FactorOf(BestCpuKernels(), columns, hessian);
  CHECK(factor.damping == 1.0);
  CHECK(SameBits(matrix.Coded(BestCpuKernels(), factor, 2, &kept), matrix.codes));
  CHECK(kept == matrix.rows);
}

TEST_CASE("damping is raised for what is not quite a Hessian, and what is none is refused") {
  Random random(22);
  const Count columns = 20;
  std::vector<float> hessian(columns * columns);
  for (Count k = 0; k < columns; ++k) hessian[k * columns + k] = 1.0f;
  hessian[1] = 1.05f;  // an eigenvalue of -0.05
  FeedbackFactor factor = FactorOf(BestCpuKernels(), columns, hessian);
  CHECK(factor.raises == 1);
  CHECK(factor.damping == 0.01 * 10);
  FeedbackTestMatrix matrix(FloatType::kF32, CodeBook::kFp4, 32, 3, columns, Content::kNormal, &random);
  Count kept = 0;
  const std::vector<std::uint8_t> codes = matrix.Coded(BestCpuKernels(), factor, 2, &kept);
  for (Count row = 0; row < 3; ++row) {
    CHECK(RowErrorIn(hessian, factor.damping, matrix, codes, row) <=
          RowErrorIn(hessian, factor.damping, matrix, matrix.codes, row));
  }

  hessian[1] = 200;
  for (const KernelTable* kernels : AllBackends()) {
    std::vector<float> copy = hessian;
    CHECK(!MakeFeedbackFactor(*kernels, columns, copy, Backwards, &factor));
  }
  // The half below the diagonal is not looked at.
  hessian[1] = 0;
  hessian[columns] = 200;
  CHECK(FactorOf(BestCpuKernels(), columns, hessian).raises == 0);
}

TEST_CASE("tiles on several threads share bytes of codes and nothing else") {
  Random random(23);
  const Count columns = 65, rows = 64 * 6 + 1;
  for (const bool transposed : {false, true}) {
    const FeedbackTestMatrix matrix(FloatType::kF32, CodeBook::kNf4, 32, rows, columns, Content::kNormal, &random, 3,
                                    transposed);
    const FeedbackFactor factor = FactorOf(BestCpuKernels(), columns, HessianOf(columns, 200, &random));
    Count kept = 0;
    const std::vector<std::uint8_t> expected = matrix.Coded(BestCpuKernels(), factor, 1, &kept);
    std::vector<std::uint8_t> codes = matrix.codes;
    std::vector<std::thread> threads;
    for (Count tile = 0; tile < 7; ++tile) {
      threads.emplace_back([&, tile] {
        FeedbackTile scratch(columns);
        scratch.ChooseCodes(BestCpuKernels(), factor, 1, tile, matrix.Of(&codes));
      });
    }
    for (std::thread& thread : threads) thread.join();
    CHECK(SameBits(codes, expected));
  }
}

TEST_CASE("feedback counts its memory") {
  for (const Count columns : {1, 64, 65, 384}) {
    std::vector<float> hessian(columns * columns, 0.0f);
    const FeedbackFactor factor = FactorOf(BestCpuKernels(), columns, hessian);
    CHECK(FeedbackFactorBytes(columns) ==
          (factor.factor.size() + factor.couplings.size() + factor.order.size()) * 4 + factor.pivots.size() * 8);
    const Count other = std::max(factor.factor.size() * sizeof(double), factor.couplings.size() * sizeof(float));
    CHECK(FeedbackPeakBytes(columns) >= columns * columns * 4 + factor.factor.size() * 4 + other);
  }
}

}  // namespace q4::testing
