#include "libconvert/model/provenance_view.h"

#include <string>
#include <string_view>
#include <vector>

#include "formats/q4/reader.h"
#include "tests/support/catch.h"

namespace q4 {
namespace {

std::string Document(const std::string& tool, const std::string& files) {
  return R"({"numerics":"q4n-1","source":{"files":[)" + files + R"(],"format":"f"},"tool":{"name":")" + tool + R"("}})";
}
constexpr const char* kA = R"({"name":"a","sha256":"00","size":1})";
constexpr const char* kB = R"({"name":"b","sha256":"11","size":2})";
constexpr const char* kOtherB = R"({"name":"b","sha256":"22","size":2})";

std::string Join(const std::vector<std::string>& texts) {
  return JoinedProvenance(std::vector<std::string_view>(texts.begin(), texts.end()));
}

TEST_CASE("the provenance of shards is that of the first with the source files of all") {
  const std::string a(kA), b(kB), other(kOtherB);
  CHECK(Join({Document("x", a), Document("y", a + "," + b)}) == Document("x", a + "," + b));
  CHECK(Join({Document("x", b), Document("x", a), Document("x", b)}) == Document("x", b + "," + a));
  // Shards that contradict each other: both are told, so that one of them is found to be wrong.
  CHECK(Join({Document("x", b), Document("x", other)}) == Document("x", b + "," + other));
  CHECK(Join({R"({"tool":3})", Document("x", a)}) == R"({"tool":3,"source":{"files":[)" + a + "]}}");
  CHECK(Join({R"({"source":[1]})", R"({"source":{"files":{}}})"}) == R"({"source":{"files":[]}})");
}

TEST_CASE("one document stays as it is, and one that is no object is not hidden by others") {
  for (const std::string text : {"", "[]", "{ }", "no JSON"}) {
    CHECK(Join({text}) == text);
    if (text != "{ }") CHECK(Join({Document("x", kA), text, Document("x", kB)}) == text);
  }
}

TEST_CASE("the golden model of two shards names three source files") {
  const auto model = Q4Model::Open(PosixFileSystem(), std::string(Q4_TESTDATA) + "/q4/v1_sharded.q4.index.json");
  REQUIRE(model.ok());
  const auto view = ParseProvenance(ModelProvenance(**model), (*model)->path());
  REQUIRE(view.ok());
  std::string files;
  for (const SourceFileRecord& file : view->sources) files += file.name + " " + file.digest.substr(0, 2) + "\n";
  CHECK(files ==
        "model-00001-of-00003.safetensors 11\n"
        "model-00002-of-00003.safetensors 22\n"
        "model-00003-of-00003.safetensors 33\n");
}

}  // namespace
}  // namespace q4
