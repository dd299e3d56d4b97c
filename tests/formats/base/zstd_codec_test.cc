#include "formats/base/zstd_codec.h"

#include <sys/resource.h>
#include <unistd.h>

#include <cstdint>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include "formats/base/base_issues.h"
#include "formats/base/byte_writer.h"
#include "formats/base/status.h"
#include "tests/support/bytes.h"
#include "tests/support/catch.h"
#include "tests/support/must.h"

namespace q4 {
namespace {

using test::Bytes;

Bytes Sample(std::size_t size) {
  Bytes bytes(size);
  for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::uint8_t>((i * i / 7) % 61);
  return bytes;
}

Bytes Frame(const Bytes& raw, int level = 3) { return test::Must(CompressZstd(raw, level)); }

// The number of the issue for which `frame` is refused, which must have exit code 6.
int Refused(const Bytes& frame, std::uint64_t raw_bytes) {
  const auto raw = DecompressZstd(frame, raw_bytes);
  REQUIRE(!raw.ok());
  CHECK(ExitCodeOf(raw.status()) == ExitCode::kCheckFailed);
  return IssueNumberOf(raw.status());
}

std::string MessageFor(const Bytes& frame, std::uint64_t raw_bytes) {
  return MessageOf(DecompressZstd(frame, raw_bytes).status());
}

TEST_CASE("zstd: what goes in comes out") {
  for (const std::size_t size :
       {std::size_t{0}, std::size_t{1}, std::size_t{255}, std::size_t{70'000}, std::size_t{3} << 20}) {
    for (const int level : {kMinZstdLevel, 3, 12}) {
      const Bytes raw = Sample(size);
      const Bytes frame = Frame(raw, level);
      CHECK(Frame(raw, level) == frame);
      const auto back = DecompressZstd(frame, size);
      REQUIRE(back.ok());
      CHECK(*back == raw);
    }
  }
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)  // whose shadow memory breaks the limit
TEST_CASE("zstd: short of memory is an error") {
  const Bytes raw(std::size_t{8} << 20, 7);
  std::uint64_t pages = 0;
  std::ifstream("/proc/self/statm") >> pages;
  rlimit limit{};
  REQUIRE(::getrlimit(RLIMIT_AS, &limit) == 0);
  const rlimit before = limit;
  // Room for the frame, and not for what the highest level works in.
  limit.rlim_cur = pages * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE)) + (std::uint64_t{24} << 20);
  REQUIRE(::setrlimit(RLIMIT_AS, &limit) == 0);
  const auto frame = CompressZstd(raw, 22);
  REQUIRE(::setrlimit(RLIMIT_AS, &before) == 0);
  CHECK(IssueNumberOf(frame.status()) == kZstdEncode.number);
}
#endif

TEST_CASE("zstd: a wrong expectation is refused before anything is decoded") {
  const Bytes raw = Sample(1000);
  const Bytes frame = Frame(raw);
  CHECK(Refused(frame, 999) == kZstdSize.number);
  CHECK(Refused(frame, std::uint64_t{1} << 62) == kZstdSize.number);
}

TEST_CASE("zstd: memory of another size is refused and left alone") {
  const Bytes frame = Frame(Sample(1000));
  for (const std::size_t size : {999, 1001}) {
    Bytes out(size, 0xEE);
    CHECK(IssueNumberOf(DecompressZstdInto(frame, out)) == kZstdSize.number);
    CHECK(out == Bytes(size, 0xEE));
  }
}

TEST_CASE("zstd: every prefix and every extra byte is refused") {
  const Bytes raw = Sample(2000);
  const Bytes frame = Frame(raw);
  for (std::size_t size = 0; size < frame.size(); ++size) {
    INFO(size);
    CHECK(Refused(Bytes(frame.begin(), frame.begin() + static_cast<long>(size)), 2000) != 0);
  }
  Bytes longer = frame;
  longer.push_back(0);
  CHECK(Refused(longer, 2000) == kZstdFrame.number);
}

TEST_CASE("zstd: no change of one bit passes for another content of another size") {
  const Bytes raw = Sample(300);
  Bytes frame = Frame(raw);
  int decoded = 0;
  for (std::size_t bit = 0; bit < frame.size() * 8; ++bit) {
    frame[bit / 8] ^= static_cast<std::uint8_t>(1u << (bit % 8));
    const auto back = DecompressZstd(frame, raw.size());
    if (back.ok()) {
      CHECK(back->size() == raw.size());
      ++decoded;
    }
    frame[bit / 8] ^= static_cast<std::uint8_t>(1u << (bit % 8));
  }
  INFO(decoded);
  CHECK(decoded < static_cast<int>(frame.size()) * 8);
}

// A frame built by hand: header as given, then one raw last block holding `content`.
Bytes HandMade(std::uint8_t descriptor, const Bytes& fields, std::string_view content) {
  ByteWriter writer;
  writer.U32(0xFD2FB528);
  writer.U8(descriptor);
  writer.Bytes(fields);
  const auto block = static_cast<std::uint32_t>(content.size() << 3 | 1);
  writer.U16(static_cast<std::uint16_t>(block));
  writer.U8(static_cast<std::uint8_t>(block >> 16));
  writer.Text(content);
  return writer.Take();
}

TEST_CASE("zstd: Q08, frames that we do not write") {
  // Single segment with a 1-byte content size is the plain form.
  REQUIRE(DecompressZstd(HandMade(0x20, {4}, "data"), 4).ok());
  const auto refused = [](const Bytes& frame, const Issue& issue, std::string_view text) {
    INFO(MessageFor(frame, 4));
    CHECK(Refused(frame, 4) == issue.number);
    CHECK(MessageFor(frame, 4).find(text) != std::string::npos);
  };
  refused(HandMade(0x00, {0x00}, "data"), kZstdSize, "it states none");
  refused(HandMade(0x21, {9, 4}, "data"), kZstdFrame, "dictionary");
  refused(HandMade(0x28, {4}, "data"), kZstdFrame, "the reserved bit");
  refused(HandMade(0x24, {4}, "data"), kZstdFrame, "checksum");
  refused({0x28, 0xB5, 0x2F, 0xFD}, kZstdFrame, "too short");
  refused({0x28, 0xB5, 0x2F, 0xFD, 0x00}, kZstdFrame, "too short");
  // 4-byte content size with a window of 2^26, which is allowed, and of 2^27 and 2^31, which are not.
  CHECK(DecompressZstd(HandMade(0x80, {16 << 3, 4, 0, 0, 0}, "data"), 4).ok());
  CHECK(MessageFor(HandMade(0x80, {17 << 3, 4, 0, 0, 0}, "data"), 4).find("window") != std::string::npos);
  CHECK(MessageFor(HandMade(0x80, {21 << 3, 4, 0, 0, 0}, "data"), 4).find("window") != std::string::npos);
  CHECK(MessageFor(HandMade(0x80, {(16 << 3) | 1, 4, 0, 0, 0}, "data"), 4).find("window") != std::string::npos);

  // The second length is one that reads like a descriptor without fault.
  for (const std::uint32_t length : {4u, 32u}) {
    ByteWriter skippable;
    skippable.U32(0x184D2A50);
    skippable.U32(length);
    skippable.Zeros(length);
    CHECK(Refused(skippable.Take(), 0) == kZstdFrame.number);
  }

  Bytes two = HandMade(0x20, {4}, "data");
  const Bytes second = two;
  two.insert(two.end(), second.begin(), second.end());
  CHECK(Refused(two, 4) == kZstdFrame.number);
  CHECK(Refused(two, 8) == kZstdFrame.number);
  CHECK(Refused({'h', 'e', 'l', 'l', 'o', ' ', 'y', 'o', 'u'}, 9) == kZstdFrame.number);
  // Claims 5 bytes, holds 4.
  CHECK(Refused(HandMade(0x20, {5}, "data"), 5) == kZstdDecode.number);
  // Cut: what the library says of it is told.
  Bytes cut = HandMade(0x20, {4}, "data");
  cut.pop_back();
  CHECK(MessageFor(cut, 4).find("Src size") != std::string::npos);
}

}  // namespace
}  // namespace q4
