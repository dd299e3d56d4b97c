// Recorded outputs of bitsandbytes, and of independent evaluations of the nested scales and of the encoders that
// search, against every backend. testdata/README.md says where they come from; numerics.md Q12.1 to Q12.3 say what must
// agree.
#include <algorithm>
#include <cstdio>
#include <functional>
#include <string>

#include "kernels/feedback.h"
#include "tests/kernels/golden_file.h"
#include "tests/kernels/kernel_testing.h"
#include "tests/support/catch.h"

namespace q4::testing {
namespace {

Quantized Quantize(const KernelTable& kernels, FloatType type, CodeBook book, std::uint32_t block_size,
                   const std::vector<std::uint8_t>& x) {
  const std::uint64_t n = x.size() / FloatSize(type);
  Quantized result{std::vector<std::uint8_t>(PackedBytes(n)), std::vector<float>(BlockCount(n, block_size))};
  REQUIRE(kernels.quantize(type, book, x.data(), n, block_size, result.codes.data(), result.scales.data()) ==
          kAllFinite);
  return result;
}

// Elements of `expected` that the decoded ones do not equal in value: -0 equals 0 (Q2.2).
std::uint64_t DecodeDifferences(const KernelTable& kernels, FloatType type, CodeBook book, std::uint32_t block_size,
                                const std::vector<std::uint8_t>& codes, const std::vector<float>& scales,
                                const std::vector<std::uint8_t>& expected) {
  const std::uint64_t n = expected.size() / FloatSize(type);
  std::vector<std::uint8_t> out(expected.size());
  kernels.dequantize(book, codes.data(), scales.data(), n, block_size, type, out.data());
  std::uint64_t differences = 0;
  for (std::uint64_t i = 0; i < n; ++i)
    differences += LoadElement(type, out.data(), i) != LoadElement(type, expected.data(), i);
  return differences;
}

bool SameFloats(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

std::vector<float> DecodedScales(const KernelTable& kernels, const std::vector<std::uint8_t>& codes,
                                 const std::vector<float>& absmax2, float offset) {
  std::vector<float> scales(codes.size());
  kernels.dequantize_scales(codes.data(), absmax2.data(), codes.size(), offset, scales.data());
  return scales;
}

float OffsetOf(const std::vector<float>& scales) {
  Sum256 sum;
  sum.Add(scales);
  return NestedOffset(sum.total(), scales.size());
}

}  // namespace

TEST_CASE("bitsandbytes on CPU: codes and scales by bytes, decoded elements by value") {
  int configurations = 0;
  for (const FloatType type : kTypes) {
    const GoldenFile file(std::string("cpu_") + NameOf(type) + ".safetensors");
    for (const std::string& name : file.Names()) {
      const std::string suffix = ".codes";
      if (!name.ends_with(suffix)) continue;
      const std::string key = name.substr(0, name.size() - suffix.size());  // <input>.<book>.b<block size>
      const std::string input = key.substr(0, key.find('.'));
      const CodeBook book = key.find(".nf4.") != std::string::npos ? CodeBook::kNf4 : CodeBook::kFp4;
      const auto block_size = static_cast<std::uint32_t>(std::stoul(key.substr(key.rfind(".b") + 2)));
      const auto x = file.Bytes(input + ".input");
      const auto codes = file.Bytes(key + ".codes");
      const auto scales = file.Floats(key + ".absmax");
      for (const KernelTable* kernels : AllBackends()) {
        INFO(kernels->name << " " << NameOf(type) << " " << key);
        const Quantized ours = Quantize(*kernels, type, book, block_size, x);
        CHECK(ours.codes == codes);
        CHECK(SameFloats(ours.scales, scales));
        CHECK(DecodeDifferences(*kernels, type, book, block_size, codes, scales, file.Bytes(key + ".dequant")) == 0);
        if (file.Has(key + ".nested.absmax_codes")) {
          const auto decoded =
              DecodedScales(*kernels, file.Bytes(key + ".nested.absmax_codes"), file.Floats(key + ".nested.absmax2"),
                            file.Floats(key + ".nested.offset")[0]);
          CHECK(SameFloats(decoded, file.Floats(key + ".nested.absmax_decoded")));
          CHECK(DecodeDifferences(*kernels, type, book, block_size, codes, decoded,
                                  file.Bytes(key + ".nested.dequant")) == 0);
        }
        ++configurations;
      }
    }
  }
  // 3 types x 2 code books x (2 inputs x 8 block sizes + 10 short inputs)
  CHECK(configurations == 156 * static_cast<int>(AllBackends().size()));
  std::printf("golden: %d configurations of cpu_*.safetensors, 0 differences unless reported\n", configurations);
}

TEST_CASE("nested scales: every part by bytes") {
  const GoldenFile file("q4_nested.safetensors");
  int configurations = 0;
  for (const std::string& name : file.Names()) {
    const std::string suffix = ".absmax";
    if (!name.ends_with(suffix)) continue;
    const std::string key = name.substr(0, name.size() - suffix.size());
    const auto scales = file.Floats(name);
    const float offset = OffsetOf(scales);
    CHECK(BitsOf(offset) == BitsOf(file.Floats(key + ".offset")[0]));
    for (const KernelTable* kernels : AllBackends()) {
      INFO(kernels->name << " " << key);
      std::vector<std::uint8_t> codes(scales.size());
      std::vector<float> absmax2(GroupCount(scales.size()));
      kernels->quantize_scales(scales.data(), scales.size(), offset, codes.data(), absmax2.data());
      CHECK(codes == file.Bytes(key + ".absmax_codes"));
      CHECK(SameFloats(absmax2, file.Floats(key + ".absmax2")));
      CHECK(SameFloats(DecodedScales(*kernels, codes, absmax2, offset), file.Floats(key + ".absmax_decoded")));
      ++configurations;
    }
  }
  CHECK(configurations == 48 * static_cast<int>(AllBackends().size()));
}

// What errors count in a matrix of rows as long as `moments` (Q16.1).
std::vector<float> ElementWeights(const std::vector<float>& moments, std::uint64_t n) {
  Sum256 sum;
  sum.Add(moments);
  const double mean = sum.total() / static_cast<double>(moments.size());
  std::vector<float> weights(n);
  for (std::uint64_t i = 0; i < n; ++i) {
    weights[i] = std::max(static_cast<float>(double{moments[i % moments.size()]} / mean), 0x1p-20f);
  }
  return weights;
}

TEST_CASE("the encoders mse and weighted: scales, codes, nested choice and floors by bytes") {
  const std::string name_of_file = GENERATE("q4_mse.safetensors", "q4_weighted.safetensors");
  const GoldenFile file(name_of_file);
  const bool is_weighted = name_of_file != "q4_mse.safetensors";
  const auto same = [](const std::vector<double>& a, const std::vector<std::uint8_t>& b) {
    return a.size() * sizeof(double) == b.size() && std::memcmp(a.data(), b.data(), b.size()) == 0;
  };
  int configurations = 0;
  for (const std::string& name : file.Names()) {
    const std::string suffix = ".nested.codes";
    if (!name.ends_with(suffix)) continue;
    const std::string key = name.substr(0, name.size() - suffix.size());  // <type>.<book>.b<block size>.e<effort>
    const FloatType type = key.starts_with("f32")   ? FloatType::kF32
                           : key.starts_with("f16") ? FloatType::kF16
                                                    : FloatType::kBF16;
    const CodeBook book = key.find(".nf4.") != std::string::npos ? CodeBook::kNf4 : CodeBook::kFp4;
    const auto block_size = static_cast<std::uint32_t>(std::stoul(key.substr(key.find(".b", 4) + 2)));
    const int effort = key.back() - '0';
    const auto x = file.Bytes(std::string(NameOf(type)) + ".input");
    const std::uint64_t n = x.size() / FloatSize(type), blocks = BlockCount(n, block_size);
    std::vector<float> element_weights;
    if (is_weighted) element_weights = ElementWeights(file.Floats("moments"), n);
    const float* const weights = is_weighted ? element_weights.data() : nullptr;
    for (const KernelTable* kernels : AllBackends()) {
      INFO(kernels->name << " " << key);
      std::vector<float> scales(blocks), decoded(blocks), absmax(blocks);
      std::vector<double> floors(blocks), errors(blocks);
      std::vector<std::uint8_t> codes(PackedBytes(n));
      REQUIRE(kernels->search_scales(type, book, x.data(), weights, n, block_size, effort, scales.data(),
                                     floors.data()) == kAllFinite);
      CHECK(SameFloats(scales, file.Floats(key + ".scales")));
      CHECK(same(floors, file.Bytes(key + ".nested.floors")));
      kernels->codes_under(type, book, x.data(), n, block_size, scales.data(), codes.data());
      CHECK(codes == file.Bytes(key + ".codes"));
      // The nested form: group scales, and codes and errors under what is stored.
      std::vector<std::uint8_t> own(blocks);
      std::vector<float> absmax2(GroupCount(blocks));
      kernels->quantize_scales(scales.data(), blocks, 0, own.data(), absmax2.data());
      CHECK(SameFloats(absmax2, file.Floats(key + ".nested.absmax2")));
      const auto stored = file.Bytes(key + ".nested.scale_codes");
      kernels->dequantize_scales(stored.data(), absmax2.data(), blocks, 0, decoded.data());
      kernels->codes_under(type, book, x.data(), n, block_size, decoded.data(), codes.data());
      CHECK(codes == file.Bytes(key + ".nested.codes"));
      kernels->block_errors(type, book, x.data(), weights, n, block_size, decoded.data(), errors.data());
      CHECK(same(errors, file.Bytes(key + ".nested.errors")));
      // Each block has its own scale's code or that of absmax.
      std::vector<std::uint8_t> rival(blocks);
      kernels->absmax(type, x.data(), n, block_size, absmax.data());
      CodesUnderGroups(absmax.data(), blocks, absmax2.data(), rival.data());
      for (std::uint64_t k = 0; k < blocks; ++k) CHECK((stored[k] == own[k] || stored[k] == rival[k]));
      ++configurations;
    }
  }
  CHECK(configurations == 36 * static_cast<int>(AllBackends().size()));
}

// One after the other.
void Alone(std::uint64_t count, const std::function<void(std::uint64_t)>& work) {
  for (std::uint64_t i = 0; i < count; ++i) work(i);
}

// Panels of coefficients (kernels/feedback.h) as the square that the file has; `triangle`: rows before a panel's end.
std::vector<float> Unpanelled(const FeedbackFactor& factor, bool triangle) {
  const std::uint64_t n = factor.columns;
  std::vector<float> square(n * n);
  for (std::uint64_t k = 0; k < n; ++k) {
    const std::uint64_t panel = k / kFeedbackPanel;
    const float* const from = triangle ? factor.FactorPanel(panel) : factor.CouplingsPanel(panel);
    const std::uint64_t rows = triangle ? std::min((panel + 1) * kFeedbackPanel, n) : n;
    for (std::uint64_t j = 0; j < rows; ++j) square[j * n + k] = from[j * kFeedbackPanel + k % kFeedbackPanel];
  }
  return square;
}

TEST_CASE("the encoder feedback: order, factor, couplings and codes by bytes") {
  const GoldenFile file("q4_feedback.safetensors");
  int configurations = 0;
  for (const std::string& name : file.Names()) {
    const std::string suffix = ".input";
    if (!name.ends_with(suffix)) continue;
    const std::string key = name.substr(0, name.size() - suffix.size());  // <case>.<type>.<book>.b<block size>.<form>
    const FloatType type = key.find(".f32.") != std::string::npos   ? FloatType::kF32
                           : key.find(".f16.") != std::string::npos ? FloatType::kF16
                                                                    : FloatType::kBF16;
    const CodeBook book = key.find(".nf4.") != std::string::npos ? CodeBook::kNf4 : CodeBook::kFp4;
    const auto block_size = static_cast<std::uint32_t>(std::stoul(key.substr(key.find("4.b") + 3)));
    const auto x = file.Bytes(name);
    const auto scales = file.Floats(key + ".scales");
    const auto order = test::ValuesOf<std::uint32_t>(file.Bytes(key + ".order"));
    const std::uint64_t n = order.size(), elems = x.size() / FloatSize(type);
    const bool raised = key.starts_with("raised");
    for (const KernelTable* kernels : AllBackends()) {
      INFO(kernels->name << " " << key);
      std::vector<float> hessian = file.Floats(key + ".hessian");
      FeedbackFactor factor;
      REQUIRE(MakeFeedbackFactor(*kernels, n, hessian, Alone, &factor));
      CHECK(factor.order == order);
      CHECK(factor.damping == test::ValuesOf<double>(file.Bytes(key + ".damping"))[0]);
      CHECK((factor.raises != 0) == raised);
      CHECK(factor.pivots == test::ValuesOf<double>(file.Bytes(key + ".pivots")));
      CHECK(SameFloats(Unpanelled(factor, true), file.Floats(key + ".factor")));
      CHECK(SameFloats(Unpanelled(factor, false), file.Floats(key + ".couplings")));

      std::vector<std::uint8_t> codes(PackedBytes(elems));
      kernels->codes_under(type, book, x.data(), elems, block_size, scales.data(), codes.data());
      CHECK(codes == file.Bytes(key + ".nearest"));
      const FeedbackMatrix matrix{type,     book,          block_size,  elems / n, n, 0, key.ends_with(".transposed"),
                                  x.data(), scales.data(), codes.data()};
      FeedbackTile tile(n);
      std::uint64_t kept = 0;
      for (std::uint64_t t = 0; t * kFeedbackRows < matrix.rows; ++t) {
        kept += tile.ChooseCodes(*kernels, factor, 2, t, matrix);
      }
      CHECK(codes == file.Bytes(key + ".codes"));
      CHECK(kept == test::ValuesOf<std::uint32_t>(file.Bytes(key + ".kept"))[0]);
      ++configurations;
    }
  }
  CHECK(configurations == 7 * static_cast<int>(AllBackends().size()));
}

TEST_CASE("bitsandbytes on CUDA: equal but for the recorded FP4 differences") {
  // FP4 nibbles that differ, and those of them that change the decoded value; at block sizes 64 and 128.
  struct Expected {
    FloatType type;
    CodeBook book;
    int differing[2], changing_value[2];
  };
  const Expected table[] = {
      {FloatType::kF32, CodeBook::kNf4, {0, 0}, {0, 0}},      {FloatType::kF16, CodeBook::kNf4, {0, 0}, {0, 0}},
      {FloatType::kBF16, CodeBook::kNf4, {0, 0}, {0, 0}},     {FloatType::kF32, CodeBook::kFp4, {856, 1391}, {0, 0}},
      {FloatType::kF16, CodeBook::kFp4, {964, 1487}, {7, 4}}, {FloatType::kBF16, CodeBook::kFp4, {933, 1481}, {41, 31}},
  };
  const GoldenFile file("cuda_nf4_fp4.safetensors");
  for (const Expected& expected : table) {
    const auto x = file.Bytes(std::string(NameOf(expected.type)) + ".input");
    for (const int which : {0, 1}) {
      const std::uint32_t block_size = which == 0 ? 64 : 128;
      const std::string key =
          std::string(NameOf(expected.type)) + "." + NameOf(expected.book) + ".b" + std::to_string(block_size);
      const auto codes = file.Bytes(key + ".codes");
      const auto scales = file.Floats(key + ".absmax");
      for (const KernelTable* kernels : AllBackends()) {
        INFO(kernels->name << " " << key);
        const Quantized ours = Quantize(*kernels, expected.type, expected.book, block_size, x);
        CHECK(SameFloats(ours.scales, scales));
        int differing = 0, changing_value = 0;
        for (std::uint64_t i = 0; i < 2 * codes.size(); ++i) {
          const std::uint8_t a = UnpackCode(codes.data(), i), b = UnpackCode(ours.codes.data(), i);
          differing += a != b;
          changing_value += CodeValue(expected.book, a) != CodeValue(expected.book, b);
        }
        CHECK(differing == expected.differing[which]);
        CHECK(changing_value == expected.changing_value[which]);
        CHECK(DecodeDifferences(*kernels, expected.type, expected.book, block_size, codes, scales,
                                file.Bytes(key + ".dequant")) == 0);

        const float offset = OffsetOf(scales);
        CHECK(BitsOf(offset) == BitsOf(file.Floats(key + ".nested.offset")[0]));
        std::vector<std::uint8_t> scale_codes(scales.size());
        std::vector<float> absmax2(GroupCount(scales.size()));
        kernels->quantize_scales(scales.data(), scales.size(), offset, scale_codes.data(), absmax2.data());
        CHECK(scale_codes == file.Bytes(key + ".nested.absmax_codes"));
        CHECK(SameFloats(absmax2, file.Floats(key + ".nested.absmax2")));
        CHECK(DecodeDifferences(*kernels, expected.type, expected.book, block_size, codes,
                                DecodedScales(*kernels, scale_codes, absmax2, offset),
                                file.Bytes(key + ".nested.dequant")) == 0);
      }
    }
  }
}

}  // namespace q4::testing
