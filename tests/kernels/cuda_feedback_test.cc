// The encoder feedback on a GPU against the kernels of the cores, by memcmp (docs/numerics.md Q17, Q12.4): every entry
// of the factor, and all codes. The same device code on the CPU: feedback_emulated_test.cc.
#include <cstdio>

#include "kernels/feedback_cuda.h"
#include "tests/kernels/cuda_testing.h"
#include "tests/kernels/feedback_testing.h"

namespace q4::testing {
namespace {

std::uint64_t RoundedToWords(std::uint64_t bytes) { return (bytes + 3) / 4 * 4; }

// A Hessian and its factor on the device.
struct DeviceFactor {
  Count n;
  DeviceBytes hessian, order, work, factor, couplings, pivots, words;

  DeviceFactor(Count columns, const std::vector<float>& of, const std::vector<std::uint32_t>& columns_in_order)
      : n(columns),
        hessian(of.data(), 4 * of.size()),
        order(columns_in_order.data(), 4 * columns_in_order.size()),
        work(cuda::FeedbackSizesOf(n).work),
        factor(4 * FeedbackFactor::FactorAt(FeedbackPanels(n))),
        couplings(4 * FeedbackPanels(n) * n * kFeedbackPanel),
        pivots(8 * n),
        words(12) {
    RequireOk(cuda::MirrorHessian(n, hessian.as<float>(), nullptr));
  }
  // Whether all pivots are good.
  bool Make(double damping) {
    RequireOk(cuda::FactorHessian(
        {n, hessian.as<float>(), order.as<std::uint32_t>(), damping, work.as<double>(), factor.as<float>(),
         pivots.as<double>(), words.as<std::uint32_t>(), words.as<std::uint32_t>() + 1},
        nullptr));
    if (Word(1) != 0) return false;
    RequireOk(cuda::MakeFeedbackCouplings(
        {n, hessian.as<float>(), order.as<std::uint32_t>(), damping, couplings.as<float>()}, nullptr));
    return true;
  }
  std::uint32_t Word(std::size_t i) const {
    const std::vector<std::uint8_t> bytes = words.Download();
    std::uint32_t word;
    std::memcpy(&word, bytes.data() + 4 * i, 4);
    return word;
  }
  bool Is(const FeedbackFactor& expected) const {
    return factor.Holds(expected.factor.data()) && couplings.Holds(expected.couplings.data()) &&
           pivots.Holds(expected.pivots.data()) && Word(0) == BitsOf(expected.largest);
  }

