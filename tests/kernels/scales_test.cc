// Nested scales (numerics.md Q5) and the fixed-order sum (Q7.3).
#include <algorithm>
#include <cstdlib>

#include "kernels/nested_search.h"
#include "tests/kernels/kernel_testing.h"
#include "tests/support/catch.h"

namespace q4::testing {
namespace {

// Q5.4 in exact arithmetic: the nearest entry, the lower index in a tie. fp64 holds every midpoint exactly.
std::uint8_t NearestCode(float t) {
  int code = 0;
  while (code < 255 && static_cast<double>(t) > (static_cast<double>(kNestedMap[static_cast<std::size_t>(code)]) +
                                                 static_cast<double>(kNestedMap[static_cast<std::size_t>(code) + 1])) /
                                                    2) {
    ++code;
  }
  return static_cast<std::uint8_t>(code);
}

// Codes of scales that are their own t: offset 0, and a 1 in every group.
std::uint64_t CountDifferences(const std::vector<float>& t, const std::vector<std::uint8_t>& expected) {
  std::vector<float> scales;
  std::vector<std::uint8_t> codes;
  for (std::size_t i = 0; i < t.size(); ++i) {
    if (scales.size() % kScaleGroup == 0) {
      scales.push_back(1.0f);
      codes.push_back(255);
    }
    scales.push_back(t[i]);
    codes.push_back(expected[i]);
  }
  std::uint64_t differences = 0;
  for (const KernelTable* kernels : AllBackends()) {
    std::vector<std::uint8_t> out(scales.size());
    std::vector<float> absmax2(GroupCount(scales.size()));
    kernels->quantize_scales(scales.data(), scales.size(), 0.0f, out.data(), absmax2.data());
    differences += out != codes;
    differences += !std::all_of(absmax2.begin(), absmax2.end(), [](float a) { return a == 1.0f; });
  }
  return differences;
}

}  // namespace

TEST_CASE("the map ascends through zero to one") {
  CHECK(std::is_sorted(kNestedMap.begin(), kNestedMap.end()));
  CHECK(std::is_sorted(kNestedBounds.begin(), kNestedBounds.end()));
  CHECK(BitsOf(kNestedMap[127]) == 0);
  CHECK(kNestedMap[255] == 1.0f);
}

TEST_CASE("scale codes are nearest, ties to the lower index") {
  std::vector<float> t;
  for (const float bound : kNestedBounds) {
    for (int step = -4; step <= 4; ++step) t.push_back(Nudge(bound, step));
  }
  for (const float value : kNestedMap) t.push_back(value);
  t.insert(t.end(), {0.0f, -0.0f, 0x1p-149f, -0x1p-149f, 0x1p-22f, -0x1p-22f, 1.0f, -1.0f});
  std::vector<std::uint8_t> expected;
  for (const float v : t) expected.push_back(NearestCode(v));
  CHECK(CountDifferences(t, expected) == 0);
}

TEST_CASE("the search agrees with a comparison with every bound for every t") {
  // t over the bit patterns of [-1, 1]; Q4_EXHAUSTIVE=1 takes all of them.
  const std::uint32_t stride = std::getenv("Q4_EXHAUSTIVE") != nullptr ? 1 : 4001;
  std::uint64_t differences = 0;
  for (const std::uint32_t sign : {0u, kF32SignBit}) {
    int count = sign == 0 ? CountBelow(kNestedBounds.data(), 255, 0.0f) : CountBelow(kNestedBounds.data(), 255, -0.0f);
    for (std::uint64_t bits = 0; bits <= 0x3F800001; bits += stride) {
      const auto magnitude = static_cast<std::uint32_t>(bits);
      const float t = FloatOf(magnitude | sign);
      // The count moves one way only as |t| grows.
      if (sign == 0) {
        while (count < 255 && t > kNestedBounds[static_cast<std::size_t>(count)]) ++count;
      } else {
        while (count > 0 && !(t > kNestedBounds[static_cast<std::size_t>(count) - 1])) --count;
      }
      differences += kNestedSearch.Count(NestedSearch::Bucket(sign, magnitude), t) != count;
    }
  }
  CHECK(differences == 0);
}

TEST_CASE("a group of equal scales has code 127 and absmax2 0") {
  const std::vector<float> scales(300, 0.125f);
  for (const KernelTable* kernels : AllBackends()) {
    std::vector<std::uint8_t> codes(300);
    std::vector<float> absmax2(2, -1.0f), decoded(300);
    kernels->quantize_scales(scales.data(), 300, 0.125f, codes.data(), absmax2.data());
    CHECK(codes == std::vector<std::uint8_t>(300, 127));
    CHECK(absmax2 == std::vector<float>(2, 0.0f));
    kernels->dequantize_scales(codes.data(), absmax2.data(), 300, 0.125f, decoded.data());
    CHECK(decoded == scales);
  }
}

TEST_CASE("absmax2 has a floor, so that its reciprocal is finite") {
  std::vector<float> scales(256, 0x1p-140f);
  scales[7] = 0x1p-130f;
  for (const KernelTable* kernels : AllBackends()) {
    std::vector<std::uint8_t> codes(256);
    float absmax2 = 0;
    kernels->quantize_scales(scales.data(), 256, 0.0f, codes.data(), &absmax2);
    CHECK(BitsOf(absmax2) == 0x00800000);
    CHECK(codes[7] == NearestCode(0x1p-4f));
  }
}

TEST_CASE("decoding multiplies and then adds") {
  // A fused multiply-add would give another result here.
  const std::uint8_t code = 200;
  const float absmax2 = Nudge(0.1f, 1), offset = -absmax2 * kNestedMap[code];
  for (const KernelTable* kernels : AllBackends()) {
    float decoded = 1;
    kernels->dequantize_scales(&code, &absmax2, 1, offset, &decoded);
    CHECK(BitsOf(decoded) == 0);
  }
}

TEST_CASE("SUM256 is cut at multiples of 256, in slabs as in one piece") {
  Random random(1);
  std::vector<float> values(256 * 5 + 77);
  for (float& v : values) v = std::ldexp(random.Normal(), static_cast<int>(random.Below(40)));
  double expected = 0;
  for (std::size_t g = 0; g < values.size(); g += 256) {
    double group = 0;
    for (std::size_t i = g; i < std::min(g + 256, values.size()); ++i) group += static_cast<double>(values[i]);
    expected += group;
  }
  Sum256 whole, slabs;
  whole.Add(values);
  slabs.Add(std::span(values).first(512));
  slabs.Add(std::span(values).subspan(512, 256));
  slabs.Add(std::span(values).subspan(768));
  CHECK(whole.total() == expected);
  CHECK(slabs.total() == expected);
  CHECK(NestedOffset(expected, values.size()) == static_cast<float>(expected / static_cast<double>(values.size())));
}

}  // namespace q4::testing
