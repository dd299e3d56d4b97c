#include "libconvert/model/stats.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "kernels/kernels.h"
#include "libconvert/model/stats_json.h"
#include "tests/support/catch.h"
#include "tests/support/weights.h"

namespace q4 {
namespace {

constexpr std::uint32_t kStatsBlock = 32;

// Statistics of `values` taken in slabs of `slab_elems`.
Q4Stats StatsInSlabs(const std::vector<float>& values, std::uint64_t slab_elems) {
  TensorStatsAccumulator total;
  for (std::uint64_t first = 0; first < values.size(); first += slab_elems) {
    const std::uint64_t n = std::min<std::uint64_t>(slab_elems, values.size() - first);
    const std::uint64_t blocks = BlockCount(n, kStatsBlock);
    std::vector<std::uint8_t> codes(PackedBytes(n));
    std::vector<float> scales(blocks);
    ScalarKernels().quantize(FloatType::kF32, CodeBook::kNf4, values.data() + first, n, kStatsBlock, codes.data(),
                             scales.data());
    std::vector<GroupSums> groups(GroupCount(blocks));
    SlabStats slab;
    ScalarKernels().error_stats(FloatType::kF32, CodeBook::kNf4, values.data() + first, codes.data(), scales.data(), n,
                                kStatsBlock, groups.data(), &slab);
    total.AddSlab(first, kStatsBlock, slab, groups);
  }
  return total.Finish();
}

TEST_CASE("statistics do not depend on how a tensor is cut") {
  const std::vector<float> values = test::NormalValues(5 * kScaleGroup * kStatsBlock + 1234, 7);
  const Q4Stats whole = StatsInSlabs(values, values.size());
  for (const std::uint64_t groups : {1, 2, 3}) CHECK(StatsInSlabs(values, groups * kScaleGroup * kStatsBlock) == whole);
  CHECK(whole.count == values.size());
}

TEST_CASE("positions count from the tensor's first element and the first of equals wins") {
  SlabStats slab;
  slab.count = 64;
  slab.max_abs_err = 0.5;
  slab.max_abs_err_index = 3;
  slab.worst_block_e2 = 2;
  slab.worst_block = 1;
  const GroupSums group{1, 2, 3, 4, 5};
  TensorStatsAccumulator total;
  total.AddSlab(0, kStatsBlock, slab, {&group, 1});
  slab.max_abs_err_index = 7;
  total.AddSlab(64, kStatsBlock, slab, {&group, 1});
  CHECK(total.Finish().max_abs_err_index == 3);
  CHECK(total.Finish().worst_block == 1);
  slab.max_abs_err = 0.75;
  slab.worst_block_e2 = 3;
  total.AddSlab(128, kStatsBlock, slab, {&group, 1});
  CHECK(total.Finish().max_abs_err_index == 128 + 7);
  CHECK(total.Finish().worst_block == 128 / kStatsBlock + 1);
  CHECK(total.Finish().sum_xy == 15);
}

TEST_CASE("ratios follow Q8.3 to Q8.6") {
  Q4Stats stats;
  stats.count = 4;
  stats.sum_e = -2;
  stats.sum_abs_e = 6;
  stats.sum_e2 = 16;
  stats.sum_x2 = 160;
  stats.sum_xy = 150;
  const DerivedStats derived = Derive(stats);
  CHECK(derived.bias == -0.5);
  CHECK(derived.mae == 1.5);
  CHECK(derived.mse == 4);
  CHECK(derived.rmse == 2);
  CHECK(derived.nmse == 0.1);
  CHECK(std::fabs(derived.sqnr_db - 10) < 1e-12);
  CHECK(std::fabs(derived.cosine - 150 / std::sqrt(160.0 * 156.0)) < 1e-12);
}

TEST_CASE("ratios of zero tensors are defined") {
  Q4Stats zero;
  zero.count = 8;
  CHECK(Derive(zero).nmse == 0);
  CHECK(Derive(zero).cosine == 1);
  CHECK(std::isinf(Derive(zero).sqnr_db));
  Q4Stats only_decoded = zero;  // x is zero everywhere, y is not
  only_decoded.sum_e2 = 1;
  CHECK(std::isinf(Derive(only_decoded).nmse));
  CHECK(Derive(only_decoded).cosine == 0);
  CHECK(StatsJson(only_decoded)["nmse"].dump() == "null");
  CHECK(StatsJson(zero)["sqnr_db"].dump() == "null");
  CHECK(Derive(Q4Stats()).rmse == 0);
}

TEST_CASE("cosine agrees with the definition on real statistics") {
  const std::vector<float> values = test::NormalValues(10'000, 7);
  std::vector<std::uint8_t> codes(values.size() / 2);
  std::vector<float> scales(BlockCount(values.size(), kStatsBlock)), decoded(values.size());
  ScalarKernels().quantize(FloatType::kF32, CodeBook::kNf4, values.data(), values.size(), kStatsBlock, codes.data(),
                           scales.data());
  ScalarKernels().dequantize(CodeBook::kNf4, codes.data(), scales.data(), values.size(), kStatsBlock, FloatType::kF32,
                             decoded.data());
  double xy = 0, xx = 0, yy = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const double x = static_cast<double>(values[i]), y = static_cast<double>(decoded[i]);
    xy += x * y;
    xx += x * x;
    yy += y * y;
  }
  CHECK(std::fabs(Derive(StatsInSlabs(values, values.size())).cosine - xy / std::sqrt(xx * yy)) < 1e-12);
}

TEST_CASE("model totals name the tensors that hold the maxima") {
  Q4Stats a, b;
  a.count = 10;
  a.sum_e2 = 1;
  a.max_abs_err = 0.25;
  a.max_abs_err_index = 4;
  a.max_gap_ratio = 1;
  a.hist[3] = 10;
  b = a;
  b.max_abs_err = 0.5;
  b.max_abs_err_index = 9;
  b.worst_block_e2 = 0.125;
  ModelStats model;
  AddTensor("a", a, &model);
  AddTensor("b", b, &model);
  CHECK(model.tensors == 2);
  CHECK(model.total.count == 20);
  CHECK(model.total.sum_e2 == 2);
  CHECK(model.total.hist[3] == 20);
  CHECK(model.max_abs_err_tensor == "b");
  CHECK(model.total.max_abs_err_index == 9);
  CHECK(model.max_gap_ratio_tensor == "a");
  CHECK(model.worst_block_tensor == "b");
  CHECK(ModelStatsJson(model)["max_abs_err_tensor"] == "b");
}

TEST_CASE("code entropy is that of the histogram") {
  Q4Stats stats;
  CHECK(CodeEntropyBits(stats) == 0);
  stats.hist[0] = stats.hist[5] = 8;
  CHECK(CodeEntropyBits(stats) == 1);
  stats.hist.fill(3);
  CHECK(CodeEntropyBits(stats) == 4);
}

}  // namespace
}  // namespace q4
