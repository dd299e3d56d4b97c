// All codes times scales of every kind, against exact arithmetic: a code has at most 4 significant bits and a scale 24,
// so that a double holds their product exactly. What libraries make of the same: tests/python/fp8_check.py.
#include "libconvert/source/scaled_f8.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "formats/source/checkpoint_issues.h"
#include "libconvert/source/source_reader.h"
#include "tests/support/catch.h"
#include "tests/support/safetensors_builder.h"
#include "tests/support/temp_dir.h"

namespace q4 {
namespace {

// By the definition of the formats, IEEE's but for E4M3's largest exponent.
double ValueOf(bool is_e4m3, unsigned code) {
  const int mantissa_bits = is_e4m3 ? 3 : 2, bias = is_e4m3 ? 7 : 15;
  const unsigned exponent = (code & 127) >> mantissa_bits, mantissa = code & ((1u << mantissa_bits) - 1);
  const double sign = code >= 128 ? -1 : 1;
  if (is_e4m3 ? (code & 127) == 127 : exponent == 31 && mantissa != 0) return std::nan("");
  if (!is_e4m3 && exponent == 31) return sign * std::numeric_limits<double>::infinity();
  const double fraction = std::ldexp(mantissa, -mantissa_bits);
  return exponent == 0 ? sign * std::ldexp(fraction, 1 - bias)
                       : sign * std::ldexp(1 + fraction, static_cast<int>(exponent) - bias);
}

// The nearest number with `bits` significant bits, ties to even, not below 2^`lowest`, infinite from 2^`highest` on.
double Rounded(double value, int bits, int lowest, int highest) {
  if (value == 0 || !std::isfinite(value)) return value;
  int exponent = 0;
  std::frexp(value, &exponent);
  const int unit = std::max(exponent - bits, lowest);
  const double rounded = std::ldexp(std::nearbyint(std::ldexp(value, -unit)), unit);
  return std::fabs(rounded) >= std::ldexp(1, highest) ? std::copysign(std::numeric_limits<double>::infinity(), value)
                                                      : rounded;
}
double ToF32(double value) { return Rounded(value, 24, -149, 128); }
double ToBF16(double value) { return Rounded(value, 8, -133, 128); }
double ToF16(double value) { return Rounded(value, 11, -24, 16); }

double HalfValue(std::uint16_t bits) {
  const unsigned exponent = (bits >> 10) & 31, mantissa = bits & 1023;
  const double sign = bits >> 15 ? -1 : 1;
  if (exponent == 31) return mantissa != 0 ? std::nan("") : sign * std::numeric_limits<double>::infinity();
  return exponent == 0 ? sign * std::ldexp(mantissa, -24) : sign * std::ldexp(1024 + mantissa, int(exponent) - 25);
}

double ElementOf(DType dtype, const std::uint8_t* bytes) {
  if (dtype == DType::kF32) {
    float value;
    std::memcpy(&value, bytes, 4);
    if (std::isnan(value)) CHECK(std::bit_cast<std::uint32_t>(value) == 0x7FC00000);
    return value;
  }
  std::uint16_t half;
  std::memcpy(&half, bytes, 2);
  if (dtype == DType::kF16) {
    if (std::isnan(HalfValue(half))) CHECK(half == 0x7E00);
    return HalfValue(half);
  }
  const float value = std::bit_cast<float>(std::uint32_t{half} << 16);
  if (std::isnan(value)) CHECK(half == 0x7FC0);
  return value;
}

bool Same(double a, double b) {
  return (std::isnan(a) && std::isnan(b)) || (a == b && std::signbit(a) == std::signbit(b));
}

// A checkpoint of one weight and its scales.
struct Scaled {
  test::TempDir dir;
  std::unique_ptr<Checkpoint> checkpoint;
  const SourceTensor* tensor = nullptr;

  Scaled(const std::string& code, const Shape& shape, const std::string& codes, const std::string& scale_type,
         const Shape& scale_shape, const std::string& scales, const std::string& config) {
    const std::string file = test::SafetensorsBuilder()
                                 .Add("a.weight_scale_inv", scale_type, scale_shape, scales)
                                 .Add("a.weight", code, shape, codes)
                                 .Build();
    dir.Write("model.safetensors", file);
    dir.Write("config.json", config);
    auto opened = OpenCheckpoint(PosixFileSystem(), dir.path());
    INFO(opened.status());
    REQUIRE(opened.ok());
    checkpoint = *std::move(opened);
    tensor = checkpoint->Find("a.weight");
    REQUIRE(tensor != nullptr);
    REQUIRE(tensor->recipe == SourceRecipe::kScaledF8);
  }

