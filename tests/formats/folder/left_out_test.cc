#include "formats/folder/left_out.h"

#include <string>

#include "tests/support/catch.h"

namespace q4 {
namespace {

TEST_CASE("what is alike is listed up to a number and counted beyond it") {
  LeftOutList list;
  for (int i = 100; i < 100 + static_cast<int>(LeftOutList::kShownOthers) + 1; ++i) {
    list.Add("", std::to_string(i), "few", false);
  }
  for (int i = 200; i < 300; ++i) list.Add("f", std::to_string(i), "many", true);
  list.Add("", "hidden", "hidden", false, /*recorded=*/false);
  const auto files = list.Take();
  // One more than the number stands by itself.
  REQUIRE(files.size() == LeftOutList::kShownOthers + 1 + LeftOutList::kShownMissed + 1 + 1);
  CHECK(files[4].name == "104");
  CHECK(files[5].name == "f/200");
  CHECK(files[21].name == "f/216 and 83 more");
  CHECK(files[21].warning);
  CHECK(files[21].recorded);
  CHECK_FALSE(files[22].recorded);
  CHECK(list.Take().empty());
}

TEST_CASE("no crowd of kinds makes the list long") {
  LeftOutList list;
  for (int i = 0; i < 5000; ++i) list.Add("folder" + std::to_string(i), "x", "why", false);
  const auto files = list.Take();
  REQUIRE(files.size() == LeftOutList::kMost + 1);
  CHECK(files.back().name == "~ and 4000 more");
  CHECK(files.back().warning);
}

}  // namespace
}  // namespace q4
