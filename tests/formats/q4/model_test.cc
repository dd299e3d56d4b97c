// Models of one file and of several (formats/q4/model.cc, formats/q4/shards.cc).
#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <iostream>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "formats/base/base_issues.h"
#include "formats/base/limits.h"
#include "formats/q4/q4_issues.h"
#include "formats/q4/shards.h"
#include "tests/formats/q4/samples.h"
#include "tests/support/bytes.h"
#include "tests/support/catch.h"
#include "tests/support/faulty_file_system.h"
#include "tests/support/temp_dir.h"

namespace q4 {
namespace {

// Two shards with their list in "dir/m.q4.index.json".
class ShardedModel {
 public:
  ShardedModel() {
    for (std::uint32_t shard = 0; shard < 2; ++shard) {
      Q4Sample sample;
      sample.plan.shard = shard;
      sample.plan.shard_count = 2;
      sample.plan.file_id.fill(static_cast<std::uint8_t>(shard));
      // Names of the shards interleave.
      for (const char* name : {"a", "c"}) {
        sample.Add(QuantizedTensor(name + std::to_string(shard), Q4Scheme::kNf4, {64}, 64, false));
      }
      if (shard == 0) sample.AddFile("config.json", "{}");
      sample.Sort();
      const std::string name = Q4ShardName("dir/m.q4", shard, 2);
      fs[name] = WriteSample(sample);
      const auto reader = Q4Reader::Open(fs, name);
      REQUIRE(reader.ok());
      list.parts.push_back({BaseNameOf(name), (*reader)->seal().file_bytes, (*reader)->seal().root});
      for (const Q4Tensor& tensor : (*reader)->index().tensors) list.tensors.emplace_back(tensor.name, shard);
    }
  }

  absl::StatusOr<std::unique_ptr<Q4Model>> Open() {
    const std::string text = EncodeQ4ShardList(list);
    fs["dir/m.q4.index.json"].assign(text.begin(), text.end());
    return Q4Model::Open(fs, "dir/m.q4.index.json");
  }

