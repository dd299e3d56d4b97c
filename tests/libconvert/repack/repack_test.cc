// What the tools' test (tests/cli/repack_test.py) cannot see: threads, chunks of several sizes, interruption, each call
// that fails, and what the provenance says after several rounds.
#include "libconvert/repack/repack.h"

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "formats/base/json_value.h"
#include "formats/base/status.h"
#include "libconvert/model/content_identity.h"
#include "libconvert/model/provenance_view.h"
#include "libconvert/repack/repack_issues.h"
#include "tests/support/catch.h"
#include "tests/support/faulty_file_system.h"
#include "tests/support/must.h"
#include "tests/support/q4_builder.h"
#include "tests/support/temp_dir.h"

namespace q4 {
namespace {

using test::Must;
using test::TempDir;

// Parts of more than one chunk, an empty tensor, an empty file between others, all kinds of parts.
std::string WriteContainer(const TempDir& dir) {
  test::Q4Builder builder;
  builder.AddFile("a.json", "{}");
  builder.AddFile("b.txt", "");
  builder.AddFile("c.txt", std::string(9u << 20, 'c'));
  test::Bytes kept((9u << 20) + 6);
  for (std::size_t i = 0; i < kept.size(); ++i) kept[i] = static_cast<std::uint8_t>(i * 7 % 64);
  builder.AddRaw("kept", DType::kBF16, {kept.size() / 2}, kept);
  builder.AddRaw("none", DType::kF32, {0, 4}, {});
  const test::Bytes weights = [] {
    std::vector<float> values(4100);
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(static_cast<int>(i % 91) - 45) / 64;
    return test::BytesOf(values);
  }();
  builder.AddQuantized("nested", DType::kF32, {41, 100}, weights, Q4Scheme::kNf4, 64, /*nested=*/true);
  builder.AddQuantized("plain", DType::kF32, {41, 100}, weights, Q4Scheme::kFp4, 32, /*nested=*/false);
  builder.Write(PosixFileSystem(), dir.File("m.q4"));
  return dir.File("m.q4");
}

absl::StatusOr<RepackReport> Run(FileSystem& fs, const std::string& input, const std::string& output,
                                 const RepackOptions& options, RepackRun run = {}) {
  Q4_ASSIGN_OR_RETURN(const std::unique_ptr<Q4Model> model, Q4Model::Open(fs, input));
  Q4_ASSIGN_OR_RETURN(const RepackPlan plan, PlanRepack(fs, *model, options));
  return Repack(fs, *model, plan, run, output);
}

Sha256 ContentOf(const std::string& path) {
  return Must(ContentIdentity(*Must(Q4Model::Open(PosixFileSystem(), path)), 2, nullptr));
}

RepackOptions Packed(bool zstd, std::uint64_t shard_bytes) {
  RepackOptions options;
  options.compression = Q4Compression{zstd, 3};
  options.shard_bytes = shard_bytes;
  return options;
}

std::vector<std::string> LeftOutNames(const std::string& path) {
  std::vector<std::string> names;
  const auto model = Must(Q4Model::Open(PosixFileSystem(), path));
  for (const LeftOutFile& file : Must(ReadProvenance(*model)).left_out) names.push_back(file.name + ": " + file.reason);
  return names;
}

TEST_CASE("packed anew and back, the content and every stored byte are the same, on any number of threads",
          "[repack]") {
  const TempDir dir;
  const std::string input = WriteContainer(dir);
  FileSystem& fs = PosixFileSystem();
  const Sha256 content = ContentOf(input);
  for (const bool zstd : {true, false}) {
    for (const std::uint64_t shard_bytes : {std::uint64_t{0}, std::uint64_t{1}}) {
      INFO("zstd " << zstd << ", shards of " << shard_bytes);
      const RepackOptions options = Packed(zstd, shard_bytes);
      std::vector<std::vector<std::string>> files;
      for (const unsigned threads : {1u, 5u}) {
        RepackRun run;
        run.threads = threads;
        run.force = true;
        const RepackReport report = Must(Run(fs, input, dir.File("out.q4"), options, run));
        CHECK(report.threads == threads);
        CHECK(report.shards.size() == (shard_bytes == 0 ? 1 : 4));
        std::vector<std::string>& bytes = files.emplace_back();
        for (const ConvertedShard& shard : report.shards) bytes.push_back(test::ReadBytes(shard.path));
      }
      CHECK((files[0] == files[1]));
      const std::string out = dir.File(shard_bytes == 0 ? "out.q4" : "out.q4.index.json");
      CHECK(ContentOf(out) == content);
      RepackRun run;
      run.force = true;
      Must(Run(fs, out, dir.File("back.q4"), Packed(false, 0), run));
      const auto before = Must(Q4Reader::Open(fs, input)), after = Must(Q4Reader::Open(fs, dir.File("back.q4")));
      REQUIRE(before->index().chunks.size() == after->index().chunks.size());
      for (std::size_t i = 0; i < before->index().chunks.size(); ++i) {
        CHECK(before->index().chunks[i].sha256 == after->index().chunks[i].sha256);
        CHECK(before->index().chunks[i].offset == after->index().chunks[i].offset);
      }
      std::filesystem::remove_all(out);
    }
  }
}

TEST_CASE("an interrupted run leaves nothing; too little memory is refused before", "[repack]") {
  const TempDir dir;
  const std::string input = WriteContainer(dir);
  const std::atomic<bool> cancel = true;
  RepackRun run;
  run.cancel = &cancel;
  const auto run_with = [&] {
    return Run(PosixFileSystem(), input, dir.File("out.q4"), Packed(true, 1), run).status();
  };
  CHECK(IssueNumberOf(run_with()) == kRepackInterrupted.number);
  CHECK(dir.Count() == 1);
  const auto model = Must(Q4Model::Open(PosixFileSystem(), input));
  const RepackPlan plan = Must(PlanRepack(PosixFileSystem(), *model, Packed(true, 1)));
  run.cancel = nullptr;
  run.max_memory = LeastRepackMemory(*model, plan) - 1;
  CHECK(IssueNumberOf(run_with()) == kRepackMemory.number);
  CHECK(dir.Count() == 1);
  run.max_memory += 1;
  CHECK(run_with().ok());
}

TEST_CASE("whichever call fails, the output is the old one or the new one", "[repack]") {
  const TempDir dir;
  test::Q4Builder builder;
  builder.AddFile("a.json", "{}");
  builder.AddRaw("kept", DType::kF32, {64}, test::Bytes(256, 1));
  const std::string input = dir.File("m.q4"), out = dir.File("out.q4");
  builder.Write(PosixFileSystem(), input);
  RepackRun run;
  run.force = true;
  run.threads = 1;
  Must(Run(PosixFileSystem(), input, out, Packed(true, 0), run));
  const std::string complete = test::ReadBytes(out);
  builder.AddRaw("other", DType::kF32, {64}, test::Bytes(256, 2));
  builder.Write(PosixFileSystem(), dir.File("old.q4"));
  const std::string old = test::ReadBytes(dir.File("old.q4"));
  std::int64_t at = 0;
  for (;; ++at) {
    dir.Write("out.q4", old);
    test::FaultyFileSystem fs(at);
    const absl::Status status = Run(fs, input, out, Packed(true, 0), run).status();
    INFO("call " << at << ", " << fs.failed_call() << ": " << MessageOf(status));
    if (!fs.failed()) {
      CHECK(status.ok());
      break;
    }
    CHECK_FALSE(status.ok());
    const std::string now = test::ReadBytes(out);
    CHECK((now == old || now == complete));
    // What cannot be told to be ours stays where it is.
    if (!fs.failed_call().starts_with("CheckOurs")) CHECK_FALSE(std::filesystem::exists(out + ".partial"));
  }
  CHECK(at > 10);
}

TEST_CASE("shards that a killed run has published are replaced without --force, others are not", "[repack]") {
  const TempDir dir;
  const std::string input = WriteContainer(dir), list = dir.File("out.q4.index.json");
  FileSystem& fs = PosixFileSystem();
  const RepackReport report = Must(Run(fs, input, dir.File("out.q4"), Packed(false, 1)));
  // As it lies there when the run is killed before the last shard.
  std::filesystem::remove(list);
  std::filesystem::remove(report.shards.back().path);
  const std::string first = test::ReadBytes(report.shards.front().path);
  CHECK_FALSE(Run(fs, input, dir.File("out.q4"), Packed(true, 1)).ok());
  CHECK(test::ReadBytes(report.shards.front().path) == first);
  Must(Run(fs, input, dir.File("out.q4"), Packed(false, 1)));
  CHECK(ContentOf(list) == ContentOf(input));
}

TEST_CASE("however often it is repacked, a file has one note and the parent is the last container", "[repack]") {
  const TempDir dir;
  FileSystem& fs = PosixFileSystem();
  std::string input = WriteContainer(dir);
  dir.Write("new", "new");
  int number = 0;
  const auto next = [&](const RepackOptions& options) {
    const std::string out = dir.File("r" + std::to_string(number++) + ".q4");
    const Sha256 parent = Must(Q4Model::Open(fs, input))->root();
    Must(Run(fs, input, out, options));
    const auto model = Must(Q4Model::Open(fs, out));
    const Json& document = Must(ReadProvenance(*model)).document;
    CHECK(document.at("parent").at("root") == Json(HexOf(parent)));
    input = out;
    return LeftOutNames(out);
  };
  RepackOptions add, drop, replace, subset;
  add.added = {{"d.txt", dir.File("new")}};
  drop.dropped = {"d.txt"};
  replace.added = {{"a.json", dir.File("new")}};
  const std::string added = "d.txt: not of the source: added when the container was repacked";
  CHECK(next(add) == std::vector<std::string>{added});
  CHECK(next(add) == std::vector<std::string>{added});
  CHECK(next(drop).empty());
  drop.dropped = {"a.json"};
  CHECK(next(drop) == std::vector<std::string>{"a.json: left out when the container was repacked"});
  const std::string replaced = "a.json: another file took its place when the container was repacked";
  CHECK(next(replace) == std::vector<std::string>{replaced});
  CHECK(next(replace) == std::vector<std::string>{replaced});
  subset.tensor_pattern = "e";  // not "plain"
  CHECK(next(subset) == std::vector<std::string>{replaced, "1 tensors: not taken when the container was repacked"});
  subset.tensor_pattern = "^n";
  CHECK(next(subset) == std::vector<std::string>{replaced, "2 tensors: not taken when the container was repacked"});
  CHECK(Must(Q4Model::Open(fs, input))->tensors().size() == 2);
}

}  // namespace
}  // namespace q4
