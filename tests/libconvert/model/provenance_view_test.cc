#include "libconvert/model/provenance_view.h"

#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "formats/q4/q4_issues.h"
#include "formats/q4/reader.h"
#include "tests/support/catch.h"
#include "tests/support/must.h"
#include "tests/support/provenance.h"
#include "tests/support/q4_builder.h"
#include "tests/support/temp_dir.h"

namespace q4 {
namespace {

Json Record(const std::string& name, char digit) {
  Json file;
  file["name"] = name;
  file["sha256"] = std::string(64, digit);
  file["size"] = 1;
  return file;
}
const Json kA = Record("a", '0'), kB = Record("b", '1'), kOtherB = Record("b", '2');

std::string Document(const std::vector<Json>& files, const std::string& format = "f") {
  return test::ProvenanceOf(Json::object(), Json(files), format);
}

std::string Join(const std::vector<std::string>& texts) {
  return JoinedProvenance(std::vector<std::string_view>(texts.begin(), texts.end()));
}

int IssueOf(const std::string& text) { return IssueNumberOf(ParseProvenance(text, "f.q4").status()); }

// `document` with `edit` made to it, in canonical order where `edit` keeps it.
template <typename Edit>
std::string Edited(const Edit& edit) {
  Json document = *ParseJson(test::ProvenanceOf(test::RecordedOptionsFor({}), Json::array({kA})), "p", 64);
  edit(document);
  return document.dump();
}

TEST_CASE("the provenance of shards is that of the first with the source files of all") {
  CHECK(Join({Document({kA}), Document({kA, kB})}) == Document({kA, kB}));
  CHECK(Join({Document({kB}), Document({kA}), Document({kB})}) == Document({kB, kA}));
  // Shards that contradict each other: both are told, and the joined document breaks the form.
  CHECK(Join({Document({kB}), Document({kOtherB})}) == Document({kB, kOtherB}));
  CHECK(IssueOf(Document({kB, kOtherB})) == kQ4ProvenanceForm.number);
}

TEST_CASE("one document stays as it is, and one that breaks the form is not hidden by others") {
  for (const std::string text : {"", "[]", "{ }", "no JSON"}) {
    CHECK(Join({text}) == text);
    CHECK(Join({Document({kA}), text, Document({kB})}) == text);
  }
}

TEST_CASE("a right document is read, with every option") {
  const auto view =
      ParseProvenance(Edited([](Json& document) {
                        document["options"]["compress"] = "zstd:9";
                        document["options"]["keep_dtype"] = "BF16";
                        document["options"]["on_nonfinite"] = "keep";
                        document["options"]["patterns"] = Json::array({{{"exclude", "a"}}, {{"include", "b"}}});
                        document["options"]["shard_size"] = 4096;
                      }),
                      "f.q4");
  REQUIRE(view.ok());
  CHECK(view->tool() == "q4convert " + std::string(kQ4Version));
  REQUIRE(view->options.has_value());
  CHECK(view->options->defaults == QuantSettings());
  CHECK(view->options->keep_dtype == DType::kBF16);
  CHECK((view->options->keep_nonfinite && view->options->compressed && view->options->shard_bytes == 4096));
  REQUIRE(view->options->patterns.size() == 2);
  CHECK((!view->options->patterns[0].include && view->options->patterns[1].regex == "b"));
  CHECK(view->options->recipe == R"({"rules":[]})");
  REQUIRE(view->sources.size() == 1);
  CHECK((view->sources[0].digest_kind == "sha256" && view->sources[0].size == 1));
  CHECK_FALSE(ParseProvenance(Document({}), "f.q4")->options.has_value());
}

TEST_CASE("members that are to come are read in their form and in no other") {
  const auto put = [](const char* name, const Json& value) {
    // ordered_json keeps the order of insertion: the document is put together anew, sorted.
    return Edited([&](Json& document) {
      std::map<std::string, Json> members;
      for (const auto& [key, member] : document.items()) members[key] = member;
      members[name] = value;
      document = Json::object();
      for (const auto& [key, member] : members) document[key] = member;
    });
  };
  const std::string hex(64, 'a');
  CHECK(IssueOf(put("adapter", {{"files", Json::array({kA})}})) == 0);
  CHECK(IssueOf(put("calibration", {{"files", Json::array({kA})}, {"tokens", 7}})) == 0);
  CHECK(IssueOf(put("parent", {{"root", hex}})) == 0);
  CHECK(IssueOf(put("plan", hex)) == 0);
  for (const auto& [name, value] :
       std::vector<std::pair<const char*, Json>>{{"adapter", Json::object()},
                                                 {"adapter", {{"files", Json::array({kA, kA})}}},
                                                 {"calibration", 7},
                                                 {"parent", {{"root", "aa"}}},
                                                 {"plan", std::string(64, 'A')},
                                                 {"left_out", Json::array()},
                                                 {"unknown", 1}}) {
    INFO(name << " " << value.dump());
    CHECK(IssueOf(put(name, value)) == kQ4ProvenanceForm.number);
  }
  CHECK(IssueOf(put("schema", 2)) == kQ4ProvenanceNewer.number);
  CHECK(IssueOf(put("schema", 1)) == kQ4ProvenanceForm.number);
  CHECK(IssueOf(put("numerics", "q4n-2")) == kQ4ProvenanceNewer.number);
}

TEST_CASE("anything else is no provenance") {
  const std::string right = Edited([](Json&) {});
  REQUIRE(IssueOf(right) == 0);
  std::vector<std::string> wrong = {"", "[]", "{}", "null", "7", right + "\n", " " + right, right.substr(1)};
  const auto edit = [&](const auto& change) { wrong.push_back(Edited(change)); };
  edit([](Json& d) { d.erase("tool"); });
  edit([](Json& d) { d["tool"].erase("version"); });
  edit([](Json& d) { d["options"].erase("recipe"); });
  edit([](Json& d) { d["options"]["zeal"] = 1; });
  edit([](Json& d) { d["options"]["type"] = "nf5"; });
  edit([](Json& d) { d["options"]["block_size"] = 65; });
  edit([](Json& d) { d["options"]["block_size"] = 64.0; });
  edit([](Json& d) { d["options"]["encoder"] = "best"; });
  edit([](Json& d) { d["options"]["keep_dtype"] = "I8"; });
  edit([](Json& d) { d["options"]["compress"] = "zstd:23"; });
  edit([](Json& d) { d["options"]["compress"] = "zstd:03"; });
  edit([](Json& d) { d["options"]["on_nonfinite"] = ""; });
  edit([](Json& d) { d["options"]["patterns"] = Json::array({{{"exclude", "a"}, {"include", "a"}}}); });
  edit([](Json& d) { d["source"]["files"].push_back(kA); });
  edit([](Json& d) { d["source"]["files"][0].erase("sha256"); });
  edit([](Json& d) { d["source"]["files"][0]["xxh3"] = std::string(16, '0'); });
  edit([](Json& d) { d["source"]["files"][0]["size"] = -1; });
  for (const char* name : {"", ".", "..", "/a", "../a", "a//b", "a/../b", ".git/a", "a/"}) {
    edit([name](Json& d) { d["source"]["files"][0]["name"] = name; });
  }
  // Another order, and another spelling of the same text.
  edit([](Json& d) { d["tool"] = {{"version", "1"}, {"name", "t"}}; });
  wrong.push_back(right);
  wrong.back().replace(wrong.back().find("\"q4n-1\""), 7, "\"q4\\u006e-1\"");
  for (const std::string& text : wrong) {
    INFO(text);
    CHECK(IssueOf(text) == kQ4ProvenanceForm.number);
  }
}

TEST_CASE("the golden model of two shards names three source files") {
  const auto model = Q4Model::Open(PosixFileSystem(), std::string(Q4_TESTDATA) + "/q4/v1_sharded.q4.index.json");
  REQUIRE(model.ok());
  const auto view = ReadProvenance(**model);
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
