#include "formats/base/crc32.h"

#include <string>

#include "tests/support/bytes.h"
#include "tests/support/catch.h"

namespace q4 {
namespace {

TEST_CASE("CRC-32 of known texts, whole and in pieces") {
  // The check value of the polynomial, and others by Python's zlib.crc32().
  CHECK(Crc32(0, {}) == 0);
  CHECK(Crc32(0, test::AsBytes("123456789")) == 0xCBF43926);
  CHECK(Crc32(0, test::AsBytes("a")) == 0xE8B7BE43);
  std::string text;
  for (int i = 0; i < 1000; ++i) text += static_cast<char>(i * 7);
  const std::uint32_t whole = Crc32(0, test::AsBytes(text));
  CHECK(whole == 0x114AD5FF);
  for (const std::size_t cut : {std::size_t{1}, std::size_t{8}, std::size_t{500}, std::size_t{999}}) {
    const std::string_view view = text;
    CHECK(Crc32(Crc32(0, test::AsBytes(view.substr(0, cut))), test::AsBytes(view.substr(cut))) == whole);
  }
}

}  // namespace
}  // namespace q4
