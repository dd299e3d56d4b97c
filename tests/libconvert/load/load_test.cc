// The loader without a GPU: into host memory, and into memory behind a ring of slots (load_testing.h).
#include "libconvert/load/load.h"

#include <iterator>
#include <limits>

#include "formats/base/status.h"
#include "formats/q4/q4_issues.h"
#include "libconvert/load/load_issues.h"
#include "tests/libconvert/load/load_testing.h"
#include "tests/support/bytes.h"
#include "tests/support/catch.h"
#include "tests/support/cpu_kernels.h"
#include "tests/support/must.h"
#include "tests/support/temp_dir.h"

namespace q4 {
namespace {

LoadedModel MustLoad(const Q4Model& model, LoadMemory& memory, const LoadOptions& options) {
  return test::Must(LoadModel(model, memory, options));
}

void LoadAndCompare(ModelFiles& files, LoadMemory& memory, const LoadOptions& options) {
  const auto model = files.Open();
  const LoadedModel loaded = MustLoad(*model, memory, options);
  RequireAllRight(*model, memory, loaded, options.form);
}

// The status of loading what must fail, through both kinds of memory and with several threads; all must agree.
absl::Status MustFail(ModelFiles& files, LoadOptions options = {}) {
  const auto model = files.Open();
  absl::Status first;
  for (const unsigned threads : {1u, 2u, 7u}) {
    options.threads = threads;
    const auto host = MakeHostMemory();
    RingMemory ring;
    for (LoadMemory* memory : {host.get(), static_cast<LoadMemory*>(&ring)}) {
      options.slot_bytes = memory == &ring ? 4096 : std::uint64_t{2} << 20;
      const auto loaded = LoadModel(*model, *memory, options);
      REQUIRE(!loaded.ok());
      if (first.ok()) first = loaded.status();
      CHECK(MessageOf(loaded.status()) == MessageOf(first));
    }
    CHECK(ring.live == 0);
  }
  return first;
}

TEST_CASE("what is loaded is what the reader gives, in every form and with every kernel", "[loader]") {
  Q4Sample sample = LoaderSample();
  sample.compression.zstd = GENERATE(false, true);
  const auto files = OneFile(sample);
  LoadOptions options;
  options.form = GENERATE(from_range(std::begin(kAllForms), std::end(kAllForms)));
  for (const KernelTable* kernels : test::AllCpuKernels()) {
    INFO(kernels->name);
    LoadAndCompare(*files, *MakeHostMemory(*kernels), options);
  }
  RingMemory ring;
  LoadAndCompare(*files, ring, options);
  CHECK(ring.live == 0);
}

TEST_CASE("containers of this repository load", "[loader]") {
  for (const char* name : {"v1_full.q4", "v1_full_zstd.q4", "v1_two_tensors.q4"}) {
    const auto model = Q4Model::Open(PosixFileSystem(), std::string(Q4_TESTDATA) + "/q4/" + name);
    REQUIRE(model.ok());
    const auto memory = MakeHostMemory();
    for (const LoadForm form : kAllForms) {
      LoadOptions options;
      options.form = form;
      options.check = LoadCheck::kSha256;
      RequireAllRight(**model, *memory, MustLoad(**model, *memory, options), form);
    }
  }
}

TEST_CASE("shards load as one model", "[loader]") {
  const auto files = TwoShards();
  for (const LoadForm form : kAllForms) {
    LoadOptions options;
    options.form = form;
    LoadAndCompare(*files, *MakeHostMemory(), options);
  }
}

TEST_CASE("threads, slots and batches change nothing", "[loader]") {
  Q4Sample sample = LoaderSample();
  sample.compression.zstd = GENERATE(false, true);
  const auto files = OneFile(sample);
  for (const unsigned threads : {1u, 2u, 7u}) {
    for (const unsigned slots : {1u, 2u, 5u}) {
      LoadOptions options;
      options.threads = threads;
      options.slots = slots;
      options.slot_bytes = slots == 2 ? 12288 : std::uint64_t{1} << 20;  // smaller than a chunk
      options.form = threads == 2 ? LoadForm::kBF16 : LoadForm::kQuantized;
      options.scratch_bytes = slots == 1 ? 1 : std::uint64_t{1} << 20;  // a batch for every tensor, or a few
      options.prefetch_bytes = slots == 5 ? std::uint64_t{3} << 20 : 0;
      options.uncached = threads == 7;
      options.check = slots == 5 ? LoadCheck::kSha256 : LoadCheck::kXxh3;
      RingMemory ring;
      LoadAndCompare(*files, ring, options);
      CHECK(ring.live == 0);
    }
  }
}

TEST_CASE("reads past the page cache bring the same", "[loader]") {
  Q4Sample sample = LoaderSample();
  sample.compression.zstd = GENERATE(false, true);
  const test::Bytes bytes = WriteSample(sample);
  const test::TempDir dir;
  const std::string path = dir.Write("m.q4", test::AsText(bytes));
  const auto model = Q4Model::Open(PosixFileSystem(), path);
  REQUIRE(model.ok());
  LoadOptions options;
  options.uncached = true;
  for (const std::uint64_t slot_bytes : {std::uint64_t{4096}, std::uint64_t{1} << 20}) {
    options.slot_bytes = slot_bytes;
    options.threads = slot_bytes == 4096 ? 1 : 3;
    RingMemory ring;
    RequireAllRight(**model, ring, MustLoad(**model, ring, options), options.form);
  }
  RequireAllRight(**model, *MakeHostMemory(), MustLoad(**model, *MakeHostMemory(), options), options.form);
}

TEST_CASE("a subset costs its own bytes", "[loader]") {
  const auto files = OneFile(LoaderSample());
  const auto model = files->Open();
  LoadOptions options;
  options.tensors = {"nf4.nested", "kept.I8", "empty", "odd.plain", "kept.I8"};
  for (const LoadForm form : {LoadForm::kQuantized, LoadForm::kF32}) {
    options.form = form;
    const auto memory = MakeHostMemory();
    files->fs.TakeReads();
    const LoadedModel loaded = MustLoad(*model, *memory, options);
    std::uint64_t read = 0;
    for (const LoggedRead& record : files->fs.TakeReads()) read += record.bytes;
    std::uint64_t stored = 0;
    std::vector<std::string> names;
    for (const LoadedTensor& tensor : loaded.tensors) {
      names.push_back(tensor.entry.name);
      for (const Q4PartEntry& part : tensor.entry.parts()) stored += part.raw_bytes;
      RequireRight(*model, *memory, tensor, form);
    }
    CHECK(names == std::vector<std::string>{"empty", "kept.I8", "nf4.nested", "odd.plain"});
    CHECK(loaded.read_bytes == stored);
    CHECK(read >= stored);
    CHECK(read <= stored + names.size() * 4096);
    REQUIRE(loaded.Find("kept.I8") != nullptr);
    CHECK(loaded.Find("kept.I8")->entry.dtype == DType::kI8);
    CHECK(loaded.Find("kept.I16") == nullptr);
  }
}

TEST_CASE("what is not compressed is read in long extents", "[loader]") {
  // Of sizes that real weights have: codes and scales are multiples of 256 bytes.
  Q4Sample sample;
  sample.Add(RawTensor("norm", DType::kBF16, {1000}));
  sample.Add(QuantizedTensor("plain", Q4Scheme::kNf4, {2048, 1024}, 64, false));
  sample.Add(QuantizedTensor("nested", Q4Scheme::kNf4, {4096, 2048}, 64, true));
  sample.Add(RawTensor("embeddings", DType::kF16, {4000, 512}));
  sample.Sort();
  const auto files = OneFile(sample);
  const auto model = files->Open();
  LoadOptions options;
  options.slot_bytes = std::uint64_t{64} << 20;
  files->fs.TakeReads();
  MustLoad(*model, *MakeHostMemory(), options);
  CHECK(files->fs.TakeReads().size() == 1);
  options.slot_bytes = std::uint64_t{2} << 20;
  RingMemory ring;
  const LoadedModel loaded = MustLoad(*model, ring, options);
  CHECK(files->fs.TakeReads().size() <= 2 * loaded.read_bytes / options.slot_bytes + 1);
}

TEST_CASE("a model without elements loads", "[loader]") {
  Q4Sample sample;
  sample.Add(RawTensor("empty", DType::kF16, {0, 4}));
  sample.Sort();
  const auto files = OneFile(sample);
  RingMemory ring;
  LoadAndCompare(*files, ring, {});
  LoadAndCompare(*files, *MakeHostMemory(), {});
}

TEST_CASE("a flipped bit in any chunk is reported with file, tensor, part and chunk", "[loader]") {
  Q4Sample sample = FullSample();
  sample.Add(RawTensor("several.chunks", DType::kU8, {(std::uint64_t{8} << 20) + 5000}));
  sample.Sort();
  sample.compression.zstd = GENERATE(false, true);
  const auto files = OneFile(sample);
  const auto model = files->Open();
  const Q4Reader& reader = *model->shards()[0];
  std::uint64_t flips = 0;
  for (std::uint64_t chunk = 0; chunk < reader.index().chunks.size(); ++chunk) {
    if (reader.TensorOfChunk(chunk) == nullptr) continue;  // embedded files are not loaded
    const Q4Chunk& entry = reader.index().chunks[chunk];
    std::uint8_t& byte = files->fs["m.q4"][entry.offset + (chunk % 2 == 0 ? 0 : entry.stored_bytes - 1)];
    byte ^= 0x10;
    const absl::Status status = MustFail(*files);
    CHECK(IssueNumberOf(status) == kQ4ChunkDamaged.number);
    CHECK(MessageOf(status).find("m.q4: " + reader.DescribeChunk(chunk)) != std::string::npos);
    byte ^= 0x10;
    ++flips;
  }
  CHECK(flips >= 10);
  MustLoad(*model, *MakeHostMemory(), {});
}

TEST_CASE("of several damaged chunks the first in the file is reported", "[loader]") {
  const auto files = OneFile(LoaderSample());
  const auto model = files->Open();
  const Q4Reader& reader = *model->shards()[0];
  const std::uint64_t last = reader.index().chunks.size() - 1;
  for (const std::uint64_t chunk : {last, last / 2, last / 3}) {
    files->fs["m.q4"][reader.index().chunks[chunk].offset] ^= 1;
    const absl::Status status = MustFail(*files);
    CHECK(MessageOf(status).find(reader.DescribeChunk(chunk)) != std::string::npos);
  }
}

TEST_CASE("checks can be left out, or be those of the model's identity", "[loader]") {
  const test::Bytes bytes = WriteSample(FullSample());
  ForgedContainer forged(bytes);
  forged.EditChunks([](std::vector<Q4Chunk>* chunks) { chunks->back().sha256[0] ^= 1; });
  ModelFiles files;
  files.path = "m.q4";
  files.fs["m.q4"] = forged.Seal();
  LoadOptions options;
  options.check = LoadCheck::kSha256;
  CHECK(IssueNumberOf(MustFail(files, options)) == kQ4ChunkReplaced.number);
  MustLoad(*files.Open(), *MakeHostMemory(), {});

  const auto model = files.Open();
  files.fs["m.q4"][model->shards()[0]->index().chunks.back().offset] ^= 1;
  CHECK(IssueNumberOf(MustFail(files)) == kQ4ChunkDamaged.number);
  options.check = LoadCheck::kNone;
  MustLoad(*files.Open(), *MakeHostMemory(), options);
}

TEST_CASE("a pinned root binds what is loaded", "[loader]") {
  RequirePinnedRootBinds(*MakeHostMemory());
  RingMemory ring;
  RequirePinnedRootBinds(ring);
  CHECK(ring.live == 0);
}

TEST_CASE("scales that no encoder makes are refused", "[loader]") {
  Q4Sample sample = FullSample();
  sample.Add(QuantizedTensor("w", Q4Scheme::kNf4, {1000, 200}, 64, false));
  sample.Sort();
  sample.compression.zstd = GENERATE(false, true);
  const float bad = std::numeric_limits<float>::quiet_NaN();
  test::PutValue(&sample.parts["w"][Q4Part::kScales], 2000 * sizeof bad, bad);
  const absl::Status status = MustFail(*OneFile(sample));
  CHECK(IssueNumberOf(status) == kQ4ScaleValue.number);
  CHECK(MessageOf(status).find("'w'") != std::string::npos);
  CHECK(MessageOf(status).find("2000") != std::string::npos);
}

TEST_CASE("a file that shrank is an error", "[loader]") {
  const auto files = OneFile(LoaderSample());
  const auto model = files->Open();
  files->fs["m.q4"].resize(files->fs["m.q4"].size() / 2);
  RingMemory ring;
  CHECK(!LoadModel(*model, ring, {}).ok());
  CHECK(ring.live == 0);
}

TEST_CASE("wrong names and options are usage errors", "[loader]") {
  const auto files = OneFile(FullSample());
  LoadOptions options;
  options.tensors = {"bias", "no such"};
  const absl::Status status = MustFail(*files, options);
  CHECK(IssueNumberOf(status) == kLoadNoSuchTensor.number);
  CHECK(ExitCodeOf(status) == ExitCode::kUsage);
  CHECK(MessageOf(status).find("no such") != std::string::npos);
  options = {};
  options.slots = 0;
  CHECK(IssueNumberOf(MustFail(*files, options)) == kLoadOption.number);
  const auto model = files->Open();
  options = {};
  options.slot_bytes = 5000;
  RingMemory ring;
  CHECK(IssueNumberOf(LoadModel(*model, ring, options).status()) == kLoadOption.number);
}

TEST_CASE("whatever operation of the device fails, the load fails and nothing is left", "[loader]") {
  const auto files = OneFile(FullSample());
  const auto model = files->Open();
  LoadOptions options;
  options.form = LoadForm::kF16;
  options.slot_bytes = 4096;
  options.threads = GENERATE(1u, 3u);
  RingMemory ring;
  { const LoadedModel loaded = MustLoad(*model, ring, options); }
  const std::int64_t operations = ring.operations;
  CHECK(operations > 20);
  std::int64_t failed = 0;
  for (std::int64_t i = 0; i < operations; ++i) {
    RingMemory failing;
    failing.failing = i;
    failed += LoadModel(*model, failing, options).ok() ? 0 : 1;
    CHECK(failing.live == 0);
  }
  // With several threads their number varies a little from run to run.
  CHECK(failed >= (options.threads == 1 ? operations : operations * 3 / 4));
}

TEST_CASE("more memory than there is names what was wanted", "[loader]") {
  const auto memory = MakeHostMemory();
  const auto block = memory->Allocate(std::uint64_t{1} << 60);
  REQUIRE(!block.ok());
  CHECK(IssueNumberOf(block.status()) == kLoadHostMemory.number);
  CHECK(MessageOf(block.status()).find(std::to_string(std::uint64_t{1} << 60)) != std::string::npos);
}

TEST_CASE("progress reaches its end, in order", "[loader]") {
  const auto files = OneFile(LoaderSample());
  const auto model = files->Open();
  LoadOptions options;
  options.form = LoadForm::kSource;
  options.scratch_bytes = std::uint64_t{1} << 20;
  Progress last;
  options.progress = [&](const Progress& now) {
    CHECK(now.done_bytes > last.done_bytes);
    CHECK(now.done_tensors >= last.done_tensors);
    last = now;
  };
  const LoadedModel loaded = MustLoad(*model, *MakeHostMemory(), options);
  CHECK(last.done_bytes == last.total_bytes);
  CHECK(last.done_bytes == loaded.read_bytes);
  CHECK(last.total_tensors == loaded.tensors.size());
  CHECK(last.done_tensors + 1 == last.total_tensors);  // one has no elements
}

TEST_CASE("a load can be cancelled", "[loader]") {
  const auto files = OneFile(LoaderSample());
  const auto model = files->Open();
  std::atomic<bool> cancel = false;
  LoadOptions options;
  options.cancel = &cancel;
  RingMemory ring;
  SECTION("before it begins") { cancel = true; }
  SECTION("on its way, unless it is done before the flag is seen") {
    options.progress = [&](const Progress&) { cancel = true; };
  }
  {
    const auto loaded = LoadModel(*model, ring, options);
    if (!options.progress) REQUIRE(!loaded.ok());
    if (!loaded.ok()) CHECK(IssueNumberOf(loaded.status()) == kLoadInterrupted.number);
  }
  CHECK(ring.live == 0);
}

}  // namespace
}  // namespace q4
