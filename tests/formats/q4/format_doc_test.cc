// docs/format.md against the code: the hex dump that it shows is the file that the writer makes, and files of every
// released version stay readable.
#include <cstdlib>
#include <iterator>
#include <sstream>

#include "formats/base/file.h"
#include "formats/q4/reader.h"
#include "formats/q4/shards.h"
#include "tests/formats/q4/samples.h"
#include "tests/support/bytes.h"
#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"

namespace q4 {
namespace {

const std::string kGoldenFolder = std::string(Q4_TESTDATA) + "/q4/";

test::Bytes FileBytes(const std::string& path) {
  const auto text = ReadWholeFile(PosixFileSystem(), path, 1u << 20);
  INFO(text.status().ToString());
  REQUIRE(text.ok());
  return test::Bytes(text->begin(), text->end());
}

struct Golden {
  const char* name;
  Q4Sample (*sample)();
  bool compressed;
  const char* root;
};

// Roots are written here by hand: neither file nor code can change without a difference.
constexpr Golden kGoldens[] = {
    {"v1_two_tensors.q4", TwoTensorSample, false, "428c2bf7a0824eb24bba81fe81fb41972fedae5eabc2a74bc4642f273c854357"},
    {"v1_full.q4", FullSample, false, "f2b7b50b4ca2e0bfc9fd96f5065ab2f68e3db9eb89cb2c2cf33f7e62fe072dd6"},
    {"v1_sharded-00001-of-00002.q4", [] { return ShardSample(0); }, false,
     "1eb3ddd67dc43169d4749bda3854e8a86890ae40110b24ec01e5dc50469d1f1d"},
    {"v1_sharded-00002-of-00002.q4", [] { return ShardSample(1); }, false,
     "6ee8b456843d9d70411dd97ded874380cf1ffdb9eac08608504055686baf81bd"},
    {"v1_full_zstd.q4", FullSample, true, "3e2778e2e92f77ebcdbaec3ed3b77c6cd060249b81ba60c03024fd860c1806dd"},
};

constexpr char kGoldenList[] = "v1_sharded.q4.index.json";

// The list of the two golden shards.
std::string GoldenList() {
  Q4ShardList list;
  for (std::uint32_t shard = 0; shard < 2; ++shard) {
    const OpenedSample opened = OpenSample(WriteSample(ShardSample(shard)));
    REQUIRE(opened.reader.ok());
    const Q4Seal& seal = (*opened.reader)->seal();
    list.parts.push_back({Q4ShardName("v1_sharded.q4", shard, 2), seal.file_bytes, seal.root});
    for (const Q4Tensor& tensor : (*opened.reader)->index().tensors) list.tensors.emplace_back(tensor.name, shard);
  }
  return EncodeQ4ShardList(list);
}

TEST_CASE("golden files open, verify and hold what was put into them", "[q4][golden]") {
  for (const Golden& golden : kGoldens) {
    INFO(golden.name);
    const auto reader = Q4Reader::Open(PosixFileSystem(), kGoldenFolder + golden.name);
    REQUIRE(reader.ok());
    CHECK(VerifyQ4Container(**reader).ok());
    CHECK(HexOf((*reader)->seal().root) == golden.root);
    const Q4Sample sample = golden.sample();
    REQUIRE((*reader)->index().tensors.size() == sample.plan.tensors.size());
    for (const Q4Tensor& tensor : (*reader)->index().tensors) {
      for (const Q4Part part : Q4PartKindsOf(tensor)) {
        const auto bytes = (*reader)->ReadPart(tensor, part);
        REQUIRE(bytes.ok());
        CHECK(*bytes == RawBytes(sample, tensor, part));
      }
    }
  }
}

TEST_CASE("the writer still makes the golden files", "[q4][golden]") {
  for (const Golden& golden : kGoldens) {
    // What zstd makes of a chunk depends on its version.
    if (!golden.compressed) CHECK(WriteSample(golden.sample()) == FileBytes(kGoldenFolder + golden.name));
  }
}

TEST_CASE("the golden shards are one model, and the list of them is what is written", "[q4][golden]") {
  const std::string path = kGoldenFolder + kGoldenList;
  const auto model = Q4Model::Open(PosixFileSystem(), path);
  INFO(model.status().ToString());
  REQUIRE(model.ok());
  CHECK(HexOf((*model)->root()) == "2dd75f897ef0ea73f1f074d037d6b16f793a80246f5b8aa1e405b4cdee882868");
  const test::Bytes bytes = FileBytes(path);
  CHECK(GoldenList() == std::string(bytes.begin(), bytes.end()));
}

// Lines "OFFSET  HEX HEX ...  meaning" between the fences behind the heading of the dump; "*" lines are comments.
TEST_CASE("the dump in docs/format.md is the golden file", "[q4][golden]") {
  const test::Bytes bytes = FileBytes(kGoldenFolder + "v1_two_tensors.q4");
  const test::Bytes doc = FileBytes(std::string(Q4_TESTDATA) + "/../docs/format.md");
  std::istringstream text(std::string(doc.begin(), doc.end()));
  std::string line;
  while (std::getline(text, line) && line.rfind("```q4dump", 0) != 0) {
  }
  std::vector<bool> shown(bytes.size());
  std::size_t lines = 0;
  while (std::getline(text, line) && line != "```") {
    if (line.size() < 10 || line[0] == ' ' || line[0] == '*') continue;
    std::size_t at = std::stoul(line.substr(0, 8), nullptr, 16);
    for (std::size_t column = 10; column + 2 <= line.size() && line[column] != ' '; column += 3, ++at) {
      INFO(line);
      REQUIRE(at < bytes.size());
      CHECK(std::stoul(line.substr(column, 2), nullptr, 16) == bytes[at]);
      shown[at] = true;
    }
    ++lines;
  }
  CHECK(lines > 50);
  // What is not shown is zero.
  for (std::size_t at = 0; at < bytes.size(); ++at) {
    if (!shown[at] && bytes[at] != 0) FAIL("byte " << at << " is not shown");
  }
}

// Not run by default. Golden files are made once for each version of the format:
//   Q4_GOLDEN_DIR=testdata/q4 formats_test "[write-golden]"
TEST_CASE("write golden files", "[.][write-golden]") {
  const char* folder = std::getenv("Q4_GOLDEN_DIR");
  REQUIRE(folder != nullptr);
  for (const Golden& golden : kGoldens) {
    Q4Sample sample = golden.sample();
    sample.compression.zstd = golden.compressed;
    const test::Bytes bytes = WriteSample(sample);
    const std::string path = std::string(folder) + "/" + golden.name;
    test::WriteBytes(path, test::AsText(bytes));
    REQUIRE(FileBytes(path) == bytes);
  }
  std::ofstream list(std::string(folder) + "/" + kGoldenList, std::ios::binary);
  list << GoldenList();
  REQUIRE(list.good());
}

}  // namespace
}  // namespace q4
