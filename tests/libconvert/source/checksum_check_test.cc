#include "libconvert/source/checksum_check.h"

#include <string>

#include "formats/base/crc32.h"
#include "formats/torch/torch_issues.h"
#include "tests/support/bytes.h"
#include "tests/support/catch.h"
#include "tests/support/memory_file_system.h"

namespace q4 {
namespace {

// A file of two ranges with checksums, with bytes before, between and behind.
struct Summed {
  Summed() {
    for (int i = 0; i < 100; ++i) text += static_cast<char>(i * i);
    fs["f"].assign(text.begin(), text.end());
    file.name = "f";
    file.file = *fs.OpenForRead("f");
    for (const auto& [name, offset, bytes] : {std::tuple("one", 10, 30), {"none", 45, 0}, {"two", 50, 40}}) {
      const std::string range = text.substr(static_cast<std::size_t>(offset), static_cast<std::size_t>(bytes));
      file.checksums.push_back(
          {static_cast<std::uint64_t>(offset), range.size(), Crc32(0, test::AsBytes(range)), name});
    }
  }
  // Whether all is well when the bytes pass by in pieces of `step` from `begin` on.
  absl::Status Pass(const std::string& passed, std::size_t step, std::size_t begin = 0) const {
    ChecksumCheck check(file);
    REQUIRE(check.SkipTo(begin).ok());
    for (std::size_t at = begin; at < passed.size(); at += step) {
      check.Update(test::AsBytes(std::string_view(passed).substr(at, step)));
    }
    return check.status();
  }

  MemoryFileSystem fs;
  std::string text;
  CheckpointFile file;
};

TEST_CASE("checksums of a file are compared in pieces of any size") {
  const Summed summed;
  for (std::size_t step = 1; step <= 101; ++step) CHECK(summed.Pass(summed.text, step).ok());
  for (std::size_t at = 0; at < summed.text.size(); ++at) {
    CAPTURE(at);
    std::string damaged = summed.text;
    damaged[at] = static_cast<char>(damaged[at] ^ 4);
    const bool covered = (at >= 10 && at < 40) || (at >= 50 && at < 90);
    const absl::Status status = summed.Pass(damaged, 7);
    CHECK(status.ok() != covered);
    if (covered) CHECK(IssueNumberOf(status) == kZipCrc.number);
    if (covered) CHECK(MessageOf(status).find(at < 45 ? "one" : "two") != std::string::npos);
  }
}

TEST_CASE("a later run goes on in the middle of a range") {
  const Summed summed;
  for (std::size_t begin = 0; begin <= summed.text.size(); ++begin) CHECK(summed.Pass(summed.text, 9, begin).ok());
  std::string damaged = summed.text;
  damaged[60] = static_cast<char>(damaged[60] ^ 4);
  CHECK_FALSE(summed.Pass(damaged, 9, 55).ok());
  // What the earlier run compared is not compared again.
  CHECK(summed.Pass(damaged, 9, 90).ok());
}

}  // namespace
}  // namespace q4
