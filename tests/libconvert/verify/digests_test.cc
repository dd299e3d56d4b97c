#include "libconvert/verify/digests.h"

#include <string>
#include <vector>

#include "libconvert/judge/verify_issues.h"
#include "tests/support/catch.h"
#include "tests/support/memory_file_system.h"

namespace q4 {
namespace {

TEST_CASE("a source file that must be recorded and is not is found, also where nothing is recorded") {
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
  const auto find = [&](const std::vector<SourceFileRecord>& records, const std::set<std::uint32_t>& wanted) {
    FindingList list;
    FindUnrecordedSourceFiles(source, wanted, records, "m.q4", &list);
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
  const std::set<std::uint32_t> all{0, 1, 2};
  CHECK(find({{"a", 3, "", ""}, {"b", 3, "", ""}, {"c", 3, "", ""}, {"d", 3, "", ""}}, all).empty());
  CHECK(find({{"b", 3, "", ""}}, all) == "ac");
  CHECK(find({{"b", 3, "", ""}}, {0, 1}) == "a");
  CHECK(find({}, all) == "abc");
}

}  // namespace
}  // namespace q4