  std::vector<std::uint8_t> Coded(const FeedbackTestMatrix& matrix, int passes, Count tiles_at_once, Count* kept) {
    std::vector<std::uint8_t> codes = matrix.codes;
    codes.resize(RoundedToWords(codes.size()));
    const DeviceBytes x(matrix.x.data(), matrix.x.size()), scales(matrix.scales.data(), 4 * matrix.scales.size());
    DeviceBytes there(codes.data(), codes.size());
    RequireOk(cuda::Fill(words.as<std::uint32_t>() + 2, 0, 4, nullptr));
    const DeviceBytes scratch(tiles_at_once * cuda::FeedbackTileBytes(n));
    cuda::FeedbackCodesArgs args;
    args.matrix = matrix.Of(&codes);
    args.matrix.x = x.as<void>();
    args.matrix.scales = scales.as<float>();
    args.matrix.codes = there.as<std::uint8_t>();
    args.order = order.as<std::uint32_t>();
    args.factor = factor.as<float>();
    args.couplings = couplings.as<float>();
    args.pivots = pivots.as<double>();
    args.largest = words.as<std::uint32_t>();
    args.passes = passes;
    args.scratch = scratch.as<void>();
    args.kept = words.as<std::uint32_t>() + 2;
    const Count tiles = cuda::FeedbackTiles(matrix.rows);
    for (args.first_tile = 0; args.first_tile < tiles; args.first_tile += args.tiles) {
      args.tiles = std::min(tiles_at_once, tiles - args.first_tile);
      RequireOk(cuda::ChooseFeedbackCodes(args, nullptr));
    }
    codes = there.Download();
    (void)scratch.Download();  // its guard
    *kept = Word(2);
    codes.resize(matrix.codes.size());
    return codes;
  }
};

// Neighbours go together; positive definite.
std::vector<float> MadeUpHessian(Count n, Random* random) {
  std::vector<float> size(n), hessian(n * n);
  for (float& each : size) each = static_cast<float>(0.5 + random->Uniform());
  for (Count i = 0; i < n; ++i) {
    for (Count j = 0; j < n; ++j)
      hessian[i * n + j] = size[i] * size[j] / static_cast<float>(1 + (i < j ? j - i : i - j));
  }
  return hessian;
}

void Compare(const FeedbackTestMatrix& matrix, const std::vector<float>& hessian, Count tiles_at_once) {
  ArenaScope scope;
  const FeedbackFactor expected = FactorOf(BestCpuKernels(), matrix.columns, hessian);
  DeviceFactor factor(matrix.columns, hessian, expected.order);
  REQUIRE(factor.Make(expected.damping));
  CHECK(factor.Is(expected));
  for (const int passes : {0, 2}) {
    Count kept = 0, kept_there = 0;
    const std::vector<std::uint8_t> codes = matrix.Coded(BestCpuKernels(), expected, passes, &kept);
    CHECK(SameBits(factor.Coded(matrix, passes, tiles_at_once, &kept_there), codes));
    CHECK(kept_there == kept);
  }
}

}  // namespace

TEST_CASE("feedback: every shape of the test of the cores") {
  Random random(31);
  for (const FeedbackShape& shape : kFeedbackShapes) {
    for (const CodeBook book : kBooks) {
      INFO(NameOf(book) << ' ' << NameOf(shape.type) << ' ' << shape.rows << 'x' << shape.columns);
      const FeedbackTestMatrix matrix(shape.type, book, shape.block_size, shape.rows, shape.columns, shape.content,
                                      &random, shape.first, shape.transposed);
      Compare(matrix, HessianOf(shape.columns, 3 * shape.columns, &random), 1 + shape.rows % 3);
    }
  }
}

TEST_CASE("feedback: every block size, type, code book and content") {
  Random random(32);
  std::uint64_t turn = 0;
  for (std::uint32_t block_size = 32; block_size <= 4096; block_size *= 2) {
    for (int content = 0; content < static_cast<int>(Content::kCount); ++content, ++turn) {
      if (Reduced() && turn % 17 != 0) continue;
      const Count columns = 1 + random.Below(Reduced() ? 140 : 300), rows = 1 + random.Below(Reduced() ? 40 : 150);
      const FloatType type = kTypes[turn % 3];
      const CodeBook book = kBooks[turn / 3 % 2];
      INFO(NameOf(book) << ' ' << NameOf(type) << " block " << block_size << ' ' << rows << 'x' << columns
                        << " content " << content);
      const FeedbackTestMatrix matrix(type, book, block_size, rows, columns, static_cast<Content>(content), &random,
                                      random.Below(2) * random.Below(99), turn % 4 == 0);
      Compare(matrix, HessianOf(columns, columns / 2 + 1, &random), 1 + random.Below(4));
    }
  }
}

// Enough tiles that all multiprocessors work side by side, and panels for the whole grid of the factor.
TEST_CASE("feedback: a large matrix") {
  if (Reduced()) return;
  Random random(33);
  const Count columns = 1500, rows = 3001;
  const FeedbackTestMatrix matrix(FloatType::kBF16, CodeBook::kNf4, 64, rows, columns, Content::kNormal, &random);
  Compare(matrix, MadeUpHessian(columns, &random), cuda::FeedbackTiles(rows));
}

TEST_CASE("feedback: damping is raised where it is on the cores") {
  Random random(34);
  const Count columns = 130;
  std::vector<float> hessian(columns * columns);
  for (Count k = 0; k < columns; ++k) hessian[k * columns + k] = 1.0f;
  hessian[1] = 1.05f;  // an eigenvalue of -0.05
  const FeedbackFactor expected = FactorOf(BestCpuKernels(), columns, hessian);
  REQUIRE(expected.raises == 1);
  ArenaScope scope;
  DeviceFactor factor(columns, hessian, expected.order);
  CHECK_FALSE(factor.Make(0.01));
  CHECK(factor.Make(expected.damping));
  CHECK(factor.Is(expected));
}

// Errors that overflow, in the way and at the end.
TEST_CASE("feedback: rows keep their codes where those of the cores do") {
  Random random(35);
  for (const Content content : {Content::kHuge, Content::kPatterns, Content::kGrid}) {
    for (const float size : {1.0f, 1e30f}) {
      const Count columns = 100;
      const FeedbackTestMatrix matrix(FloatType::kF32, CodeBook::kNf4, 32, 37, columns, content, &random);
      std::vector<float> hessian = HessianOf(columns, 30, &random);
      for (float& entry : hessian) entry *= size;
      Compare(matrix, hessian, 2);
    }
  }
}

TEST_CASE("feedback: what is misaligned, missing or not there is refused") {
  ArenaScope scope;
  DeviceBytes memory(4096);
  cuda::FeedbackCodesArgs good;
  good.matrix = {FloatType::kF32,    CodeBook::kNf4,           64, 40, 8, 0, false, memory.as<void>(),
                 memory.as<float>(), memory.as<std::uint8_t>()};
  good.factor = good.couplings = memory.as<float>();
  good.scratch = memory.as<void>();
  good.kept = memory.as<std::uint32_t>();
  good.largest = memory.as<std::uint32_t>();
  CHECK(cuda::ChooseFeedbackCodes(good, nullptr).ok());  // no tiles
  const auto refused = [&](auto change) {
    cuda::FeedbackCodesArgs args = good;
    change(args);
    return !cuda::ChooseFeedbackCodes(args, nullptr).ok();
  };
  CHECK(refused([](cuda::FeedbackCodesArgs& args) { args.matrix.block_size = 48; }));
  CHECK(refused([](cuda::FeedbackCodesArgs& args) { args.tiles = 3; }));
  CHECK(refused([](cuda::FeedbackCodesArgs& args) { args.first_tile = 3; }));
  CHECK(refused([](cuda::FeedbackCodesArgs& args) { args.kept = nullptr; }));
  CHECK(refused([](cuda::FeedbackCodesArgs& args) { args.matrix.codes += 4; }));
  CHECK(refused([](cuda::FeedbackCodesArgs& args) { args.factor += 1; }));
  CHECK_FALSE(cuda::MirrorHessian(0, memory.as<float>(), nullptr).ok());
  CHECK_FALSE(cuda::FactorHessian({}, nullptr).ok());
  CHECK_FALSE(cuda::MakeFeedbackCouplings({}, nullptr).ok());
}

}  // namespace q4::testing
