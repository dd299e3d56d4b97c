#include "formats/tensor/tensor.h"

#include <string>

#include "tests/support/catch.h"

namespace q4 {
namespace {

TEST_CASE("dtype names and sizes are those of safetensors, and numbers those of the .q4 format") {
  const struct {
    int number;
    const char* name;
    std::uint64_t bytes;
  } kRows[] = {{1, "BOOL", 1}, {2, "U8", 1},   {3, "I8", 1},   {4, "F8_E4M3", 1}, {5, "F8_E5M2", 1}, {6, "F8_E8M0", 1},
               {7, "U16", 2},  {8, "I16", 2},  {9, "F16", 2},  {10, "BF16", 2},   {11, "U32", 4},    {12, "I32", 4},
               {13, "F32", 4}, {14, "U64", 8}, {15, "I64", 8}, {16, "F64", 8},    {17, "C64", 8}};
  int rows = 0;
  for (const auto& row : kRows) {
    const auto dtype = static_cast<DType>(row.number);
    CHECK(DTypeName(dtype) == row.name);
    CHECK(ItemSize(dtype) == row.bytes);
    DType parsed{};
    REQUIRE(ParseDTypeName(row.name, &parsed));
    CHECK(parsed == dtype);
    CHECK(IsQuantizable(dtype) ==
          (std::string(row.name) == "F32" || std::string(row.name) == "F16" || std::string(row.name) == "BF16"));
    ++rows;
  }
  CHECK(rows == kMaxDType);
  DType unused{};
  for (const char* name : {"", "f32", "F32 ", "F4", "F6_E2M3", "F6_E3M2", "FLOAT"})
    CHECK_FALSE(ParseDTypeName(name, &unused));
}

TEST_CASE("CountElements is exact below 2^48 and refuses from there on") {
  const auto count = [](const Shape& shape) {
    std::uint64_t elems = 0;
    return CountElements(shape, &elems) ? std::to_string(elems) : "refused";
  };
  CHECK(count({}) == "1");
  CHECK(count({7}) == "7");
  CHECK(count({4096, 11008}) == "45088768");
  CHECK(count({3, 0, 5}) == "0");
  CHECK(count({(1ull << 48) - 1}) == "281474976710655");
  CHECK(count({1ull << 48}) == "refused");
  CHECK(count({1ull << 24, 1ull << 24}) == "refused");
  CHECK(count({1ull << 32, 1ull << 32}) == "refused");
  CHECK(count({2, (1ull << 63) - 1}) == "refused");
  // Wherever the 0 stands.
  CHECK(count({0, 1ull << 32, 1ull << 32}) == "refused");
  CHECK(count({1ull << 32, 1ull << 32, 0}) == "refused");
}

TEST_CASE("ShapeString") {
  CHECK(ShapeString({}) == "[]");
  CHECK(ShapeString({4096, 11008}) == "[4096, 11008]");
}

}  // namespace
}  // namespace q4
