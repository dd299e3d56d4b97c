// 4-bit codes times scales against arithmetic in doubles, which hold every product exactly, and ranges of every kind
// against the whole. What libraries make of the same: tests/python/fp4_check.py.
#include "libconvert/source/packed_f4.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "formats/source/checkpoint_issues.h"
#include "libconvert/source/source_reader.h"
#include "tests/support/catch.h"
#include "tests/support/safetensors_builder.h"
#include "tests/support/temp_dir.h"

namespace q4 {
namespace {

constexpr double kValues[] = {0, 0.5, 1, 1.5, 2, 3, 4, 6};

double ValueOfCode(unsigned code) { return code < 8 ? kValues[code] : -kValues[code - 8]; }

std::string RandomBytes(std::size_t count, unsigned low, unsigned high, unsigned seed) {
  std::mt19937 random(seed);
  std::string bytes;
  for (std::size_t i = 0; i < count; ++i) bytes += static_cast<char>(low + random() % (high - low + 1));
  return bytes;
}

std::string FloatBytes(const std::vector<float>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)};
}

// A checkpoint of one weight and its scales.
struct Packed {
  struct Part {
    std::string name, dtype;
    Shape shape;
    std::string bytes;
  };
  test::TempDir dir;
  std::unique_ptr<Checkpoint> checkpoint;
  const SourceTensor* tensor = nullptr;

  Packed(const std::vector<Part>& parts, const std::string& config = R"({"dtype": "float32"})") {
    test::SafetensorsBuilder builder;
    for (const Part& part : parts) builder.Add(part.name, part.dtype, part.shape, part.bytes);
    dir.Write("model.safetensors", builder.Build());
    dir.Write("config.json", config);
    auto opened = OpenCheckpoint(PosixFileSystem(), dir.path());
    INFO(opened.status());
    REQUIRE(opened.ok());
    checkpoint = *std::move(opened);
    REQUIRE(checkpoint->tensors().size() == 1);
    tensor = &checkpoint->tensors()[0];
    REQUIRE(tensor->recipe == SourceRecipe::kPackedF4);
  }

  std::vector<float> Read(std::uint64_t first, std::uint64_t count) const {
    std::vector<float> out(count);
    REQUIRE(SourceReader(*checkpoint)
                .Read(*tensor, first, {reinterpret_cast<std::uint8_t*>(out.data()), count * sizeof(float)})
                .ok());
    return out;
  }

  // Ranges that begin and end anywhere are pieces of the whole.
  void CheckRanges(unsigned tries) const {
    const std::vector<float> whole = Read(0, tensor->elems);
    std::mt19937_64 random(11);
    for (unsigned i = 0; i < tries; ++i) {
      const std::uint64_t first = random() % tensor->elems;
      const std::uint64_t count = random() % (tensor->elems - first + 1);
      const std::vector<float> range = Read(first, count);
      CHECK(std::memcmp(range.data(), whole.data() + first, count * sizeof(float)) == 0);
    }
    std::vector<std::uint8_t> beyond(8);
    const absl::Status status = SourceReader(*checkpoint).Read(*tensor, tensor->elems - 1, beyond);
    CHECK(IssueNumberOf(status) == kReadOutsideTensor.number);
  }
};

unsigned CodeAt(const std::string& bytes, std::size_t byte, std::size_t index) {
  return (static_cast<unsigned char>(bytes[byte]) >> (index % 2 == 0 ? 0u : 4u)) & 15u;
}
double PowerAt(const std::string& bytes, std::size_t at) {
  return std::ldexp(1.0, static_cast<unsigned char>(bytes[at]) - 127);
}

