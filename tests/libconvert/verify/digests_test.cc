#include "libconvert/verify/digests.h"

#include <string>
#include <vector>

#include "libconvert/judge/verify_issues.h"
#include "tests/support/catch.h"
#include "tests/support/memory_file_system.h"

namespace q4 {
namespace {

TEST_CASE("a source file that no shard records is found, unless nothing is recorded") {
  MemoryFileSystem fs;
  std::vector<CheckpointFile> files;
  for (const char* name : {"a", "b", "c"}) {
    fs[name] = test::Bytes{1, 2, 3};
    files.push_back({name, *fs.OpenForRead(name)});
  }
  CheckpointContent content;
  content.path = "source";
  content.files = std::move(files);
  const Checkpoint source(std::move(content));
  const auto find = [&](const std::vector<SourceFileRecord>& records) {
    FindingList list;
    FindUnrecordedSourceFiles(source, records, "m.q4", &list);
    VerifyReport report;
    list.MoveTo(&report);
    std::string places;
    for (const VerifyFinding& finding : report.findings) {
      CHECK(finding.issue == kSourceFileDiffers.number);
      const std::size_t begin = finding.message.find("source file '");
      REQUIRE(begin != std::string::npos);
      places += finding.message[begin + 13];
    }
    return places;
  };
  CHECK(find({{"a", 3, "", ""}, {"b", 3, "", ""}, {"c", 3, "", ""}, {"d", 3, "", ""}}).empty());
  CHECK(find({{"b", 3, "", ""}}) == "ac");
  CHECK(find({}).empty());
}

}  // namespace
}  // namespace q4