  MemoryFileSystem fs;
  Q4ShardList list;
};

TEST_CASE("shard names", "[q4][shards]") {
  CHECK(Q4ShardName("out/m.q4", 0, 3) == "out/m-00001-of-00003.q4");
  CHECK(Q4ShardName("m", 9999, 10000) == "m-10000-of-10000.q4");
  CHECK(Q4ShardIndexName("out/m.q4") == "out/m.q4.index.json");
  CHECK(Q4ShardIndexName("m") == "m.q4.index.json");
}

TEST_CASE("a sharded model is one model", "[q4][model]") {
  ShardedModel sharded;
  const auto model = sharded.Open();
  INFO(model.status().ToString());
  REQUIRE(model.ok());
  std::vector<std::string> names;
  for (const Q4Model::Location& at : (*model)->tensors()) names.push_back((*model)->tensor(at).name);
  CHECK(names == std::vector<std::string>{"a0", "a1", "c0", "c1"});
  REQUIRE((*model)->Find("c1") != nullptr);
  CHECK((*model)->Find("c1")->shard == 1);
  CHECK((*model)->Find("b") == nullptr);
  CHECK((*model)->ReadFile("config.json").value() == "{}");
  CHECK(IssueNumberOf((*model)->ReadFile("tokenizer.json").status()) == kQ4NoSuchFile.number);
  test::Bytes roots;
  for (const Q4ShardEntry& part : sharded.list.parts) roots.insert(roots.end(), part.root.begin(), part.root.end());
  CHECK((*model)->root() == Sha256Of(roots));
}

TEST_CASE("a shard list may have any white space that JSON allows", "[q4][shards]") {
  ShardedModel sharded;
  REQUIRE(sharded.Open().ok());
  const test::Bytes written = sharded.fs["dir/m.q4.index.json"];
  const std::string canonical(written.begin(), written.end());
  // docs/format.md section 10: two spaces a level, one newline at the end.
  CHECK(canonical.starts_with("{\n  \"format\": \"q4-shards-1\",\n  \"parts\": [\n    {\n      \"bytes\": "));
  CHECK(canonical.ends_with("\n  }\n}\n"));
  std::string compact, wide;
  for (const char c : canonical) {
    if (c != ' ' && c != '\n') compact += c;
    wide += c;
    if (c == '{' || c == ':' || c == ',') wide += " \r\n\t ";
  }
  for (const std::string& text : {canonical, compact, wide, "\n \t" + wide}) {
    CHECK(IsQ4ShardListHead(text.substr(0, kQ4ShardListHeadBytes)));
    sharded.fs["dir/m.q4.index.json"].assign(text.begin(), text.end());
    const auto model = Q4Model::Open(sharded.fs, "dir/m.q4.index.json");
    INFO(text << model.status().ToString());
    CHECK(model.ok());
  }
  for (const char* other :
       {"", "{", "[]", "{\"format\": \"pt\"}", "{\"weight_map\": {}}", "{\"format\": 1", "q4-shards-"}) {
    CHECK_FALSE(IsQ4ShardListHead(other));
  }
}

TEST_CASE("one container is a model, also when it is a shard", "[q4][model]") {
  ShardedModel sharded;
  const auto model = Q4Model::Open(sharded.fs, "dir/m-00002-of-00002.q4");
  REQUIRE(model.ok());
  CHECK((*model)->tensors().size() == 2);
  CHECK((*model)->root() == sharded.list.parts[1].root);
  CHECK((*model)->Find("a1") != nullptr);
  CHECK((*model)->Find("a0") == nullptr);
}

TEST_CASE("a list that is too large is refused before it is read", "[q4][shards]") {
  const test::TempDir dir;
  const std::string path = dir.Write("m.q4.index.json", "{}");
  std::filesystem::resize_file(path, limits::kShardIndexBytes + 1);  // what is added takes no place on the disk
  CHECK(IssueNumberOf(Q4Model::Open(PosixFileSystem(), path).status()) == kFileTooLarge.number);
}

TEST_CASE("a model is the one that was asked for, or is not", "[q4][model]") {
  ShardedModel sharded;
  const auto model = sharded.Open();
  REQUIRE(model.ok());
  Sha256 root = (*model)->root();
  CHECK((*model)->RequireRoot(std::nullopt).ok());
  CHECK((*model)->RequireRoot(root).ok());
  root[31] ^= 1;
  CHECK(IssueNumberOf((*model)->RequireRoot(root)) == kQ4OtherRoot.number);
}

TEST_CASE("a file is read up to the size that is asked for, and no further than it is wanted", "[q4][model]") {
  ShardedModel sharded;
  const auto model = sharded.Open();
  REQUIRE(model.ok());
  CHECK(*(*model)->ReadFile("config.json", 2) == "{}");
  CHECK(IssueNumberOf((*model)->ReadFile("config.json", 1).status()) == kFileTooLarge.number);
  const auto reader = Q4Reader::Open(sharded.fs, Q4ShardName("dir/m.q4", 0, 2));
  REQUIRE(reader.ok());
  const absl::Status status = (*reader)->ReadFileChunks(
      (*reader)->index().files.at(0),
      [](std::uint64_t, std::span<const std::uint8_t>) { return Fail(kCannotWrite, "out", {}); });
  CHECK(IssueNumberOf(status) == kCannotWrite.number);
}

TEST_CASE("a root is 64 hexadecimal digits", "[q4][model]") {
  CHECK(ParseQ4Root(std::string(64, 'a')));
  CHECK(ParseQ4Root("sha256:" + std::string(64, '0')) == Sha256{});
  for (const std::string& text : {std::string(), std::string(63, 'a'), std::string(65, 'a'), std::string(64, 'g')}) {
    CHECK_FALSE(ParseQ4Root(text));
  }
}

TEST_CASE("an empty file is no model", "[q4][model]") {
  MemoryFileSystem fs;
  fs["m.q4"].clear();
  CHECK(IssueNumberOf(Q4Model::Open(fs, "m.q4").status()) == kQ4NotAContainer.number);
}

TEST_CASE("the list is canonical and survives parsing", "[q4][shards]") {
  ShardedModel sharded;
  const std::string text = EncodeQ4ShardList(sharded.list);
  const auto parsed = ParseQ4ShardList(text, "list");
  REQUIRE(parsed.ok());
  CHECK(EncodeQ4ShardList(*parsed) == text);
  std::reverse(sharded.list.tensors.begin(), sharded.list.tensors.end());
  CHECK(EncodeQ4ShardList(sharded.list) == text);
}

TEST_CASE("shards that are not those of the list are refused", "[q4][model]") {
  ShardedModel sharded;
  const auto refused_for = [&sharded](const std::string& what) {
    const absl::Status status = sharded.Open().status();
    INFO(status.ToString());
    CHECK(ExitCodeOf(status) == ExitCode::kCheckFailed);
    CHECK(IssueNumberOf(status) == kQ4ShardDiffers.number);
    CHECK(MessageOf(status).find(": " + what + ": ") != std::string::npos);
  };
  SECTION("size") {
    ++sharded.list.parts[0].bytes;
    refused_for("size");
  }
  SECTION("root") {
    sharded.list.parts[1].root[0] ^= 1;
    refused_for("root");
  }
  SECTION("order") {
    std::swap(sharded.list.parts[0], sharded.list.parts[1]);
    refused_for("header");
  }
  SECTION("a tensor too many") {
    sharded.list.tensors.emplace_back("z", 0);
    refused_for("tensors");
  }
  SECTION("a tensor too few") {
    sharded.list.tensors.pop_back();
    refused_for("tensors");
  }
  SECTION("a tensor in another shard") {
    sharded.list.tensors[0].second = 1;
    refused_for("tensors");
  }
  SECTION("a damaged shard") {
    sharded.fs["dir/m-00001-of-00002.q4"][100] ^= 1;
    CHECK(IssueNumberOf(sharded.Open().status()) == kQ4HeaderDamaged.number);
  }
  SECTION("a missing shard") {
    REQUIRE(sharded.fs.Remove("dir/m-00001-of-00002.q4").ok());
    CHECK_FALSE(sharded.Open().ok());
  }
}

TEST_CASE("a list that breaks a rule is refused", "[q4][shards]") {
  const Q4ShardList list = ShardedModel().list;
  const std::string good = EncodeQ4ShardList(list);
  const auto with = [&good](const std::string& from, const std::string& to) {
    std::string text = good;
    const std::size_t at = text.find(from);
    REQUIRE(at != std::string::npos);
    return text.replace(at, from.size(), to);
  };
  const std::string part_root = HexOf(list.parts[0].root);
  const std::string model_root = HexOf(Q4ModelRoot({list.parts[0].root, list.parts[1].root}));
  Q4ShardList crowd = list;
  crowd.parts.assign(10'001, list.parts[0]);
  const std::string kDocument = "not an object of format, parts, root and tensors";
  const std::string kPart = "parts[1]: ";
  const std::pair<std::string, std::string> kRows[] = {
      // text of a list, and what the message says of it
      {"{}", kDocument},
      {"[]", kDocument},
      {"{", "offset"},
      {with("\"format\"", "\"Format\""), kDocument},
      {with("\"tensors\"", "\"extra\": 1, \"tensors\""), kDocument},
      {with("q4-shards-1", "q4-shards-2"), "format: "},
      {with("\"a0\": 0", "\"a0\": 2"), "tensor 'a0': "},
      {with("\"a0\": 0", "\"a0\": -1"), "tensor 'a0': "},
      {with("\"a0\": 0", "\"a0\": \"0\""), "tensor 'a0': "},
      {with("\"a0\": 0", "\"a1\": 0"), "'a1'"},
      {with("m-00002-of-00002.q4", "../m-00001-of-00002.q4"), kPart},
      {with("m-00002-of-00002.q4", ".hidden"), kPart},
      {with("m-00002-of-00002.q4", "/etc/passwd"), kPart},
      {with("m-00002-of-00002.q4", ""), kPart},
      {with(part_root, part_root.substr(1)), "parts[0]: "},
      {with(part_root, part_root + "0"), "parts[0]: "},
      {with(part_root, std::string(64, 'g')), "parts[0]: "},
      {with(part_root, std::string(64, '0')), ": root: "},
      {with(model_root, std::string(64, '0')), ": root: "},
      {with(model_root, model_root.substr(1)), ": root: "},
      {with("\"name\": \"m-00001-of-00002.q4\"", "\"name\": 1"), "parts[0]: "},
      {with("\"name\": \"m-00001-of-00002.q4\"", "\"nome\": \"x\""), "parts[0]: "},
      {with("\"name\": \"m-00001-of-00002.q4\"", "\"name\": \"x\", \"more\": 1"), "parts[0]: "},
      {with("\"bytes\": ", "\"bytes\": -"), "parts[0]: "},
      {EncodeQ4ShardList({}), "parts: "},
      {EncodeQ4ShardList(crowd), "parts: "},
      {R"({"format": "q4-shards-1", "parts": [7], "root": "", "tensors": {}})", "parts[0]: "},
  };
  for (const auto& [text, message] : kRows) {
    const absl::Status status = ParseQ4ShardList(text, "list").status();
    INFO(text.substr(0, 1000) << "\n" << status.ToString());
    CHECK(ExitCodeOf(status) == ExitCode::kInvalidInput);
    CHECK(MessageOf(status).find(message) != std::string::npos);
  }
}

TEST_CASE("more tensors than a checkpoint may have are refused", "[q4][shards]") {
  std::string tensors = "\"0\":0";
  for (int i = 1; i <= 1'000'000; ++i) tensors += ",\"" + std::to_string(i) + "\":0";
  const Q4ShardEntry part{"a.q4", 1, {}};
  const std::string root = HexOf(part.root);
  const absl::Status status =
      ParseQ4ShardList(R"({"format":"q4-shards-1","parts":[{"bytes":1,"name":"a.q4","root":")" + root +
                           R"("}],"root":")" + root + R"(","tensors":{)" + tensors + "}}",
                       "list")
          .status();
  CHECK(IssueNumberOf(status) == kQ4ShardList.number);
  CHECK(MessageOf(status).find("1000001 of them") != std::string::npos);
}

