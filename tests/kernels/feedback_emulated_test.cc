// The device code of the encoder feedback, run on this machine (emulated_cuda.h), against the kernels of the cores:
// every entry of the factor, and all codes. What a GPU itself makes of it: cuda_feedback_test.cc.
#include "tests/kernels/emulated_cuda.h"
// Device code, as C++.
#include "kernels/feedback_cuda.cuh"
#include "kernels/feedback_factor_cuda.cuh"
#include "tests/kernels/feedback_testing.h"

namespace q4::testing {
namespace {

using emulated::Block;

// What the launches of feedback_factor_cuda.cu do.
struct EmulatedFactor {
  Count n;
  std::vector<float> hessian, factor, couplings;
  std::vector<std::uint32_t> order;
  std::vector<double> work, pivots;
  std::uint32_t largest = 0, failed = 0;

  EmulatedFactor(Count columns, std::vector<float> of, const FeedbackFactor& expected)
      : n(columns), hessian(std::move(of)), order(expected.order), pivots(columns) {
    const auto panels = static_cast<std::uint32_t>(FeedbackPanels(n));
    const auto side = static_cast<std::uint32_t>((n + cuda::kMirrorSide - 1) / cuda::kMirrorSide);
    factor.assign(FeedbackFactor::FactorAt(panels), -7.0f);
    couplings.assign(panels * n * kFeedbackPanel, -7.0f);
    work.assign(FeedbackFactor::FactorAt(panels), -7.0);
    Block::Launch({side, side, 1}, cuda::kFactorThreads, [&] { cuda::MirrorSquare(n, hessian.data()); });
    const cuda::FeedbackFactorArgs args = {n,           hessian.data(), order.data(),  expected.damping,
                                           work.data(), factor.data(),  pivots.data(), &largest,
                                           &failed};
    Block::Launch({panels, panels, 1}, cuda::kFactorThreads, [&] { cuda::LoadSquare(args); });
    std::vector<double> shared(cuda::kSolveDoubles);
    for (std::uint32_t panel = 0; panel < panels; ++panel) {
      const std::uint32_t behind = panels - panel - 1;
      Block::Launch({1, 1, 1}, cuda::kFactorThreads,
                    [&] { cuda::FactorDiagonalSquare(args, panel, expected.damping * 0.5); });
      Block::Launch({behind, behind == 0 ? 0u : 1u, 1}, cuda::kFactorThreads,
                    [&] { cuda::SolveSquare(args, panel, shared.data()); });
      Block::Launch({behind, behind, 1}, cuda::kFactorThreads, [&] { cuda::SubtractSquare(args, panel); });
    }
    Block::Launch({panels, panels, 1}, cuda::kFactorThreads, [&] { cuda::StoreFactorSquare(args); });
    const cuda::FeedbackCouplingsArgs rest = {n, hessian.data(), order.data(), expected.damping, couplings.data()};
    Block::Launch({panels, panels, 1}, cuda::kFactorThreads, [&] { cuda::StoreCouplingsSquare(rest); });
  }

