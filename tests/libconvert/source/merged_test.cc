// Weights changed by an adapter, read whole and in pieces, against Q15 written down anew in its simplest form.
#include "libconvert/source/merged.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "formats/adapter/adapter_issues.h"
#include "kernels/numeric.h"
#include "libconvert/source/source_reader.h"
#include "tests/support/catch.h"
#include "tests/support/safetensors_builder.h"
#include "tests/support/temp_dir.h"
#include "tests/support/weights.h"

namespace q4 {
namespace {

std::string Text(const std::vector<float>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)};
}

// A weight of bf16 and the tensors of an adapter, in one file.
struct Merge {
  std::uint64_t rows = 1, columns = 1, rank = 1;
  bool transposed = false, dora = false;
  std::vector<float> weight, a, b, magnitude;
  test::TempDir dir;
  std::unique_ptr<Checkpoint> checkpoint;
  SourceTensor tensor;

  Merge(std::uint64_t rows_in, std::uint64_t columns_in, std::uint64_t rank_in, bool transposed_in, bool dora_in)
      : rows(rows_in), columns(columns_in), rank(rank_in), transposed(transposed_in), dora(dora_in) {
    weight = test::NormalValues(rows * columns, 1);
    for (float& value : weight) value = WidenBf16(NarrowBf16(value));
    a = test::NormalValues(rank * (transposed ? rows : columns), 2);
    b = test::NormalValues(rank * (transposed ? columns : rows), 3);
    magnitude = test::NormalValues(transposed ? columns : rows, 4);
  }

  void Open() {
    std::string stored;
    for (const float value : weight) {
      const std::uint16_t half = NarrowBf16(value);
      stored.append(reinterpret_cast<const char*>(&half), 2);
    }
    const std::uint64_t in = transposed ? rows : columns, out = transposed ? columns : rows;
    const std::string path = dir.File("m.safetensors");
    test::WriteBytes(path, test::SafetensorsBuilder()
                               .Add("w", "BF16", {rows, columns}, stored)
                               .Add("a", "F32", {rank, in}, Text(a))
                               .Add("b", "F32", {out, rank}, Text(b))
                               .Add("m", "F32", {out}, Text(magnitude))
                               .Build());
    auto opened = OpenCheckpoint(PosixFileSystem(), path);
    REQUIRE(opened.ok());
    checkpoint = *std::move(opened);
    auto merged = std::make_shared<MergedAdapter>();
    merged->base = std::make_shared<SourceTensor>(*checkpoint->Find("w"));
    merged->a = std::make_shared<SourceTensor>(*checkpoint->Find("a"));
    merged->b = std::make_shared<SourceTensor>(*checkpoint->Find("b"));
    merged->transposed = transposed;
    merged->rows = rows;
    merged->columns = columns;
    merged->rank = rank;
    merged->scale = 0.75f;
    if (dora) {
      merged->magnitude = std::make_shared<SourceTensor>(*checkpoint->Find("m"));
      merged->factors = std::make_shared<MergedFactors>();
    }
    tensor = *merged->base;
    tensor.recipe = SourceRecipe::kMerged;
    tensor.merged = std::move(merged);
  }

  std::vector<std::uint16_t> Expected() const {
    std::vector<float> values(weight);
    for (std::uint64_t i = 0; i < rows; ++i) {
      for (std::uint64_t j = 0; j < columns; ++j) {
        volatile float sum = 0;
        for (std::uint64_t k = 0; k < rank; ++k) {
          const float left = transposed ? a[k * rows + i] : b[i * rank + k];
          const float right = transposed ? b[j * rank + k] : a[k * columns + j];
          volatile float product = left * right;
          sum = sum + product;
        }
        volatile float scaled = 0.75f * sum;
        values[i * columns + j] += scaled;
      }
    }
    if (dora && !transposed) {
      for (std::uint64_t i = 0; i < rows; ++i) {
        std::array<double, 8> lanes{};
        for (std::uint64_t j = 0; j < columns; ++j) {
          lanes[j % 8] += double{values[i * columns + j]} * double{values[i * columns + j]};
        }
        const double square =
            ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) + ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
        const float factor = magnitude[i] / static_cast<float>(std::sqrt(square));
        for (std::uint64_t j = 0; j < columns; ++j) values[i * columns + j] = factor * values[i * columns + j];
      }
    } else if (dora) {
      for (std::uint64_t j = 0; j < columns; ++j) {
        double square = 0;
        for (std::uint64_t i = 0; i < rows; ++i)
          square += double{values[i * columns + j]} * double{values[i * columns + j]};
        const float factor = magnitude[j] / static_cast<float>(std::sqrt(square));
        for (std::uint64_t i = 0; i < rows; ++i) values[i * columns + j] = factor * values[i * columns + j];
      }
    }
    std::vector<std::uint16_t> out;
    for (const float value : values) out.push_back(NarrowBf16(value));
    return out;
  }

  absl::Status Read(std::uint64_t first, std::uint64_t count, std::vector<std::uint16_t>* out) const {
    out->resize(count);
    return SourceReader(*checkpoint).Read(tensor, first, {reinterpret_cast<std::uint8_t*>(out->data()), 2 * count});
  }
};

}  // namespace

