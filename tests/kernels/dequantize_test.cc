// The decoder against its definition, written out in fp64 (numerics.md Q6.1): the product of two floats is exact there,
// so one rounding to fp32 is the fp32 product.
#include "tests/kernels/kernel_testing.h"
#include "tests/support/catch.h"

namespace q4::testing {
namespace {

// All 16 codes, high and low nibble alike.
std::vector<std::uint8_t> AllCodes() {
  std::vector<std::uint8_t> codes;
  for (unsigned c = 0; c < 16; ++c) codes.push_back(static_cast<std::uint8_t>(c << 4 | (15 - c)));
  return codes;
}

}  // namespace

TEST_CASE("decoded elements are the rounded products, signs of zero included") {
  const std::vector<std::uint8_t> codes = AllCodes();
  Random random(1);
  for (int turn = 0; turn < 2000; ++turn) {
    const float scale = turn == 0 ? 0.0f : turn == 1 ? -0.0f : turn == 2 ? -0.75f : random.FinitePattern();
    for (const CodeBook book : kBooks) {
      for (const KernelTable* kernels : AllBackends()) {
        float out[32];
        kernels->dequantize(book, codes.data(), &scale, 32, 32, FloatType::kF32, out);
        std::uint16_t half[32], brain[32];
        kernels->dequantize(book, codes.data(), &scale, 32, 32, FloatType::kF16, half);
        kernels->dequantize(book, codes.data(), &scale, 32, 32, FloatType::kBF16, brain);
        int differing = 0;
        for (std::uint64_t i = 0; i < 32; ++i) {
          const float value = CodeValues(book)[UnpackCode(codes.data(), i)];
          const float expected = static_cast<float>(static_cast<double>(value) * static_cast<double>(scale));
          differing += BitsOf(out[i]) != BitsOf(expected);
          differing += half[i] != NarrowF16(expected);
          differing += brain[i] != NarrowBf16(expected);
        }
        INFO(kernels->name << " " << NameOf(book) << " scale " << scale);
        CHECK(differing == 0);
      }
    }
  }
}

TEST_CASE("FP4 code 8 decodes as -0") {
  const std::uint8_t code = 0x80;
  const float scale = 2.0f;
  float out;
  for (const KernelTable* kernels : AllBackends()) {
    kernels->dequantize(CodeBook::kFp4, &code, &scale, 1, 32, FloatType::kF32, &out);
    CHECK(BitsOf(out) == kF32SignBit);
  }
}

TEST_CASE("infinite and NaN scales decode to infinities and one NaN") {
  const std::vector<std::uint8_t> codes = AllCodes();
  for (const std::uint32_t bits : {kF32Infinity, kF32Infinity | kF32SignBit, 0x7F800001u, 0xFFC12345u}) {
    const float scale = FloatOf(bits);
    for (const KernelTable* kernels : AllBackends()) {
      std::uint32_t out[32];
      kernels->dequantize(CodeBook::kFp4, codes.data(), &scale, 32, 32, FloatType::kF32, out);
      for (std::uint64_t i = 0; i < 32; ++i) {
        const bool is_zero = UnpackCode(codes.data(), i) % 8 == 0;
        if (IsNan(scale) || is_zero) {
          CHECK(out[i] == 0x7FC00000);
        } else {
          CHECK((out[i] & ~kF32SignBit) == kF32Infinity);
        }
      }
    }
  }
}

}  // namespace q4::testing
