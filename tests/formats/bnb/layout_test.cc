#include "formats/bnb/layout.h"

#include <bit>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tests/support/catch.h"

namespace q4 {
namespace {

Q4Tensor Weight(std::uint64_t rows, std::uint64_t columns) {
  Q4Tensor tensor;
  tensor.name = "model.layers.0.mlp.up_proj.weight";
  tensor.dtype = DType::kBF16;
  tensor.shape = {rows, columns};
  tensor.elems = rows * columns;
  tensor.scheme = Q4Scheme::kNf4;
  tensor.encoder = Q4Encoder::kAbsmax;
  tensor.block_size = 64;
  return tensor;
}

// Expected texts are Python's: json.dumps(float(numpy.float32)).
TEST_CASE("the offset is printed as Python prints it, widened to fp64") {
  struct Case {
    std::uint32_t bits;
    std::string_view text;
  };
  const std::vector<Case> cases = {
      {0x00000000, "0.0"},
      {0x80000000, "-0.0"},
      {0x3F800000, "1.0"},
      {0xBF800000, "-1.0"},
      {0x3DCCCCCD, "0.10000000149011612"},
      {0x3EAAAAAB, "0.3333333432674408"},
      {0x38D1B717, "9.999999747378752e-05"},
      {0x38D1B70A, "9.999990288633853e-05"},
      {0x3851B717, "4.999999873689376e-05"},
      {0x3727C5AC, "9.999999747378752e-06"},
      {0x34210FB0, "1.500000053056283e-07"},
      {0x006CE3EE, "9.999999350456404e-39"},
      {0x00000001, "1.401298464324817e-45"},
      {0x00800000, "1.1754943508222875e-38"},
      {0x7F7FFFFF, "3.4028234663852886e+38"},
      {0x5A0E1BCA, "1.0000000272564224e+16"},
      {0x5A0E1BC9, "9999999198822400.0"},
      {0x58635FA9, "999999986991104.0"},
      {0x47F12065, "123456.7890625"},
      {0x4B800000, "16777216.0"},
      {0x40200000, "2.5"},
      {0xBD4CCCCD, "-0.05000000074505806"},
      {0x64078678, "9.999999778196308e+21"},
      {0x501502F9, "10000000000.0"},
      {0x477FE000, "65504.0"},
      {0x3D527D64, "0.05138911306858063"},
      {0x9F767C45, "-5.2195319603120523e-20"},
      {0x4164D839, "14.302788734436035"},
      {0xBDE5C099, "-0.11218375712633133"},
      {0x5BC8FBBC, "1.1314356042910925e+17"},
      {0xCB91CE37, "-19111022.0"},
      {0xB0C11FDE, "-1.4051655394808904e-09"},
      {0xF1446BEA, "-9.726323523430302e+29"},
      {0xD76D4330, "-260872823898112.0"},
      {0xBD69FE29, "-0.057127151638269424"},
      {0xA6EB8C9E, "-1.6344515039226062e-15"},
      {0xEC1D7DA0, "-7.615784038756291e+26"},
      {0x87B0B125, "-2.658565293320621e-34"},
      {0x076CE2EF, "1.7821356464186062e-34"},
      {0xD7210DFF, "-177081484836864.0"},
      {0x77330BDB, "3.631490606058457e+33"},
      {0xC6A53877, "-21148.232421875"},
      {0xF17FD374, "-1.2667889383502991e+30"},
      {0x3FC1EA36, "1.5149600505828857"},
      {0xA6233255, "-5.662019793887748e-16"},
      {0x0D464138, "6.109196485291295e-31"},
      {0xE6A16A3B, "-3.8113030500593716e+23"},
      {0x2827688D, "9.293033092453318e-15"},
      {0x1CFB10F6, "1.6614170999649397e-21"},
      {0x5F2DD97F, "1.2527183476484473e+19"},
  };
  Q4Tensor weight = Weight(344, 128);
  weight.nested = true;
  for (const Case& c : cases) {
    weight.nested_offset = std::bit_cast<float>(c.bits);
    const std::string json = BnbQuantStateJson(weight);
    CHECK(json.ends_with("\"nested_offset\": " + std::string(c.text) + "}"));
  }
}

TEST_CASE("quant_state of a plain weight") {
  CHECK(BnbQuantStateJson(Weight(344, 128)) ==
        R"({"quant_type": "nf4", "blocksize": 64, "dtype": "bfloat16", "shape": [344, 128]})");
}

TEST_CASE("quant_state of a nested weight") {
  Q4Tensor weight = Weight(344, 128);
  weight.scheme = Q4Scheme::kFp4;
  weight.dtype = DType::kF32;
  weight.nested = true;
  weight.nested_offset = std::bit_cast<float>(0x3D527D64u);
  CHECK(BnbQuantStateJson(weight) ==
        R"({"quant_type": "fp4", "blocksize": 64, "dtype": "float32", "shape": [344, 128], )"
        R"("nested_blocksize": 256, "nested_dtype": "float32", "nested_offset": 0.05138911306858063})");
}

TEST_CASE("quant_state keeps every dimension of an expert tensor") {
  Q4Tensor experts = Weight(1, 1);
  experts.shape = {8, 96, 64};
  experts.elems = 8 * 96 * 64;
  experts.dtype = DType::kF16;
  CHECK(BnbQuantStateJson(experts) ==
        R"({"quant_type": "nf4", "blocksize": 64, "dtype": "float16", "shape": [8, 96, 64]})");
}

TEST_CASE("a plain weight becomes four tensors") {
  const Q4Tensor weight = Weight(344, 128);
  const std::vector<BnbTensor> tensors = BnbTensorsOf(weight, DType::kU8);
  REQUIRE(tensors.size() == 4);
  CHECK(tensors[0].key == weight.name);
  CHECK(tensors[0].dtype == DType::kU8);
  CHECK(tensors[0].shape == Shape{22016, 1});
  CHECK(tensors[0].bytes == 22016);
  CHECK(tensors[1].key == weight.name + ".absmax");
  CHECK(tensors[1].dtype == DType::kF32);
  CHECK(tensors[1].shape == Shape{688});
  CHECK(tensors[1].bytes == 2752);
  CHECK(tensors[2].key == weight.name + ".quant_map");
  CHECK(tensors[2].shape == Shape{16});
  CHECK(tensors[3].key == weight.name + ".quant_state.bitsandbytes__nf4");
  CHECK(tensors[3].shape == Shape{BnbQuantStateJson(weight).size()});
}

TEST_CASE("a nested weight becomes six tensors, with 8-bit absmax") {
  Q4Tensor weight = Weight(344, 128);
  weight.nested = true;
  const std::vector<BnbTensor> tensors = BnbTensorsOf(weight, DType::kU8);
  REQUIRE(tensors.size() == 6);
  CHECK(tensors[1].dtype == DType::kU8);
  CHECK(tensors[1].bytes == 688);
  CHECK(tensors[3].key == weight.name + ".nested_absmax");
  CHECK(tensors[3].shape == Shape{3});
  CHECK(tensors[4].key == weight.name + ".nested_quant_map");
  CHECK(tensors[4].shape == Shape{256});
}

TEST_CASE("packed codes pose as the storage dtype, with the same bytes") {
  const Q4Tensor weight = Weight(344, 128);
  for (const DType storage : {DType::kBF16, DType::kF16, DType::kF32}) {
    const std::vector<BnbTensor> tensors = BnbTensorsOf(weight, storage);
    CHECK(tensors[0].dtype == storage);
    CHECK(tensors[0].shape == Shape{22016 / ItemSize(storage), 1});
    CHECK(tensors[0].bytes == 22016);
    CHECK(tensors[1].dtype == DType::kF32);
  }
}

TEST_CASE("torch's names of the dtypes that a weight or its storage may have") {
  CHECK(TorchDTypeName(DType::kF32) == "float32");
  CHECK(TorchDTypeName(DType::kF16) == "float16");
  CHECK(TorchDTypeName(DType::kBF16) == "bfloat16");
  CHECK(TorchDTypeName(DType::kU8) == "uint8");
  CHECK(TorchDTypeName(DType::kI64).empty());
}

TEST_CASE("the library's names of the schemes that it reads, and none for others") {
  CHECK(BnbQuantTypeName(Q4Scheme::kNf4) == "nf4");
  CHECK(BnbQuantTypeName(Q4Scheme::kFp4) == "fp4");
  CHECK(BnbQuantTypeName(Q4Scheme::kRaw).empty());
  CHECK(BnbQuantTypeName(static_cast<Q4Scheme>(255)).empty());
  CHECK(SchemeOfBnbType("nf4") == Q4Scheme::kNf4);
  CHECK(SchemeOfBnbType("fp4") == Q4Scheme::kFp4);
  CHECK_FALSE(SchemeOfBnbType("raw"));
  CHECK_FALSE(SchemeOfBnbType(""));
}

TEST_CASE("codes that are no whole number of storage items do not fit") {
  CHECK(BnbStorageFits(5, DType::kU8));
  CHECK_FALSE(BnbStorageFits(5, DType::kBF16));
  CHECK(BnbStorageFits(7, DType::kBF16));
  CHECK(BnbStorageFits(8, DType::kF32));
  CHECK_FALSE(BnbStorageFits(9, DType::kF32));
}

}  // namespace
}  // namespace q4