  std::vector<std::uint8_t> Read(std::uint64_t first, std::uint64_t count) const {
    std::vector<std::uint8_t> out(count * ItemSize(tensor->dtype));
    REQUIRE(SourceReader(*checkpoint).Read(*tensor, first, out).ok());
    return out;
  }
};

std::string AllCodes(std::size_t rows) {
  std::string codes;
  for (std::size_t i = 0; i < rows * 256; ++i) codes += static_cast<char>(i & 255);
  return codes;
}

TEST_CASE("an element is its code times its scale, rounded once") {
  std::vector<float> scales = {1.0f,
                               -1.0f,
                               0.0f,
                               -0.0f,
                               0.1f,
                               3.0f,
                               1e-45f,
                               1.17549435e-38f,
                               2e-38f,
                               1e-40f,
                               3.4028235e38f,
                               7.6e35f,
                               146.28f,
                               1e-7f,
                               5.9e-8f,
                               0.333333343f,
                               std::numeric_limits<float>::infinity(),
                               std::nanf("")};
  for (int i = 0; i < 40; ++i)
    scales.push_back(std::ldexp(1.0f + static_cast<float>(i * 2654435761u % 8388607) / 8388608, i - 20));
  std::string stored(scales.size() * 4, '\0');
  std::memcpy(stored.data(), scales.data(), stored.size());
  const struct {
    const char* config;
    DType dtype;
    double (*round)(double);
  } kTypes[] = {{"{}", DType::kBF16, ToBF16},
                {R"({"dtype": "float16"})", DType::kF16, ToF16},
                {R"({"torch_dtype": "float32"})", DType::kF32, ToF32}};
  for (const bool is_e4m3 : {true, false}) {
    for (const auto& type : kTypes) {
      const Scaled scaled(is_e4m3 ? "F8_E4M3" : "F8_E5M2", {scales.size(), 256}, AllCodes(scales.size()), "F32",
                          {scales.size(), 1}, stored, type.config);
      REQUIRE(scaled.tensor->dtype == type.dtype);
      const std::vector<std::uint8_t> bytes = scaled.Read(0, scaled.tensor->elems);
      std::size_t differ = 0;
      for (std::size_t i = 0; i < scaled.tensor->elems; ++i) {
        // In fp32 first: what is exact there or not is rounded to the type from that.
        const double expected = type.round(ToF32(ValueOf(is_e4m3, i & 255) * static_cast<double>(scales[i / 256])));
        const double got = ElementOf(type.dtype, bytes.data() + i * ItemSize(type.dtype));
        if (!Same(got, expected) && differ++ == 0) {
          INFO("code " << (i & 255) << " scale " << scales[i / 256]);
          CHECK(got == expected);
        }
      }
      CHECK(differ == 0);
    }
  }
}

TEST_CASE("scales of every type are what their bits say") {
  const std::string codes(4 * 256, '\x38');  // 1.0
  const auto row = [](const Scaled& scaled, std::size_t i) {
    return ElementOf(DType::kF32, scaled.Read(i * 256, 1).data());
  };
  const std::string config = R"({"dtype": "float32"})";
  const Scaled halves("F8_E4M3", {4, 256}, codes, "F16", {4, 1}, std::string("\x00\x3c\x01\x00\xff\x7b\x00\xfc", 8),
                      config);
  CHECK(row(halves, 0) == 1.0);
  CHECK(row(halves, 1) == std::ldexp(1.0, -24));
  CHECK(row(halves, 2) == 65504.0);
  CHECK(row(halves, 3) == -std::numeric_limits<double>::infinity());
  const Scaled brains("F8_E4M3", {4, 256}, codes, "BF16", {4, 1}, std::string("\x80\x3f\x01\x00\x7f\x7f\x00\x00", 8),
                      config);
  CHECK(row(brains, 0) == 1.0);
  CHECK(row(brains, 1) == std::ldexp(1.0, -133));
  CHECK(row(brains, 2) == std::ldexp(255.0, 120));
  CHECK(row(brains, 3) == 0.0);
  for (const char* type : {"F8_E8M0", "U8"}) {
    const Scaled powers("F8_E4M3", {4, 256}, codes, type, {4, 1}, std::string("\x7f\x00\xfe\xff", 4), config);
    CHECK(row(powers, 0) == 1.0);
    CHECK(row(powers, 1) == std::ldexp(1.0, -127));
    CHECK(row(powers, 2) == std::ldexp(1.0, 127));
    const double last = row(powers, 3);
    CHECK((std::string(type) == "U8" ? std::isinf(last) : std::isnan(last)));
  }
}

TEST_CASE("blocks, edges, matrices: any range is that of the whole, and each element has its scale") {
  // Blocks of 3 x 5 over matrices of 7 x 13, two of them: 3 x 3 scales each, the last ones in part. Then one scale for
  // each element, more than are held at once.
  struct {
    Shape shape, scales;
    std::uint64_t rows, columns;  // of a block
  } kGrids[] = {{{2, 7, 13}, {2, 3, 3}, 3, 5}, {{90, 100}, {90, 100}, 1, 1}, {{2, 4, 2000}, {2, 1, 2000}, 4, 1}};
  for (const auto& grid : kGrids) {
    std::uint64_t elems = 0, count = 0;
    REQUIRE(CountElements(grid.shape, &elems));
    REQUIRE(CountElements(grid.scales, &count));
    std::string codes, scales(count * 4, '\0');
    for (std::uint64_t i = 0; i < elems; ++i) codes += static_cast<char>(0x30 + i % 16);
    for (std::uint64_t i = 0; i < count; ++i) {
      const float scale = 1.0f + static_cast<float>(i);
      std::memcpy(&scales[i * 4], &scale, 4);
    }
    const std::string config = R"({"dtype": "float32", "quantization_config": {"quant_method": "fp8",
        "weight_block_size": [)" +
                               std::to_string(grid.rows) + "," + std::to_string(grid.columns) + "]}}";
    const Scaled scaled("F8_E4M3", grid.shape, codes, "F32", grid.scales, scales, config);
    const std::vector<std::uint8_t> whole = scaled.Read(0, elems);
    const std::size_t rank = grid.shape.size();
    const std::uint64_t rows = grid.shape[rank - 2], columns = grid.shape[rank - 1];
    const std::uint64_t grid_rows = grid.scales[rank - 2], grid_columns = grid.scales[rank - 1];
    std::size_t differ = 0;
    for (std::uint64_t i = 0; i < elems; ++i) {
      const std::uint64_t column = i % columns, row = i / columns % rows, matrix = i / columns / rows;
      const std::uint64_t number = (matrix * grid_rows + row / grid.rows) * grid_columns + column / grid.columns;
      const double expected = ValueOf(true, 0x30 + i % 16) * static_cast<double>(1 + number);
      differ += !Same(ElementOf(DType::kF32, whole.data() + i * 4), expected);
    }
    CHECK(differ == 0);
    for (const auto& [first, size] : std::vector<std::pair<std::uint64_t, std::uint64_t>>{
             {0, 1}, {1, elems - 1}, {elems - 1, 1}, {elems / 2, 17}, {12, 3}, {elems / 3, elems / 2}, {elems, 0}}) {
      const std::vector<std::uint8_t> part = scaled.Read(first, size);
      CHECK(std::equal(part.begin(), part.end(), whole.begin() + static_cast<std::ptrdiff_t>(first * 4)));
    }
    std::vector<std::uint8_t> out(8);
    CHECK(IssueNumberOf(SourceReader(*scaled.checkpoint).Read(*scaled.tensor, elems - 1, out)) ==
          kReadOutsideTensor.number);
  }
}

TEST_CASE("a configuration is carried without the section that describes the codes") {
  const std::string config =
      "{\n  \"eps\": 1e-05,\n  \"quantization_config\": {\"quant_method\": \"fp8\"},\n  \"z\": 1\n}";
  Scaled scaled("F8_E4M3", {1, 1}, "8", "F32", {1, 1}, std::string("\0\0\x80\x3f", 4), config);
  CHECK(*scaled.checkpoint->ConfigJson(PosixFileSystem()) == "{\n  \"eps\": 1e-05,\n  \"z\": 1\n}");
  CHECK_FALSE(scaled.checkpoint->foreign());
  REQUIRE(scaled.checkpoint->companions().size() == 1);
  const auto carried = OpenCarried(PosixFileSystem(), scaled.checkpoint->companions()[0]);
  REQUIRE(carried.ok());
  CHECK((*carried)->size() == scaled.checkpoint->companions()[0].size);
  std::vector<std::uint8_t> beyond(2);
  CHECK_FALSE((*carried)->ReadAt((*carried)->size() - 1, beyond).ok());
}

}  // namespace
}  // namespace q4
