#include "formats/base/digest.h"

#include <algorithm>
#include <string_view>
#include <vector>

#include "tests/support/bytes.h"
#include "tests/support/catch.h"

namespace q4 {
namespace {

using test::AsBytes;

std::vector<std::uint8_t> Pattern(std::size_t size) {
  std::vector<std::uint8_t> bytes(size);
  std::uint32_t state = 1;
  for (auto& byte : bytes) byte = static_cast<std::uint8_t>((state = state * 1664525u + 1013904223u) >> 24);
  return bytes;
}

TEST_CASE("XXH3 gives the published values") {
  CHECK(Xxh3(AsBytes(""), 0) == 0x2d06800538d394c2);
  CHECK(Xxh3(AsBytes(""), 1) == 0x4dc5b0cc826f6703);
  CHECK(Xxh3(AsBytes("abc"), 0) == 0x78af5f94892f3950);
  CHECK(Xxh3(AsBytes("abc"), 1) == 0x6b4467b443c76228);
}

TEST_CASE("SHA-256 gives the values of FIPS 180") {
  CHECK(HexOf(Sha256Of(AsBytes(""))) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  CHECK(HexOf(Sha256Of(AsBytes("abc"))) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST_CASE("streams give the same as one call, however the bytes are cut") {
  // Around the 240-byte and 256-byte boundaries, where XXH3 changes its method and fills its buffer.
  for (const std::size_t size : {0u, 1u, 16u, 17u, 128u, 240u, 241u, 256u, 257u, 1024u, 5000u}) {
    const std::vector<std::uint8_t> bytes = Pattern(size);
    for (const std::size_t piece : {1u, 7u, 64u, 300u}) {
      INFO("size " << size << ", piece " << piece);
      Xxh3Stream xxh3(42);
      Sha256Stream sha256;
      for (std::size_t at = 0; at < size; at += piece) {
        const auto part = std::span(bytes).subspan(at, std::min(piece, size - at));
        xxh3.Update(part);
        sha256.Update(part);
      }
      CHECK(xxh3.Digest() == Xxh3(bytes, 42));
      CHECK(sha256.Finish() == Sha256Of(bytes));
    }
  }
}

TEST_CASE("a saved SHA-256 goes on to the same digest, wherever it was saved") {
  std::vector<std::uint8_t> bytes(1000);
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::uint8_t>(i * i + 7);
  const std::span<const std::uint8_t> all = bytes;
  for (std::size_t cut = 0; cut <= bytes.size(); ++cut) {
    Sha256Stream first;
    first.Update(all.first(cut));
    const Sha256State state = first.Save();
    REQUIRE(state.bytes == cut);
    Sha256Stream second(state);
    CHECK(second.Save() == state);
    second.Update(all.subspan(cut));
    CHECK(second.Finish() == Sha256Of(bytes));
  }
}

TEST_CASE("every changed bit changes XXH3") {
  std::vector<std::uint8_t> bytes = Pattern(1024);
  const std::uint64_t digest = Xxh3(bytes, 7);
  for (std::size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    bytes[bit / 8] ^= static_cast<std::uint8_t>(1u << (bit % 8));
    REQUIRE(Xxh3(bytes, 7) != digest);
    bytes[bit / 8] ^= static_cast<std::uint8_t>(1u << (bit % 8));
  }
}

TEST_CASE("HexOf") {
  const std::vector<std::uint8_t> bytes = {0x00, 0x0F, 0xA5, 0xFF};
  CHECK(HexOf(bytes) == "000fa5ff");
  CHECK(HexOf({}).empty());
}

}  // namespace
}  // namespace q4
