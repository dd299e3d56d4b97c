#include "libconvert/base/nearest.h"

#include <string>
#include <vector>

#include "tests/support/catch.h"

namespace q4 {
namespace {

const std::vector<std::string> kFlags = {"--block-size", "--baseline",   "--type",
                                         "--device",     "--max-memory", "--max-nmse"};

TEST_CASE("a slip of the fingers finds its name") {
  CHECK(NearestNames("--blocksize", kFlags, 1) == std::vector<std::string>{"--block-size"});
  CHECK(NearestNames("--tpye", kFlags, 1) == std::vector<std::string>{"--type"});      // two neighbours swapped
  CHECK(NearestNames("--Device", kFlags, 1) == std::vector<std::string>{"--device"});  // another case
  CHECK(NearestNames("--max_memory", kFlags, 1) == std::vector<std::string>{"--max-memory"});
  CHECK(NearestNames("--max-nsme", kFlags, 2).front() == "--max-nmse");
}

TEST_CASE("a part of a name finds names that contain it, before those that resemble it") {
  const std::vector<std::string> names = {"model.layers.0.self_attn.q_proj.weight",
                                          "model.layers.1.self_attn.q_proj.weight", "q_pro"};
  CHECK(NearestNames("q_proj", names, 3) == std::vector<std::string>{names[0], names[1], names[2]});
  CHECK(NearestNames("q_proj", names, 1).size() == 1);
}

TEST_CASE("what resembles nothing finds nothing") {
  CHECK(NearestNames("--frobnicate", kFlags, 3).empty());
  CHECK(NearestNames("", kFlags, 3).empty());
  CHECK(NearestNames("--type", {}, 3).empty());
  CHECK(NearestNames(std::string(1000, 'a'), {std::string(1000, 'a')}, 1).empty());  // too long to be compared
}

TEST_CASE("the words of a message") {
  CHECK(DidYouMean("--tpye", kFlags) == "; did you mean '--type'?");
  CHECK(DidYouMean("max", kFlags) == "; did you mean '--max-memory' or '--max-nmse'?");
  CHECK(DidYouMean("--frobnicate", kFlags).empty());
}

}  // namespace

TEST_CASE("UnknownKey names the nearest key, and all of them") {
  CHECK(UnknownKey("max_nsme", {"match", "max_nmse"}, "match and max_nmse") ==
        "'max_nsme'; did you mean 'max_nmse'? there are match and max_nmse");
  CHECK(UnknownKey("encoder", {"match", "max_nmse"}, "match and max_nmse") ==
        "'encoder'; there are match and max_nmse");
}

TEST_CASE("EditDistance counts what is inserted, deleted, replaced and swapped") {
  CHECK(EditDistance("", "abc") == 3);
  CHECK(EditDistance("abcd", "abd") == 1);
  CHECK(EditDistance("abc", "axc") == 1);
  CHECK(EditDistance("abcd", "acbd") == 1);
  CHECK(EditDistance("kitten", "sitting") == 3);
}

}  // namespace q4
