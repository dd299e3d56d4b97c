// Rows X01 to X12 of the hostile-input table.
#include "formats/source/shard_index.h"

#include <sys/stat.h>

#include <filesystem>
#include <string>
#include <vector>

#include "formats/base/base_issues.h"
#include "formats/base/limits.h"
#include "formats/base/status.h"
#include "formats/source/checkpoint.h"
#include "formats/source/checkpoint_issues.h"
#include "tests/support/catch.h"
#include "tests/support/safetensors_builder.h"
#include "tests/support/temp_dir.h"

namespace q4 {
namespace {

using namespace std::string_literals;
using test::SafetensorsBuilder;
using test::TempDir;

absl::StatusOr<ShardIndex> ParseIndex(std::string_view text) {
  JsonText source(text);
  return ParseShardIndex(source, "x.index.json");
}

TEST_CASE("an index gives sorted shards and finds tensors") {
  const auto index = ParseIndex(R"({"metadata":{"total_size":12,"total_parameters":3,"note":["x"]},
                               "weight_map":{"c":"s2","a":"s1","b":"s2"}})");
  REQUIRE(index.ok());
  CHECK(index->shards == std::vector<std::string>{"s1", "s2"});
  CHECK(index->shard_of.at("a") == 0);
  CHECK(index->shard_of.at("b") == 1);
  CHECK(index->shard_of.at("c") == 1);
  CHECK(index->total_size == 12u);
  CHECK_FALSE(ParseIndex(R"({"weight_map":{}})")->total_size.has_value());
}

TEST_CASE("the totals of an index are told where its metadata is nothing else") {
  const auto totals = [](const std::string& members) {
    return ParseIndex("{" + members + R"("weight_map":{}})")->totals;
  };
  const auto both = totals(R"("metadata":{"total_parameters":3,"total_size":12},)");
  REQUIRE(both);
  CHECK((both->size == 12u && both->parameters == 3u));
  const auto size = totals(R"("metadata":{"total_size":12},)");
  REQUIRE(size);
  CHECK((size->size == 12u && !size->parameters));
  CHECK_FALSE(totals(""));
  for (const char* other : {R"({"total_size":12,"format":"pt"})", R"({"total_size":-1})", R"({"total_size":1.5})",
                            R"({"total_parameters":"3"})", R"({"total_size":12,"x":[1]})", R"({"x":{"total_size":1}})",
                            "null", "[]", "3", R"("total_parameters")"}) {
    INFO(other);
    CHECK_FALSE(totals(std::string("\"metadata\":") + other + ","));
  }
  // Of two the last counts, for Python.
  CHECK(totals(R"("metadata":{"total_size":1,"x":2},"metadata":{"total_size":12},)")->size == 12u);
  CHECK_FALSE(totals(R"("metadata":{"total_size":1},"metadata":null,)"));
}

TEST_CASE("IsPlainFileName") {
  for (const char* name : {"model-00001-of-00002.safetensors", "a", "...", ".hidden", "a b"})
    CHECK(IsPlainFileName(name));
  for (const std::string& name : {""s, "."s, ".."s, "a/b"s, "/a"s, "a/"s, "a\\b"s, "C:x"s, "a\0b"s})
    CHECK_FALSE(IsPlainFileName(name));
}

TEST_CASE("every index rule has a text that breaks it") {
  struct Row {
    const char* id;
    std::string text;
    const Issue* issue;
    const char* essence;
  };
  std::vector<Row> rows = {
      {"X08 duplicate key", R"({"weight_map":{"a":"s","a":"t"}})", &kJsonDuplicateKey, "'a'"},
      {"X08 duplicate key, escaped", R"({"weight_map":{"a":"s","\u0061":"s"}})", &kJsonDuplicateKey, "'a'"},
      {"X08 array", R"({"weight_map":["s"]})", &kIndexForm, "weight_map: "},
      {"X08 string", R"({"weight_map":"s"})", &kIndexForm, "got a string"},
      {"X08 number", R"({"weight_map":{"a":1}})", &kIndexForm, "a: "},
      {"X08 nested", R"({"weight_map":{"a":{}}})", &kIndexForm, "got an object"},
      {"X08 missing", R"({"metadata":{}})", &kIndexForm, "weight_map is missing"},
      {"X08 given twice", R"({"weight_map":{},"weight_map":{}})", &kJsonDuplicateKey, "'weight_map'"},
      {"X08 null", R"({"weight_map":null})", &kIndexForm, "weight_map: "},
      {"X08 null shard", R"({"weight_map":{"a":null}})", &kIndexForm, "a: "},
      {"X08 no object", R"([1])", &kIndexForm, "got an array"},
      {"X08 number alone", R"(1)", &kIndexForm, "got an unsigned integer"},
      {"X08 empty tensor name", R"({"weight_map":{"":"s"}})", &kTensorName, "got 0 bytes"},
      {"X08 long tensor name", "{\"weight_map\":{\"" + std::string(4097, 'n') + "\":\"s\"}}", &kTensorName, "4097"},
      {"X11 depth", "{\"metadata\":" + std::string(1000, '[') + std::string(1000, ']') + ",\"weight_map\":{}}",
       &kJsonTooDeep, "1000 levels"},
      {"comment", "{\"weight_map\":{}} // x", &kJsonSyntax, "offset 18"},
      {"comma", R"({"weight_map":{"a":"s",}})", &kJsonSyntax, "offset 23"},
      {"not JSON", "{", &kJsonSyntax, "offset 1"},
  };
  for (const char* shard :
       {"../other.safetensors", "a/../../b", "/etc/passwd", "C:\\\\x", "//x", "", ".", "..", "a\\u0000"}) {
    rows.push_back({"X01", "{\"weight_map\":{\"a\":\"" + std::string(shard) + "\"}}", &kIndexShardName,
                    "a: shard must be a plain"});
  }
  for (const Row& row : rows) {
    INFO(row.id << " " << row.text.substr(0, 80));
    const auto index = ParseIndex(row.text);
    REQUIRE(!index.ok());
    const std::string message = MessageOf(index.status());
    INFO(message);
    CHECK(IssueNumberOf(index.status()) == row.issue->number);
    CHECK(ExitCodeOf(index.status()) == ExitCode::kInvalidInput);
    CHECK(message.starts_with("x.index.json: "));
    CHECK(message.find(row.essence) != std::string::npos);
  }
}

TEST_CASE("X11: more shards or tensors than the limits") {
  std::string many_shards = "{\"weight_map\":{";
  for (std::uint64_t i = 0; i <= limits::kShards; ++i) {
    many_shards += (i == 0 ? "\"" : ",\"") + std::to_string(i) + "\":\"s" + std::to_string(i) + "\"";
  }
  CHECK(IssueNumberOf(ParseIndex(many_shards + "}}").status()) == kTooManyShards.number);

  std::string many_tensors = "{\"weight_map\":{";
  for (std::uint64_t i = 0; i <= limits::kTensorsPerCheckpoint; ++i) {
    many_tensors += (i == 0 ? "\"" : ",\"") + std::to_string(i) + "\":\"s\"";
  }
  CHECK(IssueNumberOf(ParseIndex(many_tensors + "}}").status()) == kTooManyTensors.number);

  const TempDir dir;
  const std::string huge = dir.Write("model.safetensors.index.json", R"({"weight_map":{)");
  std::filesystem::resize_file(huge, limits::kShardIndexBytes + 1);  // sparse
  CHECK(IssueNumberOf(OpenCheckpoint(PosixFileSystem(), huge).status()) == kJsonTooLarge.number);
}

// A directory of two shards with three tensors of 12 bytes in all, and its index.
class ShardedCheckpoint {
 public:
  ShardedCheckpoint() {
    Shard("s1", SafetensorsBuilder().Add("a", "F32", {1}, "aaaa"));
    Shard("s2", SafetensorsBuilder().Add("b", "F32", {1}, "bbbb").Add("c", "U8", {4}, "cccc"));
    Index(R"({"metadata":{"total_size":12},"weight_map":{"a":"s1","b":"s2","c":"s2"}})");
  }
  void Shard(const char* name, const SafetensorsBuilder& builder) { dir.Write(name, builder.Build()); }
  void Index(std::string_view json) { path = dir.Write("model.safetensors.index.json", json); }
  absl::StatusOr<std::unique_ptr<Checkpoint>> Open(const OpenOptions& options = {}) const {
    return OpenCheckpoint(PosixFileSystem(), path, options);
  }
  // The status, which must carry `issue` and exit code 3.
  std::string Refused(const Issue& issue) const {
    const auto checkpoint = Open();
    REQUIRE(!checkpoint.ok());
    const std::string message = MessageOf(checkpoint.status());
    INFO(message);
    CHECK(IssueNumberOf(checkpoint.status()) == issue.number);
    CHECK(ExitCodeOf(checkpoint.status()) == ExitCode::kInvalidInput);
    return message;
  }