TEST_CASE("a merged weight is the same whole and in pieces, for every shape, rank and orientation") {
  struct Shaped {
    std::uint64_t rows, columns, rank;
  };
  // Beyond a tile of columns, beyond a group of rows, of one column, of a rank above both sizes.
  for (const Shaped& shape :
       {Shaped{5, 7, 2}, {3, 1100, 70}, {2200, 3, 1}, {600, 33, 70}, {40, 1, 4}, {1, 40, 4}, {9, 20, 300}}) {
    for (const bool transposed : {false, true}) {
      for (const bool dora : {false, true}) {
        INFO(shape.rows << " x " << shape.columns << " rank " << shape.rank << (transposed ? " transposed" : "")
                        << (dora ? " DoRA" : ""));
        Merge merge(shape.rows, shape.columns, shape.rank, transposed, dora);
        merge.Open();
        const std::vector<std::uint16_t> expected = merge.Expected();
        std::vector<std::uint16_t> all, piece;
        REQUIRE(merge.Read(0, expected.size(), &all).ok());
        CHECK(all == expected);
        const std::uint64_t step = std::max<std::uint64_t>(expected.size() / 5 + 1, 3);
        for (std::uint64_t first = 0; first < expected.size(); first += step) {
          const std::uint64_t count = std::min<std::uint64_t>(step, expected.size() - first);
          REQUIRE(merge.Read(first, count, &piece).ok());
          CHECK(std::equal(piece.begin(), piece.end(), expected.begin() + static_cast<std::ptrdiff_t>(first)));
        }
        REQUIRE(merge.Read(expected.size(), 0, &piece).ok());
        CHECK_FALSE(merge.Read(expected.size(), 1, &piece).ok());
      }
    }
  }
}

TEST_CASE("threads that need the norms of columns find them once, and the same") {
  Merge merge(700, 48, 4, /*transposed=*/true, /*dora=*/true);
  merge.Open();
  const std::vector<std::uint16_t> expected = merge.Expected();
  std::vector<std::vector<std::uint16_t>> read(4);
  std::vector<std::thread> threads;
  for (auto& out : read) threads.emplace_back([&merge, &out, n = expected.size()] { (void)merge.Read(0, n, &out); });
  for (std::thread& thread : threads) thread.join();
  for (const auto& out : read) CHECK(out == expected);
}

TEST_CASE("an adapter's NaN and infinity are named wherever they are read") {
  for (const bool transposed : {false, true}) {
    for (const float bad : {INFINITY, -INFINITY, NAN}) {
      for (int part = 0; part < 3; ++part) {
        Merge merge(6, 9, 2, transposed, /*dora=*/true);
        std::vector<float>& values = part == 0 ? merge.a : part == 1 ? merge.b : merge.magnitude;
        values[values.size() - 1] = bad;
        merge.Open();
        std::vector<std::uint16_t> out;
        const absl::Status status = merge.Read(0, 54, &out);
        CHECK(IssueNumberOf(status) == kAdapterNotFinite.number);
        CHECK(MessageOf(status).find("element " + std::to_string(values.size() - 1)) != std::string::npos);
      }
    }
  }
}

TEST_CASE("what a merge makes infinite or NaN is left to who reads it, with one NaN for all") {
  Merge merge(2, 2, 1, false, false);
  merge.weight = {NAN, INFINITY, 1, 3e38f};
  merge.a = {3e38f, 1};
  merge.b = {1, -3e38f};
  merge.Open();
  std::vector<std::uint16_t> out;
  REQUIRE(merge.Read(0, 4, &out).ok());
  CHECK(out[0] == 0x7FC0);
  CHECK(out[1] == 0x7F80);
  CHECK(out[2] == 0xFF80);
}

TEST_CASE("what replaces a weight is rounded once to its dtype, and what is added to a bias is scaled") {
  test::TempDir dir;
  const std::vector<float> values = {1.00390625f, 1.01171875f, -0.0f, 3e38f, 1e-40f, 65520.0f};
  const std::string path = dir.File("m.safetensors");
  test::WriteBytes(
      path, test::SafetensorsBuilder().Add("v", "F32", {6}, Text(values)).Add("d", "F32", {6}, Text(values)).Build());
  const auto checkpoint = OpenCheckpoint(PosixFileSystem(), path);
  REQUIRE(checkpoint.ok());
  auto merged = std::make_shared<MergedAdapter>();
  merged->base = std::make_shared<SourceTensor>(*(*checkpoint)->Find("v"));
  SourceTensor tensor = *merged->base;
  tensor.recipe = SourceRecipe::kMerged;
  tensor.dtype = DType::kBF16;
  tensor.merged = merged;
  std::vector<std::uint16_t> out(6);
  const std::span<std::uint8_t> bytes(reinterpret_cast<std::uint8_t*>(out.data()), 12);
  REQUIRE(SourceReader(**checkpoint).Read(tensor, 0, bytes).ok());
  for (std::size_t i = 0; i < 6; ++i) CHECK(out[i] == NarrowBf16(values[i]));
  CHECK(StoredPartsOf(tensor).merged);
  CHECK(StoredPartsOf(tensor).names == std::vector<std::string_view>{"v"});

  merged->a = std::make_shared<SourceTensor>(*(*checkpoint)->Find("d"));
  merged->rank = 1;
  merged->columns = 6;
  merged->scale = 0.3f;
  tensor.dtype = DType::kF32;
  std::vector<float> wide(6);
  REQUIRE(SourceReader(**checkpoint).Read(tensor, 0, {reinterpret_cast<std::uint8_t*>(wide.data()), 24}).ok());
  for (std::size_t i = 0; i < 6; ++i) {
    volatile float scaled = 0.3f * values[i];
    CHECK(wide[i] == values[i] + scaled);
  }
  CHECK(StoredPartsOf(tensor).names == std::vector<std::string_view>{"v", "d"});
}

}  // namespace q4
