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
    for (const LoadForm form : kAllForms) {
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

// The caller's own memory on the GPU, for each part by itself.
struct GpuParts {
  std::vector<std::unique_ptr<MemoryBlock>> memory;
  LoadPlaces places;

  GpuParts(const LoadPlan& plan, LoadMemory& gpu) {
    for (const LoadPart& part : plan.parts) {
      memory.push_back(test::Must(gpu.Allocate(part.bytes)));
      places.parts.emplace_back(memory.back()->data(), part.bytes);
    }
  }
};

TEST_CASE("what fills a caller's memory of the GPU is what the reader gives, and slices are those of it", "[gpu]") {
  const auto memory = Gpu();
  Q4Sample sample = LoaderSample();
  sample.Add(QuantizedTensor("sliced", Q4Scheme::kNf4, {1536, 4096}, 64, true));
  sample.Sort();
  sample.compression.zstd = GENERATE(false, true);
  const auto files = OneFile(sample);
  const auto model = files->Open();
  for (const LoadForm form : kAllForms) {
    LoadPlanOptions what;
    what.form = form;
    LoadFillOptions how;
    // The default stream, on which nothing is under way.
    how.after_stream = nullptr;
    const LoadPlan whole = test::Must(PlanLoad(*model, what));
    const GpuParts parts(whole, *memory);
    REQUIRE(FillLoad(whole, *memory, parts.places, how).ok());
    for (const LoadedTensor& tensor : LoadedTensors(whole, parts.places)) RequireRight(*model, *memory, tensor, form);
    what.tensors = {"sliced"};
    for (const LoadSlice& slice :
         {LoadSlice{"sliced", 0, 768, 1151}, LoadSlice{"sliced", 1, 1024, 1536}, LoadSlice{"sliced", 0, 4, 1536}}) {
      what.slices = {slice};
      const LoadPlan plan = test::Must(PlanLoad(*model, what));
      const GpuParts mine(plan, *memory);
      REQUIRE(FillLoad(plan, *memory, mine.places, {}).ok());
      RequireSlice(*model, *memory, LoadedTensors(plan, mine.places)[0], slice, form);
    }
  }
}

TEST_CASE("a fill waits for the caller's stream", "[gpu]") {
  const auto memory = Gpu();
  Q4Sample sample;
  sample.Add(RawTensor("kept", DType::kU8, {std::uint64_t{8} << 20}));
  sample.Sort();
  const auto files = OneFile(sample);
  const auto model = files->Open();
  const LoadPlan plan = test::Must(PlanLoad(*model, {}));
  const GpuParts parts(plan, *memory);
  cuda::Stream stream;
  REQUIRE(cuda::SetDevice(0).ok());
  REQUIRE(stream.Create().ok());
  // Work that would overwrite what is loaded if it were not waited for: some 100 ms of it.
  const auto large = test::Must(memory->Allocate(std::uint64_t{1} << 30));
  for (int i = 0; i < 200; ++i) REQUIRE(cuda::Fill(large->data(), 1, large->bytes(), stream.handle()).ok());
  REQUIRE(cuda::Fill(parts.places.parts[0].data(), 0xAA, plan.parts[0].bytes, stream.handle()).ok());
  LoadFillOptions how;
  how.after_stream = stream.handle();
  REQUIRE(FillLoad(plan, *memory, parts.places, how).ok());
  REQUIRE(cuda::Synchronize(stream.handle()).ok());
  RequireRight(*model, *memory, LoadedTensors(plan, parts.places)[0], LoadForm::kQuantized);
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
