// Digests of whole files, which are read one piece ahead where they are large.
#include "libconvert/source/file_digest.h"

#include <fmt/format.h>

#include <cstdint>
#include <span>
#include <string>

#include "formats/base/digest.h"
#include "formats/base/file.h"
#include "libconvert/source/source_issues.h"
#include "tests/support/catch.h"
#include "tests/support/must.h"
#include "tests/support/temp_dir.h"

namespace q4 {
namespace {

using test::Must;
using test::TempDir;

std::string Content(std::size_t bytes) {
  std::string content(bytes, '\0');
  for (std::size_t i = 0; i < bytes; i += 997) content[i] = static_cast<char>(i * 7 + i / 1024);
  return content;
}

std::span<const std::uint8_t> BytesOf(const std::string& text) {
  return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}

TEST_CASE("a digest is that of all bytes, whatever the size of the file") {
  const TempDir temp;
  constexpr std::size_t kMiB = std::size_t{1} << 20;
  for (const std::size_t size :
       {std::size_t{0}, std::size_t{1}, kMiB, kMiB + 1, 32 * kMiB - 1, 32 * kMiB, 33 * kMiB + 5}) {
    const std::string content = Content(size);
    test::WriteBytes(temp.File("file"), content);
    const auto file = Must(PosixFileSystem().OpenForRead(temp.File("file")));
    CHECK(Must(FileDigest(*file, "sha256", nullptr, kSourceUnread)) == HexOf(Sha256Of(BytesOf(content))));
    Xxh3Stream xxh3(0);
    xxh3.Update(BytesOf(content));
    CHECK(Must(FileDigest(*file, "xxh3", nullptr, kSourceUnread)) == fmt::format("{:016x}", xxh3.Digest()));
  }
}

TEST_CASE("a file that has become shorter is an error, and an interruption ends it") {
  const TempDir temp;
  test::WriteBytes(temp.File("file"), Content(std::size_t{40} << 20));
  const auto file = Must(PosixFileSystem().OpenForRead(temp.File("file")));
  CancelFlag cancel = true;
  CHECK(IssueNumberOf(FileDigest(*file, "sha256", &cancel, kSourceUnread).status()) == kSourceUnread.number);
  test::WriteBytes(temp.File("file"), Content(std::size_t{35} << 20));
  CHECK_FALSE(FileDigest(*file, "sha256", nullptr, kSourceUnread).ok());
}

}  // namespace
}  // namespace q4
