// The source is read once from storage, digests included, whatever the threads.
#include <fmt/format.h>

#include <atomic>
#include <memory>
#include <string>
#include <utility>

#include "libconvert/convert/convert.h"
#include "tests/support/catch.h"
#include "tests/support/convert_setup.h"
#include "tests/support/forwarding_file_system.h"
#include "tests/support/safetensors_builder.h"
#include "tests/support/temp_dir.h"

namespace q4 {
namespace {

using test::FileSha256;
using test::kMiB;
using test::SafetensorsBuilder;
using test::Setup;
using test::TempDir;
using test::Weights;

// Counts what is read of files whose names end in ".safetensors".
class CountingFileSystem : public test::ForwardingFileSystem {
 public:
  using FileSystem::OpenForRead;
  absl::StatusOr<std::unique_ptr<RandomAccessFile>> OpenForRead(const std::string& path, SymbolicLinks links) override {
    Q4_ASSIGN_OR_RETURN(std::unique_ptr<RandomAccessFile> file, ForwardingFileSystem::OpenForRead(path, links));
    if (!path.ends_with(".safetensors")) return file;
    size += file->size();
    return std::make_unique<File>(std::move(file), &read);
  }
  std::atomic<std::uint64_t> read = 0, size = 0;

 private:
  class File : public test::ForwardingFile {
   public:
    File(std::unique_ptr<RandomAccessFile> file, std::atomic<std::uint64_t>* read)
        : ForwardingFile(std::move(file)), read_(read) {}
    absl::Status ReadAt(std::uint64_t offset, std::span<std::uint8_t> out) const override {
      *read_ += out.size();
      return ForwardingFile::ReadAt(offset, out);
    }

   private:
    std::atomic<std::uint64_t>* read_;
  };
};

std::string WriteSixShards(const TempDir& dir) {
  std::string map;
  for (int shard = 1; shard <= 6; ++shard) {
    SafetensorsBuilder builder;
    const std::string file = fmt::format("model-0000{}-of-00006.safetensors", shard);
    // Kept and quantized; files of different lengths.
    for (const std::string& name :
         {fmt::format("layers.{}.mlp.up_proj.weight", shard), fmt::format("layers.{}.norm.weight", shard)}) {
      const std::uint64_t rows = name.find("norm") != std::string::npos ? 1 : 200 + 50 * static_cast<unsigned>(shard);
      builder.Add(name, "BF16", {rows, 1000}, Weights(DType::kBF16, rows * 1000, static_cast<std::uint32_t>(shard)));
      map += (map.empty() ? "" : ",") + fmt::format(R"("{}":"{}")", name, file);
    }
    dir.Write(file, builder.Build());
  }
  return dir.Write("model.safetensors.index.json", R"({"metadata":{},"weight_map":{)" + map + "}}");
}

}  // namespace

TEST_CASE("the source is read once, on any number of threads", "[threads]") {
  Setup setup(WriteSixShards);
  std::string expected;
  for (const SourceDigest digest : {SourceDigest::kSha256, SourceDigest::kXxh3}) {
    setup.options.source_digest = digest;
    expected.clear();
    for (const unsigned threads : {1u, 4u, 8u, 16u}) {
      CountingFileSystem fs;
      const auto checkpoint = OpenCheckpoint(fs, setup.checkpoint->path());
      REQUIRE(checkpoint.ok());
      const absl::StatusOr<ConversionPlan> plan = PlanConversion(**checkpoint, "", setup.options);
      REQUIRE(plan.ok());
      RunOptions run;
      run.threads = threads;
      // The least that the threads and all digests could do with, and plenty.
      run.max_memory = threads == 4 ? 64 * kMiB : 512 * kMiB;
      run.force = true;
      const auto report = RunConversion(fs, **checkpoint, *plan, setup.options, run, setup.dir.File("once.q4"));
      INFO(MessageOf(report.status()));
      REQUIRE(report.ok());
      INFO(fs.read << " bytes of " << fs.size);
      CHECK(static_cast<double>(fs.read) <= 1.01 * static_cast<double>(fs.size));
      const std::string sha256 = FileSha256(setup.dir.File("once.q4"));
      if (expected.empty()) expected = sha256;
      CHECK(sha256 == expected);
    }
  }
}

}  // namespace q4
