// The encoder's stated cases (numerics.md Q2 to Q4), and its code search over every scaled value there is.
#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "tests/kernels/kernel_testing.h"
#include "tests/support/catch.h"

namespace q4::testing {
namespace {

Quantized Quantize(const KernelTable& kernels, CodeBook book, const std::vector<float>& x,
                   std::uint32_t block_size = 32) {
  Quantized result{std::vector<std::uint8_t>(PackedBytes(x.size())),
                   std::vector<float>(BlockCount(x.size(), block_size))};
  REQUIRE(kernels.quantize(FloatType::kF32, book, x.data(), x.size(), block_size, result.codes.data(),
                           result.scales.data()) == kAllFinite);
  return result;
}

// Q2.3, written out independently of the kernels: the bounds from the values, the codes in ascending order of value.
struct SearchModel {
  explicit SearchModel(CodeBook book) {
    for (int code = 0; code < 16; ++code) order[code] = static_cast<std::uint8_t>(code);
    const auto values = CodeValues(book);
    // FP4's two zeros: the bound between them is 0, so 0 (code 0) comes before positive t (code 8) in this order.
    std::stable_sort(order, order + 16, [&](std::uint8_t a, std::uint8_t b) { return values[a] < values[b]; });
    for (int k = 0; k < 15; ++k) {
      bounds[k] =
          static_cast<float>((static_cast<double>(values[order[k]]) + static_cast<double>(values[order[k + 1]])) / 2);
    }
  }
  std::uint8_t Code(float t) const {
    int count = 0;
    for (const float bound : bounds) count += t > bound;
    return order[count];
  }
  std::uint8_t order[16];
  float bounds[15];
};

}  // namespace

TEST_CASE("the decision bounds are the rounded midpoints of the values") {
  for (const CodeBook book : kBooks) {
    const SearchModel model(book);
    const auto& bounds = book == CodeBook::kNf4 ? kNf4Bounds : kFp4Bounds;
    const auto& order = book == CodeBook::kNf4 ? kNf4Order : kFp4Order;
    for (std::size_t k = 0; k < 15; ++k) CHECK(BitsOf(model.bounds[k]) == BitsOf(bounds[k]));
    for (std::size_t k = 0; k < 16; ++k) CHECK(model.order[k] == order[k]);
  }
}

TEST_CASE("packing: the first element is the high nibble, an odd count is padded with the code of zero") {
  for (const KernelTable* kernels : AllBackends()) {
    INFO(kernels->name);
    CHECK(Quantize(*kernels, CodeBook::kNf4, {1, -1}).codes == std::vector<std::uint8_t>{0xF0});
    CHECK(Quantize(*kernels, CodeBook::kNf4, {1, -1, 1}).codes == std::vector<std::uint8_t>{0xF0, 0xF7});
    CHECK(Quantize(*kernels, CodeBook::kFp4, {1, -1, 1}).codes == std::vector<std::uint8_t>{0x3B, 0x30});
  }
}

TEST_CASE("zero blocks: scale 0 in full blocks, TINY in the tail block") {
  for (const KernelTable* kernels : AllBackends()) {
    INFO(kernels->name);
    for (const CodeBook book : kBooks) {
      std::vector<float> x(32 + 6, 0.0f);
      for (std::size_t i = 0; i < x.size(); i += 3) x[i] = -0.0f;
      const Quantized q = Quantize(*kernels, book, x);
      CHECK(q.codes == std::vector<std::uint8_t>(19, book == CodeBook::kNf4 ? 0x77 : 0x00));
      CHECK(BitsOf(q.scales[0]) == 0);
      CHECK(BitsOf(q.scales[1]) == 0x006CE3EE);
    }
  }
}

TEST_CASE("a block below TINY is coded against TINY and keeps its own scale") {
  for (const KernelTable* kernels : AllBackends()) {
    INFO(kernels->name);
    const std::vector<float> x(32, 1e-40f);
    const Quantized nf4 = Quantize(*kernels, CodeBook::kNf4, x), fp4 = Quantize(*kernels, CodeBook::kFp4, x);
    CHECK(nf4.codes == std::vector<std::uint8_t>(16, 0x77));
    CHECK(fp4.codes == std::vector<std::uint8_t>(16, 0x11));
    CHECK(BitsOf(nf4.scales[0]) == BitsOf(1e-40f));
    CHECK(BitsOf(fp4.scales[0]) == BitsOf(1e-40f));
  }
}

TEST_CASE("the reciprocal of a huge scale is subnormal and not flushed") {
  std::vector<float> x(32, FloatOf(0x7F7FFFFF));
  x[1] = -x[0];
  x[2] = x[0] / 2;
  for (const KernelTable* kernels : AllBackends()) {
    INFO(kernels->name);
    const Quantized q = Quantize(*kernels, CodeBook::kNf4, x);
    CHECK(q.codes[0] == 0xF0);
    CHECK(q.codes[1] == 0xCF);  // with r = 0 every code would be 7
  }
}

TEST_CASE("full blocks multiply by the reciprocal, the tail block divides") {
  // The smallest example of Q4.8: find an element whose code the two ways disagree on.
  const SearchModel model(CodeBook::kFp4);
  Random random(1);
  int found = 0;
  for (int turn = 0; turn < 2'000'000 && found < 20; ++turn) {
    const float a = FloatOf(0x3F800000 + static_cast<std::uint32_t>(random.Below(1 << 23)));
    const float v = Nudge(model.bounds[9 + random.Below(6)] * a, static_cast<int>(random.Below(3)) - 1);
    const std::uint8_t multiplied = model.Code(v * (1.0f / a)), divided = model.Code(v / a);
    if (multiplied == divided) continue;
    ++found;
    std::vector<float> x(64, 0.0f);
    x[0] = x[32] = a;
    x[1] = x[33] = v;
    x.pop_back();
    for (const KernelTable* kernels : AllBackends()) {
      const Quantized q = Quantize(*kernels, CodeBook::kFp4, x);
      CHECK(UnpackCode(q.codes.data(), 1) == multiplied);
      CHECK(UnpackCode(q.codes.data(), 33) == divided);
    }
  }
  CHECK(found == 20);
}

TEST_CASE("every scaled value gets the code of the bounds below it") {
  // A block whose largest magnitude is 1 leaves its elements as they are, so t runs over the bit patterns of [-1, 1];
  // larger t does not occur but for one ulp. Q4_EXHAUSTIVE=1 takes all 2,130,706,434 of them, otherwise a sample and
  // the bounds' surroundings.
  const bool exhaustive = std::getenv("Q4_EXHAUSTIVE") != nullptr;
  constexpr std::uint32_t kOne = 0x3F800000, kChunk = 1 << 20;
  std::uint64_t values = 0, differences = 0;
  const auto check = [&](const std::vector<float>& t) {
    std::vector<float> x;  // a 1 first in each block
    for (std::size_t i = 0; i < t.size(); ++i) {
      if (x.size() % 4096 == 0) x.push_back(1.0f);
      x.push_back(t[i]);
    }
    x.resize((x.size() + 4095) / 4096 * 4096, 1.0f);
    values += t.size();
    for (const CodeBook book : kBooks) {
      const SearchModel model(book);
      std::vector<std::uint8_t> expected(x.size() / 2);
      for (std::size_t i = 0; i < x.size(); i += 2) {
        expected[i / 2] = static_cast<std::uint8_t>(model.Code(x[i]) << 4 | model.Code(x[i + 1]));
      }
      for (const KernelTable* kernels : AllBackends()) {
        differences += Quantize(*kernels, book, x, 4096).codes != expected;
      }
    }
  };
  std::vector<float> t;
  for (const CodeBook book : kBooks) {
    for (const float bound : SearchModel(book).bounds) {
      for (int step = -40; step <= 40; ++step) t.push_back(Nudge(bound, step));
    }
  }
  check(t);
  const std::uint32_t stride = exhaustive ? 1 : 1009;
  for (std::uint64_t bits = 0; bits <= kOne;) {
    t.clear();
    for (; bits <= kOne && t.size() < kChunk; bits += stride) {
      t.push_back(FloatOf(static_cast<std::uint32_t>(bits)));
      t.push_back(FloatOf(static_cast<std::uint32_t>(bits) | kF32SignBit));
    }
    check(t);
  }
  CHECK(differences == 0);
  std::printf("quantize: %llu scaled values, %llu chunks with differences\n", static_cast<unsigned long long>(values),
              static_cast<unsigned long long>(differences));
}

}  // namespace q4::testing
