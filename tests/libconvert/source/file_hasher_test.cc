#include "libconvert/source/file_hasher.h"

#include <string>

#include "formats/source/checkpoint.h"
#include "libconvert/source/source_issues.h"
#include "tests/support/catch.h"

namespace q4 {
namespace {

TEST_CASE("a digest of a file that nobody read to its end is an error") {
  const auto checkpoint = OpenCheckpoint(PosixFileSystem(), std::string(Q4_TESTDATA) + "/checkpoints/tiny_plain_src");
  REQUIRE(checkpoint.ok());
  SourceHasher hasher(**checkpoint, SourceDigest::kSha256, 1, {}, 0);
  const auto digests = hasher.Finish();
  CHECK(IssueNumberOf(digests.status()) == kSourceUnread.number);
  CHECK(ExitCodeOf(digests.status()) == ExitCode::kInternal);
}

}  // namespace
}  // namespace q4
