// The loader into the memory of a GPU: the comparisons of load_test.cc, by copying back.
#include <cstring>

#include "formats/base/status.h"
#include "formats/q4/q4_issues.h"
#include "kernels/cuda_runtime.h"
#include "libconvert/engine/device_issues.h"
#include "libconvert/load/load.h"
#include "tests/libconvert/load/load_testing.h"
#include "tests/support/catch.h"
#include "tests/support/must.h"

namespace q4 {
namespace {

std::unique_ptr<LoadMemory> Gpu() { return test::Must(MakeCudaMemory(0)); }

std::uint64_t FreeBytes() {
  cuda::DeviceInfo info;
  REQUIRE(cuda::GetDeviceInfo(0, &info).ok());
  return info.free_bytes;
}

void LoadAndCompare(ModelFiles& files, LoadMemory& memory, const LoadOptions& options) {
  const auto model = files.Open();
  const auto loaded = LoadModel(*model, memory, options);
  INFO(loaded.status().ToString());
  REQUIRE(loaded.ok());
  RequireAllRight(*model, memory, *loaded, options.form);
}

TEST_CASE("what is loaded to the GPU is what the reader gives, in every form", "[gpu]") {
  const auto memory = Gpu();
  for (const bool zstd : {false, true}) {
    Q4Sample sample = LoaderSample();
    sample.compression.zstd = zstd;
    const auto files = OneFile(sample);
    for (const LoadForm form : {LoadForm::kQuantized, LoadForm::kFlatScales, LoadForm::kSource, LoadForm::kF32,
                                LoadForm::kF16, LoadForm::kBF16}) {
      LoadOptions options;
      options.form = form;
      LoadAndCompare(*files, *memory, options);
      options.scratch_bytes = std::uint64_t{1} << 20;
      options.slot_bytes = std::uint64_t{64} << 10;
      options.threads = 3;
      options.uncached = true;
      LoadAndCompare(*files, *memory, options);
    }
  }
}

TEST_CASE("shards load to the GPU", "[gpu]") {
  const auto memory = Gpu();
  const auto files = TwoShards();
  LoadAndCompare(*files, *memory, {});
  LoadOptions options;
  options.form = LoadForm::kBF16;
  options.threads = 7;
  options.slots = 3;
  LoadAndCompare(*files, *memory, options);
}

TEST_CASE("damage is found on the way to the GPU, and nothing is left there", "[gpu]") {
  const auto memory = Gpu();
  const auto files = OneFile(LoaderSample());
  LoadAndCompare(*files, *memory, {});
  const std::uint64_t free_before = FreeBytes();
  const auto model = files->Open();
  const Q4Reader& reader = *model->shards()[0];
  const std::uint64_t chunk = reader.index().chunks.size() - 2;
  files->fs["m.q4"][reader.index().chunks[chunk].offset] ^= 1;
  const auto loaded = LoadModel(*model, *memory, {});
  REQUIRE(!loaded.ok());
  CHECK(IssueNumberOf(loaded.status()) == kQ4ChunkDamaged.number);
  CHECK(MessageOf(loaded.status()).find(reader.DescribeChunk(chunk)) != std::string::npos);
  CHECK(FreeBytes() >= free_before);
}

TEST_CASE("a pinned root binds what is loaded to the GPU", "[gpu]") { RequirePinnedRootBinds(*Gpu()); }

TEST_CASE("a GPU without enough memory says what was wanted and what is free", "[gpu]") {
  const auto memory = Gpu();
  const auto block = memory->Allocate(std::uint64_t{1} << 45);
  REQUIRE(!block.ok());
  CHECK(IssueNumberOf(block.status()) == kDeviceMemory.number);
  const std::string message = MessageOf(block.status());
  INFO(message);
  CHECK(message.find(std::to_string(std::uint64_t{1} << 45) + " bytes wanted") != std::string::npos);
  CHECK(message.find("free") != std::string::npos);
  const auto small = memory->Allocate(4096);
  CHECK(small.ok());
}

TEST_CASE("a device that does not exist is named", "[gpu]") {
  const auto memory = MakeCudaMemory(1000);
  REQUIRE(!memory.ok());
  CHECK(IssueNumberOf(memory.status()) == kNoDevice.number);
  CHECK(MessageOf(memory.status()).find("cuda:1000") != std::string::npos);
}

}  // namespace
}  // namespace q4
