// ByteReader, ByteWriter and checked_math.
#include <limits>
#include <vector>

#include "formats/base/byte_reader.h"
#include "formats/base/byte_writer.h"
#include "formats/base/checked_math.h"
#include "tests/support/catch.h"

namespace q4 {
namespace {

constexpr std::uint64_t kMax = std::numeric_limits<std::uint64_t>::max();

TEST_CASE("what ByteWriter writes, ByteReader reads") {
  ByteWriter writer;
  writer.U8(0x01);
  writer.U16(0x0302);
  writer.U32(0x07060504);
  writer.U64(0x0F0E0D0C0B0A0908);
  writer.F32(-2.5f);
  writer.F64(0.1);
  writer.Text("q4");
  writer.Zeros(3);
  for (std::size_t i = 0; i < 15; ++i) CHECK(writer.bytes()[i] == i + 1);  // little-endian
  const std::vector<std::uint8_t> bytes = writer.Take();
  CHECK(writer.size() == 0);
  REQUIRE(bytes.size() == 32);

  ByteReader reader(bytes, 1000);
  CHECK(reader.U8() == 0x01);
  CHECK(reader.U16() == 0x0302);
  CHECK(reader.U32() == 0x07060504);
  CHECK(reader.U64() == 0x0F0E0D0C0B0A0908);
  CHECK(reader.F32() == -2.5f);
  CHECK(reader.F64() == 0.1);
  CHECK(reader.offset() == 1027);
  const auto text = reader.Bytes(2);
  CHECK(text[0] == 'q');
  CHECK(reader.remaining() == 3);
  CHECK(reader.Bytes(3).size() == 3);
  CHECK(reader.ok());
  CHECK(reader.remaining() == 0);
}

TEST_CASE("ByteReader fails for good at the first byte too many") {
  const std::vector<std::uint8_t> bytes = {1, 2, 3, 4, 5};
  ByteReader reader(bytes);
  CHECK(reader.U16() == 0x0201);
  CHECK(reader.U32() == 0);
  CHECK_FALSE(reader.ok());
  CHECK(reader.offset() == 2);
  CHECK(reader.U8() == 0);  // one byte remains, but an error stays
  CHECK(reader.remaining() == 0);
  ByteReader huge(bytes);
  CHECK(huge.Bytes(kMax).empty());
  CHECK_FALSE(huge.ok());
}

TEST_CASE("checked arithmetic refuses to wrap") {
  std::uint64_t out = 0;
  CHECK(CheckedAdd(kMax - 1, 1, &out));
  CHECK(out == kMax);
  CHECK_FALSE(CheckedAdd(kMax, 1, &out));
  CHECK(CheckedSub(5, 5, &out));
  CHECK_FALSE(CheckedSub(5, 6, &out));
  CHECK(CheckedMul(1ull << 32, (1ull << 32) - 1, &out));
  CHECK_FALSE(CheckedMul(1ull << 32, 1ull << 32, &out));
  CHECK(CheckedAlignUp(4097, 4096, &out));
  CHECK(out == 8192);
  CHECK(CheckedAlignUp(8192, 4096, &out));
  CHECK(out == 8192);
  CHECK_FALSE(CheckedAlignUp(kMax - 4094, 4096, &out));
  CHECK(RangeFits(4, 6, 10));
  CHECK_FALSE(RangeFits(4, 7, 10));
  CHECK_FALSE(RangeFits(11, 0, 10));
  CHECK_FALSE(RangeFits(4, kMax, 10));
  CHECK(CeilDiv(kMax, 2) == 1ull << 63);
  CHECK(CeilDiv(0, 64) == 0);
  CHECK(CeilDiv(64, 64) == 1);
  CHECK(CeilDiv(65, 64) == 2);
}

}  // namespace
}  // namespace q4