// Opens the model at `path`, reads all of it and verifies its shards.
absl::Status ReadWholeModel(FileSystem& fs, const std::string& path) {
  Q4_ASSIGN_OR_RETURN(const auto model, Q4Model::Open(fs, path));
  Q4_ASSIGN_OR_RETURN(const std::string config, model->ReadFile("config.json"));
  if (config != "{}") return absl::DataLossError(config);
  for (const Q4Model::Location& at : model->tensors()) {
    Q4_RETURN_IF_ERROR(ReadQ4Tensor(*model->shards()[at.shard], model->tensor(at)).status());
  }
  for (const auto& shard : model->shards()) {
    for (std::uint64_t chunk = 0; chunk < shard->index().chunks.size(); ++chunk) {
      Q4_RETURN_IF_ERROR(shard->ReadVerifiedChunk(chunk).status());
    }
    Q4_RETURN_IF_ERROR(VerifyQ4Container(*shard));
  }
  return absl::OkStatus();
}

TEST_CASE("whichever call fails while a model is opened, read and verified, its error comes through", "[q4][model]") {
  ShardedModel sharded;
  REQUIRE(sharded.Open().ok());
  const test::TempDir dir;
  const std::vector<std::string> names = sharded.fs.ListDirectory("dir").value();
  for (const std::string& name : names) {
    dir.Write(BaseNameOf(name), test::AsText(sharded.fs[name]));
  }
  std::int64_t calls = 0;
  for (bool failed = true; failed; ++calls) {
    test::FaultyFileSystem fs(calls);
    const absl::Status status = ReadWholeModel(fs, dir.File("m.q4.index.json"));
    INFO("call " << calls << ": " << status.message());
    failed = fs.failed();
    CHECK(IssueNumberOf(status) == (failed ? kCannotWrite.number : 0));
  }
  CHECK(calls > 50);
  std::cout << "sharded model: each of " << calls - 1 << " calls failed in turn\n";
}

}  // namespace
}  // namespace q4