  TempDir dir;
  std::string path;
};

bool Contains(const std::string& text, std::string_view part) { return text.find(part) != std::string::npos; }

TEST_CASE("a sharded checkpoint opens, and reads come from the right shard") {
  const ShardedCheckpoint model;
  const auto checkpoint = model.Open();
  REQUIRE(checkpoint.ok());
  CHECK((*checkpoint)->format() == "safetensors-sharded");
  REQUIRE((*checkpoint)->files().size() == 2);
  CHECK((*checkpoint)->files()[1].name == "s2");
  for (const char* name : {"a", "b", "c"}) {
    const SourceTensor* tensor = (*checkpoint)->Find(name);
    REQUIRE(tensor != nullptr);
    std::string bytes(4, '\0');
    REQUIRE((*checkpoint)->Read(*tensor, 0, {reinterpret_cast<std::uint8_t*>(bytes.data()), 4}).ok());
    CHECK(bytes == std::string(4, *name));
  }
  CHECK((*checkpoint)->Find("d") == nullptr);
}

TEST_CASE("X02: a shard that is a link is refused unless links are followed") {
  ShardedCheckpoint model;
  std::filesystem::rename(model.dir.File("s1"), model.dir.File("blob"));
  std::filesystem::create_symlink("blob", model.dir.File("s1"));
  CHECK(Contains(model.Refused(kSymbolicLink), "--follow-symlinks"));
  CHECK(model.Open({.follow_symlinks = true}).ok());
  std::filesystem::remove(model.dir.File("blob"));
  model.Refused(kSymbolicLink);
  CHECK(IssueNumberOf(model.Open({.follow_symlinks = true}).status()) == kShardMissing.number);
}

TEST_CASE("X03: a shard that is no regular file") {
  ShardedCheckpoint model;
  std::filesystem::remove(model.dir.File("s1"));
  REQUIRE(::mkfifo(model.dir.File("s1").c_str(), 0600) == 0);
  CHECK(Contains(model.Refused(kNotARegularFile), "a FIFO"));
  std::filesystem::remove(model.dir.File("s1"));
  std::filesystem::create_directory(model.dir.File("s1"));
  CHECK(Contains(model.Refused(kNotARegularFile), "a directory"));
}

TEST_CASE("X04: a missing shard is named with the first tensor that needs it") {
  ShardedCheckpoint model;
  std::filesystem::remove(model.dir.File("s2"));
  CHECK(Contains(model.Refused(kShardMissing),
                 "s2: shard is missing (needed by tensor 'b'; 1 of 2 shards are not there, so complete the download)"));
  std::filesystem::remove(model.dir.File("s1"));
  CHECK(Contains(model.Refused(kShardMissing), "2 of 2"));
}

TEST_CASE("X05: the shard lacks a tensor that the index puts there") {
  ShardedCheckpoint model;
  model.Index(R"({"weight_map":{"a":"s1","b":"s2","c":"s2","d":"s2"}})");
  CHECK(Contains(model.Refused(kIndexMismatch),
                 "d: tensor is not in the shard that the index names (got no shard, expected shard s2)"));
  model.Index(R"({"weight_map":{"a":"s1","b":"s1","c":"s2"}})");
  CHECK(Contains(model.Refused(kIndexMismatch),
                 "b: tensor is not in the shard that the index names (got shard s2, expected shard s1)"));
}

TEST_CASE("X06: a tensor that the index does not list is taken, and said") {
  ShardedCheckpoint model;
  model.Index(R"({"metadata":{},"weight_map":{"a":"s1","c":"s2"}})");
  const auto one = model.Open();
  REQUIRE(one.ok());
  CHECK((*one)->Find("b") != nullptr);
  REQUIRE((*one)->notes().size() == 1);
  CHECK_FALSE((*one)->notes()[0].warning);
  CHECK(Contains((*one)->notes()[0].text, "1 tensor of its shards is not listed in it"));
  CHECK(Contains((*one)->notes()[0].text, "b in s2"));
  model.Shard("s1", SafetensorsBuilder().Add("a", "F32", {1}, "aaaa").Add("z", "U8", {1}, "z"));
  const auto two = model.Open();
  REQUIRE(two.ok());
  REQUIRE((*two)->notes().size() == 1);
  CHECK(Contains((*two)->notes()[0].text, "2 tensors of its shards are not listed in it"));
  // What is listed must still be there.
  model.Index(R"({"metadata":{},"weight_map":{"a":"s1","c":"s2","d":"s2"}})");
  CHECK(Contains(model.Refused(kIndexMismatch), "d: tensor is not in the shard"));
}

TEST_CASE("X07: one tensor in two shards") {
  ShardedCheckpoint model;
  model.Shard("s1", SafetensorsBuilder().Add("a", "F32", {1}, "aaaa").Add("b", "F32", {1}, "xxxx"));
  CHECK(Contains(model.Refused(kDuplicateTensor), "b: duplicate tensor name (in shard s1 and shard s2)"));
}

TEST_CASE("X09: metadata that is stale or odd is said, and changes nothing") {
  ShardedCheckpoint model;
  const auto notes = [&model](const std::string& members) {
    model.Index("{" + members + R"("weight_map":{"a":"s1","b":"s2","c":"s2"}})");
    const auto checkpoint = model.Open();
    INFO(members);
    REQUIRE(checkpoint.ok());
    CHECK((*checkpoint)->tensors().size() == 3);
    std::string text;
    for (const Note& note : (*checkpoint)->notes()) text += (text.empty() ? "" : "|") + note.text;
    return text;
  };
  const std::string file = "model.safetensors.index.json: ";
  CHECK(notes(R"("metadata":{"total_size":12},)").empty());
  CHECK(notes(R"("metadata":{},)").empty());
  CHECK(notes(R"("metadata":{"total_size":12,"total_parameters":3,"x":[[[1]]]},"extra":{"total_size":1},)").empty());
  CHECK(notes(R"("metadata":{"x":{"total_size":"deeper"},"total_size":12},)").empty());
  CHECK(notes("") == file + "it has no metadata");
  CHECK(notes(R"("metadata":{"total_size":13},)") == file + "metadata.total_size is 13, the tensors have 12 bytes");
  CHECK(notes(R"("metadata":null,)") == file + "metadata is null");
  CHECK(notes(R"("metadata":[{"total_size":1}],)") == file + "metadata is an array");
  CHECK(notes(R"("metadata":"total_size",)") == file + "metadata is a string");
  CHECK(notes(R"("metadata":{"total_size":null},)") == file + "metadata.total_size is null");
  CHECK(notes(R"("metadata":{"total_size":"12"},)") == file + "metadata.total_size is a string");
  CHECK(notes(R"("metadata":{"total_size":-12},)") == file + "metadata.total_size is a negative integer");
  CHECK(notes(R"("metadata":{"total_size":12.0},)") ==
        file + "metadata.total_size is a number that is no 64-bit integer");
  CHECK(notes(R"("metadata":{"total_size":NaN},)") ==
        file + "metadata.total_size is a number that is no 64-bit integer");
  CHECK(notes(R"("metadata":{"total_size":{}},)") == file + "metadata.total_size is an object");
  CHECK(notes(R"("metadata":{"total_size":[12]},)") == file + "metadata.total_size is an array");
  CHECK(notes(R"("metadata":{"total_size":5},"metadata":null,)") == file + "metadata is given twice; metadata is null");
}

TEST_CASE("X10: an index that names itself or another index") {
  ShardedCheckpoint model;
  model.Index(R"({"weight_map":{"a":"model.safetensors.index.json"}})");
  CHECK(Contains(model.Refused(kNotAShard), "looks like a JSON document"));
}

TEST_CASE("a shard that is broken is named itself") {
  ShardedCheckpoint model;
  model.dir.Write("s2", "version https://git-lfs.github.com/spec/v1\n");
  CHECK(Contains(model.Refused(kNotACheckpoint), "s2: not a checkpoint (looks like a Git LFS pointer"));
}

TEST_CASE("X12: a shard that changes after it was opened") {
  const ShardedCheckpoint model;
  const auto checkpoint = model.Open();
  REQUIRE(checkpoint.ok());
  REQUIRE((*checkpoint)->CheckUnchanged().ok());
  const std::string shard = model.dir.File("s2");
  SECTION("another time") {
    std::filesystem::last_write_time(shard, std::filesystem::last_write_time(shard) + std::chrono::seconds(1));
    const absl::Status status = (*checkpoint)->CheckUnchanged();
    CHECK(IssueNumberOf(status) == kFileChanged.number);
    CHECK(ExitCodeOf(status) == ExitCode::kInvalidInput);
  }
  SECTION("shorter") {
    std::filesystem::resize_file(shard, std::filesystem::file_size(shard) - 1);
    CHECK(IssueNumberOf((*checkpoint)->CheckUnchanged()) == kFileChanged.number);
    std::vector<std::uint8_t> out(4);
    CHECK(IssueNumberOf((*checkpoint)->Read(*(*checkpoint)->Find("c"), 0, out)) == kFileEndsEarly.number);
  }
}

}  // namespace
}  // namespace q4