TEST_CASE("an element is its code times its scales, by the order of the codes") {
  SECTION("as the elements lie, with a factor for each matrix") {
    const std::string codes = RandomBytes(3 * 70 * 32, 0, 255, 1), scales = RandomBytes(3 * 70 * 2, 100, 140, 2);
    const std::vector<float> factors = {1.0f, 0.37f, -3e-5f};
    const Packed packed({{"e.up", "U8", {3, 70, 32}, codes},
                         {"e.up_weight_scale", "U8", {3, 70, 2}, scales},
                         {"e.up_weight_scale_2", "F32", {3}, FloatBytes(factors)}});
    REQUIRE(packed.tensor->shape == Shape{3, 70, 64});
    const std::vector<float> whole = packed.Read(0, packed.tensor->elems);
    for (std::size_t i = 0; i < whole.size(); ++i) {
      const float joint = static_cast<float>(PowerAt(scales, i / 32)) * factors[i / (70 * 64)];
      CHECK(whole[i] == static_cast<float>(ValueOfCode(CodeAt(codes, i / 2, i))) * joint);
    }
    packed.CheckRanges(50);
  }
  SECTION("two of a column in a byte") {
    const std::string codes = RandomBytes(2 * 32 * 4100, 0, 255, 3), scales = RandomBytes(2 * 2 * 4100, 100, 140, 4);
    const Packed packed({{"e.up", "U8", {2, 32, 4100}, codes}, {"e.up_weight_scale", "U8", {2, 2, 4100}, scales}});
    REQUIRE(packed.tensor->shape == Shape{2, 64, 4100});
    const std::vector<float> whole = packed.Read(0, packed.tensor->elems);
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < whole.size(); ++i) {
      const std::size_t row = i / 4100, column = i % 4100;  // rows of both matrices
      const double value = ValueOfCode(CodeAt(codes, row / 2 * 4100 + column, row));
      wrong += whole[i] != static_cast<float>(value * PowerAt(scales, row / 32 * 4100 + column));
    }
    CHECK(wrong == 0);
    packed.CheckRanges(10);
  }
  // Lines of codes that are read together, and of 2,176 bytes, which are read one by one.
  for (const std::size_t groups : {std::size_t{3}, std::size_t{136}}) {
    DYNAMIC_SECTION("transposed, " << groups << " blocks in a line") {
      const std::size_t columns = 67, rows = groups * 32;
      const std::string codes = RandomBytes(2 * columns * groups * 16, 0, 255, 5),
                        scales = RandomBytes(2 * columns * groups, 100, 140, 6);
      const Packed packed({{"e.down_proj_blocks", "U8", {2, columns, groups, 16}, codes},
                           {"e.down_proj_scales", "U8", {2, columns, groups}, scales}});
      REQUIRE(packed.tensor->name == "e.down_proj");
      REQUIRE(packed.tensor->shape == Shape{2, rows, columns});
      const std::vector<float> whole = packed.Read(0, packed.tensor->elems);
      std::size_t wrong = 0;
      for (std::size_t i = 0; i < whole.size(); ++i) {
        const std::size_t matrix = i / columns / rows, row = i / columns % rows, column = i % columns;
        const std::size_t at = (matrix * columns + column) * rows + row;  // of the code
        wrong += whole[i] != static_cast<float>(ValueOfCode(CodeAt(codes, at / 2, at)) * PowerAt(scales, at / 32));
      }
      CHECK(wrong == 0);
      packed.CheckRanges(20);
    }
  }
}

TEST_CASE("scales that are no numbers, and halves of 2^128") {
  const std::string codes("\x10\x77\xF0\x02\0\0\0\0\0\0\0\0\0\0\0\0", 16);
  const auto bits = [](float value) { return std::bit_cast<std::uint32_t>(value); };
  const Packed infinite({{"m.weight", "U8", {1, 16}, codes}, {"m.weight_scale", "U8", {1, 1}, "\xFF"}});
  std::vector<float> got = infinite.Read(0, 5);
  CHECK(bits(got[0]) == 0x7FC00000);  // 0 times infinity
  CHECK(std::isinf(got[1]));
  CHECK(got[4] != got[4]);
  const Packed none({{"m.weight", "I8", {1, 16}, codes}, {"m.scale", "F8_E8M0", {1, 1}, "\xFF"}});
  for (const float value : none.Read(0, 32)) CHECK(bits(value) == 0x7FC00000);
  const Packed shifted(
      {{"m.down_proj_blocks", "U8", {1, 1, 1, 16}, codes}, {"m.down_proj_scales", "U8", {1, 1, 1}, "\xFF"}});
  got = shifted.Read(0, 7);
  CHECK(got[0] == 0.0f);
  CHECK(got[1] == std::ldexp(1.0f, 127));
  CHECK(std::isinf(got[2]));
  CHECK(got[4] == 0.0f);
  CHECK(got[5] == -std::numeric_limits<float>::infinity());
  CHECK(std::isinf(got[6]));
}

TEST_CASE("compressed-tensors' values are rounded to bfloat16 before they are the model's") {
  const std::string codes(8, '\x77');
  const auto first = [&](const Shape& shape, const std::string& config) {
    const Packed packed({{"m.weight_packed", "U8", {1, 8}, codes},
                         {"m.weight_scale", "F8_E4M3", {1, 1}, "\x38"},
                         {"m.weight_global_scale", "F32", shape, FloatBytes({13.0f})}},
                        config);
    std::vector<std::uint8_t> bytes(ItemSize(packed.tensor->dtype));
    REQUIRE(SourceReader(*packed.checkpoint).Read(*packed.tensor, 0, bytes).ok());
    float value = 0;
    if (bytes.size() == sizeof(value)) std::memcpy(&value, bytes.data(), sizeof(value));
    return bytes.size() == sizeof(value) ? value : -static_cast<float>(bytes[0] + 256 * bytes[1]);
  };
  CHECK(first({1}, R"({"dtype": "float32"})") == 0.4609375f);
  // A scalar divisor rounds 1/13 first.
  CHECK(first({}, R"({"dtype": "float32"})") == 0.462890625f);
  CHECK(first({1}, "{}") == -0x3EECp0f);
  CHECK(first({1}, R"({"torch_dtype": "float16"})") == -0x3760p0f);
}

}  // namespace
}  // namespace q4