  std::vector<std::uint8_t> Coded(const FeedbackTestMatrix& matrix, int passes, Count tiles_at_once, Count* kept) {
    std::vector<std::uint8_t> codes = matrix.codes;
    codes.resize((codes.size() + 3) / 4 * 4);
    std::uint32_t kept_rows = 0;
    std::vector<unsigned char> scratch(tiles_at_once * cuda::TileArrays::Bytes(n));
    cuda::FeedbackCodesArgs args = {
        matrix.Of(&codes), order.data(), factor.data(), couplings.data(), pivots.data(), &largest, passes, 0, 0,
        scratch.data(),    &kept_rows};
    std::uint32_t shift = 0;
    while (1u << shift < matrix.block_size) ++shift;
    static cuda::FeedbackShared shared;
    const Count tiles = cuda::FeedbackTiles(matrix.rows);
    for (args.first_tile = 0; args.first_tile < tiles; args.first_tile += args.tiles) {
      args.tiles = std::min(tiles_at_once, tiles - args.first_tile);
      Block::Launch({static_cast<std::uint32_t>(args.tiles), 1, 1}, cuda::kFeedbackThreads,
                    [&] { cuda::CodeTile(args, shift, shared); });
    }
    *kept = kept_rows;
    codes.resize(matrix.codes.size());
    return codes;
  }
};

}  // namespace

TEST_CASE("the device code of feedback makes what the cores make, for every shape") {
  Random random(24);
  // Emulation is slow: code books and passes take turns.
  int turn = 0;
  for (const FeedbackShape& shape : kFeedbackShapes) {
    const CodeBook book = kBooks[turn++ % 2];
    INFO(NameOf(book) << ' ' << NameOf(shape.type) << ' ' << shape.rows << 'x' << shape.columns);
    const FeedbackTestMatrix matrix(shape.type, book, shape.block_size, shape.rows, shape.columns, shape.content,
                                    &random, shape.first, shape.transposed);
    std::vector<float> hessian = HessianOf(shape.columns, 3 * shape.columns, &random);
    const FeedbackFactor expected = FactorOf(BestCpuKernels(), shape.columns, hessian);
    // The half below the diagonal is not looked at.
    for (Count i = 1; i < shape.columns; ++i) hessian[i * shape.columns + i / 2] = 1e30f;
    EmulatedFactor factor(shape.columns, hessian, expected);
    CHECK(factor.failed == 0);
    CHECK(SameBits(factor.pivots, expected.pivots));
    CHECK(SameBits(factor.factor, expected.factor));
    CHECK(SameBits(factor.couplings, expected.couplings));
    CHECK(BitsOf(expected.largest) == factor.largest);
    const int passes = turn % 3;
    Count kept = 0, kept_there = 0;
    const std::vector<std::uint8_t> codes = matrix.Coded(BestCpuKernels(), expected, passes, &kept);
    CHECK(SameBits(factor.Coded(matrix, passes, 1 + shape.rows % 3, &kept_there), codes));
    CHECK(kept_there == kept);
  }
}

TEST_CASE("a pivot that is not good is found by the device code too, wherever it is") {
  Random random(25);
  for (const Count columns : {20, 64, 150}) {
    for (const Count bad : {Count{0}, columns / 2, columns - 2}) {
      std::vector<float> hessian(columns * columns);
      for (Count k = 0; k < columns; ++k) hessian[k * columns + k] = 1.0f;
      const FeedbackFactor factor = FactorOf(BestCpuKernels(), columns, hessian);
      CHECK(EmulatedFactor(columns, hessian, factor).failed == 0);
      for (const float entry : {200.0f, std::numeric_limits<float>::quiet_NaN()}) {
        hessian[bad * columns + bad + 1] = entry;
        CHECK(EmulatedFactor(columns, hessian, factor).failed == 1);
      }
    }
  }
}

// Errors that overflow, in the way and at the end, and old codes that are the best ones already.
TEST_CASE("rows of the device code keep their codes where those of the cores do") {
  Random random(26);
  for (const Content content : {Content::kHuge, Content::kPatterns, Content::kGrid}) {
    for (const float size : {1.0f, 1e30f}) {
      const Count columns = 100, rows = 37;
      const FeedbackTestMatrix matrix(FloatType::kF32, CodeBook::kNf4, 32, rows, columns, content, &random);
      std::vector<float> hessian = HessianOf(columns, 30, &random);
      for (float& entry : hessian) entry *= size;
      const FeedbackFactor expected = FactorOf(BestCpuKernels(), columns, hessian);
      EmulatedFactor factor(columns, hessian, expected);
      Count kept = 0, kept_there = 0;
      const std::vector<std::uint8_t> codes = matrix.Coded(BestCpuKernels(), expected, 2, &kept);
      CHECK(SameBits(factor.Coded(matrix, 2, 2, &kept_there), codes));
      CHECK(kept_there == kept);
    }
  }
}

}  // namespace q4::testing
