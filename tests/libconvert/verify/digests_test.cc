#include "libconvert/verify/digests.h"

#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "libconvert/judge/verify_issues.h"
#include "tests/support/catch.h"

namespace q4 {
namespace {

TEST_CASE("a source file that must be recorded and is not is found, also where nothing is recorded") {
  const auto find = [](const std::vector<SourceFileRecord>& records, const std::set<std::string_view>& names) {
    FindingList list;
    FindUnrecordedSourceFiles(names, records, "m.q4", &list);
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
  const std::set<std::string_view> all{"a", "b", "c"};
  CHECK(find({{"a", 3, "", ""}, {"b", 3, "", ""}, {"c", 3, "", ""}, {"d", 3, "", ""}}, all).empty());
  CHECK(find({{"b", 3, "", ""}}, all) == "ac");
  CHECK(find({{"b", 3, "", ""}}, {"a", "b"}) == "a");
  CHECK(find({}, all) == "abc");
}

}  // namespace
}  // namespace q4
