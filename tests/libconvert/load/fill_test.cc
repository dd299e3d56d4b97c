// Plans, and loads into memory of the caller's own, without a GPU: host memory, and memory behind a ring of slots.
#include "libconvert/load/fill.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <iterator>
#include <optional>
#include <set>
#include <thread>

#include "formats/base/status.h"
#include "formats/q4/q4_issues.h"
#include "libconvert/load/load.h"
#include "libconvert/load/load_issues.h"
#include "tests/libconvert/load/load_testing.h"
#include "tests/support/catch.h"
#include "tests/support/must.h"

namespace q4 {
namespace {

void RequireAllRight(const LoadPlan& plan, LoadMemory& memory, const CallerMemory& caller) {
  const std::vector<LoadedTensor> tensors = LoadedTensors(plan, caller.places());
  REQUIRE(tensors.size() == plan.model->tensors().size());
  for (const LoadedTensor& tensor : tensors) RequireRight(*plan.model, memory, tensor, plan.form);
  caller.RequireRestUntouched();
}

bool IsUncompressed(const Q4Model& model) {
  for (const auto& shard : model.shards()) {
    for (std::uint64_t i = 0; i < shard->index().chunks.size(); ++i) {
      if (shard->index().chunks[i].codec != Q4Codec::kStored) return false;
    }
  }
  return true;
}

// Into blocks and into parts, on the host and through slots.
void FillAndCompare(const Q4Model& model, const LoadPlanOptions& what, const LoadFillOptions& how) {
  const LoadPlan plan = test::Must(PlanLoad(model, what));
  const auto host = MakeHostMemory();
  RingMemory ring;
  for (LoadMemory* memory : {host.get(), static_cast<LoadMemory*>(&ring)}) {
    std::set<std::uint64_t> read;
    for (const int where : {0, 1, 2}) {
      INFO(memory->name() << ", kind of places " << where);
      // Only what is in memory as it is in the file can lie there at the same distances.
      if (where == 2 && (plan.form != LoadForm::kQuantized || !IsUncompressed(model))) continue;
      const CallerMemory caller = where == 0 ? CallerMemory::Blocks(plan) : CallerMemory::Parts(plan, where == 2);
      const auto filled = FillLoad(plan, *memory, caller.places(), how);
      INFO(filled.status().ToString());
      REQUIRE(filled.ok());
      read.insert(*filled);
      RequireAllRight(plan, *memory, caller);
    }
    CHECK(read.size() == 1);
  }
  CHECK(ring.live == 0);
}

TEST_CASE("what fills a caller's memory is what the reader gives, and nothing else is written", "[loader]") {
  Q4Sample sample = LoaderSample();
  sample.compression.zstd = GENERATE(false, true);
  const auto files = OneFile(sample);
  const auto model = files->Open();
  LoadPlanOptions what;
  what.form = GENERATE(from_range(std::begin(kAllForms), std::end(kAllForms)));
  what.block_bytes = std::uint64_t{1} << 20;
  LoadFillOptions how;
  how.scratch_bytes = std::uint64_t{3} << 20;
  if (sample.compression.zstd == (what.form == LoadForm::kFlatScales)) {
    how.threads = 7;
    how.slot_bytes = 12288;  // smaller than a chunk
    how.check = LoadCheck::kSha256;
  }
  FillAndCompare(*model, what, how);
}

TEST_CASE("shards fill a caller's memory", "[loader]") {
  const auto files = TwoShards();
  const auto model = files->Open();
  for (const LoadForm form : kAllForms) {
    LoadPlanOptions what;
    what.form = form;
    FillAndCompare(*model, what, {});
  }
}

TEST_CASE("a plan names every part, with its dtype, shape and size", "[loader]") {
  Q4Sample sample;
  sample.Add(RawTensor("kept", DType::kF16, {3, 5}));
  sample.Add(RawTensor("scalar", DType::kI64, {}));
  sample.Add(RawTensor("empty", DType::kF32, {0, 4}));
  sample.Add(QuantizedTensor("nested", Q4Scheme::kNf4, {333, 31}, 32, true));  // 10323 elements, 323 blocks, 2 groups
  sample.Add(QuantizedTensor("plain", Q4Scheme::kFp4, {9, 37}, 64, false));
  sample.Sort();
  const auto files = OneFile(sample);
  const auto model = files->Open();
  files->fs.TakeReads();
  const auto described = [&](LoadForm form, const char* name) {
    LoadPlanOptions what;
    what.form = form;
    const LoadPlan plan = test::Must(PlanLoad(*model, what));
    std::string text;
    const LoadPlanTensor* tensor = plan.Find(name);
    REQUIRE(tensor != nullptr);
    for (const LoadPart& part : plan.PartsOf(*tensor)) {
      CHECK(plan.tensors[part.tensor].entry->name == name);
      text += std::string(LoadPartName(part.kind)) + " " + std::string(DTypeName(part.dtype)) +
              ShapeString(part.shape) + " " + std::to_string(part.bytes) + "; ";
    }
    return text;
  };
  CHECK(described(LoadForm::kQuantized, "kept") == "values F16[3, 5] 30; ");
  CHECK(described(LoadForm::kF32, "scalar") == "values I64[] 8; ");
  CHECK(described(LoadForm::kFlatScales, "empty") == "values F32[0, 4] 0; ");
  CHECK(described(LoadForm::kQuantized, "nested") ==
        "codes U8[5162] 5162; scale codes U8[323] 323; scales2 F32[2] 8; offset F32[] 4; ");
  CHECK(described(LoadForm::kFlatScales, "nested") == "codes U8[5162] 5162; scales F32[323] 1292; ");
  CHECK(described(LoadForm::kSource, "nested") == "values BF16[333, 31] 20646; ");
  CHECK(described(LoadForm::kQuantized, "plain") == "codes U8[167] 167; scales F32[6] 24; ");
  CHECK(described(LoadForm::kFlatScales, "plain") == described(LoadForm::kQuantized, "plain"));
  CHECK(described(LoadForm::kF32, "plain") == "values F32[9, 37] 1332; ");
  CHECK(files->fs.TakeReads().empty());
}

TEST_CASE("blocks stay below their limit, but for a part that is larger by itself", "[loader]") {
  const auto files = OneFile(LoaderSample());
  const auto model = files->Open();
  for (const std::uint64_t limit : {std::uint64_t{4096}, std::uint64_t{1} << 20, std::uint64_t{512} << 20}) {
    for (const LoadForm form : kAllForms) {
      LoadPlanOptions what;
      what.form = form;
      what.block_bytes = limit;
      const LoadPlan plan = test::Must(PlanLoad(*model, what));
      std::vector<std::set<std::pair<std::uint64_t, std::uint64_t>>> used(plan.blocks.size());
      for (const LoadPart& part : plan.parts) {
        if (part.bytes == 0) continue;
        CHECK(part.offset % 256 == 0);
        REQUIRE(part.block < plan.blocks.size());
        CHECK(part.offset + part.bytes <= plan.blocks[part.block]);
        used[part.block].emplace(part.offset, part.offset + part.bytes);
      }
      for (std::size_t block = 0; block < plan.blocks.size(); ++block) {
        CHECK((plan.blocks[block] <= limit || used[block].size() == 1));
        std::uint64_t end = 0;
        for (const auto& [begin, until] : used[block]) {
          CHECK(begin >= end);
          end = until;
        }
        CHECK(end == plan.blocks[block]);
      }
      CHECK((limit == (std::uint64_t{512} << 20)) == (plan.blocks.size() == 1));
    }
  }
}

TEST_CASE("a plan for all is in blocks of 512 MiB unless told otherwise", "[loader]") {
  CHECK(LoadPlanOptions().block_bytes == 512u << 20);
  LoadPlanOptions what;
  const auto files = OneFile(SmallSample());
  const auto model = files->Open();
  for (const std::uint64_t wrong : {0, 100, 4097}) {
    what.block_bytes = wrong;
    CHECK(IssueNumberOf(PlanLoad(*model, what).status()) == kLoadOption.number);
  }
}

TEST_CASE("places that do not fit the plan are usage errors, and nothing is read", "[loader]") {
  const auto files = OneFile(FullSample());
  const auto model = files->Open();
  const LoadPlan plan = test::Must(PlanLoad(*model, {}));
  const auto memory = MakeHostMemory();
  files->fs.TakeReads();
  const auto message = [&](const CallerMemory& caller) {
    const auto filled = FillLoad(plan, *memory, caller.places(), {});
    REQUIRE(!filled.ok());
    CHECK(IssueNumberOf(filled.status()) == kLoadPlace.number);
    caller.RequireRestUntouched();
    return MessageOf(filled.status());
  };
  CallerMemory blocks = CallerMemory::Blocks(plan);
  REQUIRE(plan.blocks.size() == 1);
  const std::span<std::uint8_t> right = blocks.places().blocks[0];
  const auto with_block = [&](std::span<std::uint8_t> place) {
    blocks.mutable_places()->blocks[0] = place;
    return message(blocks);
  };
  CHECK(with_block(right.first(right.size() - 1)).find("block 0") != std::string::npos);
  CHECK(with_block({right.data() + 8, right.size()}).find("a multiple of 16") != std::string::npos);
  CHECK(with_block({static_cast<std::uint8_t*>(nullptr), right.size()}).find("address 0") != std::string::npos);
  blocks.mutable_places()->blocks.clear();
  CHECK(message(blocks).find("got 0, expected 1") != std::string::npos);

  CallerMemory parts = CallerMemory::Parts(plan, false);
  const std::size_t last = plan.parts.size() - 1;
  LoadPlaces* places = parts.mutable_places();
  places->parts[last] = places->parts[last].first(plan.parts[last].bytes - 1);
  CHECK(message(parts).find("got 7 bytes, expected 8 bytes") != std::string::npos);
  places->parts[last] = places->parts[0].first(8);
  CHECK(message(parts).find("overlap") != std::string::npos);
  places->parts.pop_back();
  CHECK(message(parts).find("places of parts") != std::string::npos);
  CHECK(files->fs.TakeReads().empty());
}

TEST_CASE("damage, another root and a cancelled fill are errors, and nothing is left over", "[loader]") {
  const auto files = OneFile(LoaderSample());
  const auto model = files->Open();
  const Q4Reader& reader = *model->shards()[0];
  LoadPlanOptions what;
  what.form = GENERATE(from_range(std::begin(kAllForms), std::end(kAllForms)));
  const LoadPlan plan = test::Must(PlanLoad(*model, what));
  RingMemory ring;
  const auto fill = [&](const LoadFillOptions& how) {
    const CallerMemory caller = CallerMemory::Parts(plan, false);
    const absl::Status status = FillLoad(plan, ring, caller.places(), how).status();
    caller.RequireRestUntouched();
    CHECK(ring.live == 0);
    return status;
  };
  LoadFillOptions how;
  how.root = Sha256{};
  CHECK(IssueNumberOf(fill(how)) == kQ4OtherRoot.number);
  how.root = model->root();
  CHECK(fill(how).ok());
  std::atomic<bool> cancel = true;
  how.cancel = &cancel;
  CHECK(IssueNumberOf(fill(how)) == kLoadInterrupted.number);
  // The last chunk of group scales, which the flat form reads along with the scale codes.
  std::uint64_t chunk = reader.index().chunks.size();
  while (chunk-- > 0) {
    const Q4Tensor* tensor = reader.TensorOfChunk(chunk);
    if (tensor != nullptr && tensor->nested && chunk + 1 == tensor->first_chunk + Q4ChunkCountOf(*tensor)) break;
  }
  files->fs["m.q4"][reader.index().chunks[chunk].offset] ^= 1;
  const absl::Status damaged = fill({});
  CHECK(IssueNumberOf(damaged) == kQ4ChunkDamaged.number);
  CHECK(MessageOf(damaged).find(reader.DescribeChunk(chunk)) != std::string::npos);
  how = {};
  how.check = LoadCheck::kNone;
  CHECK(fill(how).ok());
}

TEST_CASE("whatever operation fails while a caller's memory is filled, nothing is left over", "[loader]") {
  const auto files = OneFile(FullSample());
  const auto model = files->Open();
  LoadPlanOptions what;
  what.form = GENERATE(LoadForm::kFlatScales, LoadForm::kF16);
  const LoadPlan plan = test::Must(PlanLoad(*model, what));
  LoadFillOptions how;
  how.slot_bytes = 4096;
  how.threads = 1;
  how.after_stream = nullptr;
  RingMemory ring;
  REQUIRE(FillLoad(plan, ring, CallerMemory::Parts(plan, false).places(), how).ok());
  CHECK(ring.operations > 10);
  for (std::int64_t i = 0; i < ring.operations; ++i) {
    RingMemory failing;
    failing.failing = i;
    const CallerMemory caller = CallerMemory::Parts(plan, false);
    CHECK(!FillLoad(plan, failing, caller.places(), how).ok());
    CHECK(failing.live == 0);
  }
}

TEST_CASE("a fill waits for the caller's stream before it writes, the default one included", "[loader]") {
  const auto files = OneFile(FullSample());
  const auto model = files->Open();
  const LoadPlan plan = test::Must(PlanLoad(*model, {}));
  const CallerMemory caller = CallerMemory::Parts(plan, false);
  RingMemory ring;
  LoadFillOptions how;
  REQUIRE(FillLoad(plan, ring, caller.places(), how).ok());
  CHECK(ring.awaited.empty());
  ring.copies = 0;
  int stream = 0;
  how.after_stream = nullptr;
  REQUIRE(FillLoad(plan, ring, caller.places(), how).ok());
  CHECK(ring.copies_before_await == 0);
  ring.copies = 0;
  how.after_stream = &stream;
  REQUIRE(FillLoad(plan, ring, caller.places(), how).ok());
  CHECK(ring.copies_before_await == 0);
  CHECK(ring.copies > 0);
  CHECK(ring.awaited == std::vector<void*>{nullptr, &stream});
}

TEST_CASE("one plan fills several memories at once", "[loader]") {
  const auto files = OneFile(LoaderSample());
  const auto model = files->Open();
  const LoadPlan plan = test::Must(PlanLoad(*model, {}));
  const auto memory = MakeHostMemory();
  std::vector<CallerMemory> callers;
  for (int i = 0; i < 3; ++i) callers.push_back(CallerMemory::Blocks(plan));
  std::atomic<int> good = 0;
  {
    std::vector<std::jthread> threads;
    for (const CallerMemory& caller : callers) {
      threads.emplace_back([&] { good += FillLoad(plan, *memory, caller.places(), {}).ok() ? 1 : 0; });
    }
  }
  CHECK(good == 3);
  for (const CallerMemory& caller : callers) RequireAllRight(plan, *memory, caller);
}

// Parts that "lie in the file": in memory that has its bytes, where StoredPlaceOf() says.
TEST_CASE("mapped parts are checked where they lie, and not read", "[loader]") {
  Q4Sample sample = LoaderSample();
  sample.compression.zstd = GENERATE(false, true);
  const auto files = OneFile(sample);
  const auto model = files->Open();
  LoadPlanOptions what;
  what.form = GENERATE(LoadForm::kQuantized, LoadForm::kFlatScales, LoadForm::kF32);
  const LoadPlan plan = test::Must(PlanLoad(*model, what));
  const auto memory = MakeHostMemory();
  test::Bytes& file = files->fs["m.q4"];
  // As a page of a mapping is.
  std::vector<std::uint8_t> room(file.size() + 4096);
  std::uint8_t* const mapping = room.data() + (4096 - reinterpret_cast<std::uintptr_t>(room.data()) % 4096);
  std::copy(file.begin(), file.end(), mapping);
  CallerMemory caller = CallerMemory::Parts(plan, false);
  LoadPlaces* places = caller.mutable_places();
  places->mapped.resize(plan.parts.size());
  std::size_t mapped = 0;
  std::optional<std::size_t> not_stored;
  for (std::size_t i = 0; i < plan.parts.size(); ++i) {
    const auto place = StoredPlaceOf(plan, i);
    if (!place && plan.parts[i].bytes != 0) not_stored = i;
    if (!place) continue;
    CHECK(place->offset % 64 == 0);
    places->parts[i] = {mapping + place->offset, plan.parts[i].bytes};
    places->mapped[i] = true;
    ++mapped;
  }
  REQUIRE(mapped > 0);
  REQUIRE(not_stored.has_value());  // nested offsets, or what is dequantized
  files->fs.TakeReads();
  LoadFillOptions how;
  how.check = GENERATE(LoadCheck::kXxh3, LoadCheck::kSha256);
  std::uint64_t last = 0;
  how.progress = [&](const Progress& at) { last = at.done_bytes; };
  const std::uint64_t read = test::Must(FillLoad(plan, *memory, *places, how));
  CHECK(last == read);
  std::uint64_t in_reads = 0;
  for (const LoggedRead& record : files->fs.TakeReads()) in_reads += record.bytes;
  CHECK(in_reads < read);
  const std::vector<LoadedTensor> tensors = LoadedTensors(plan, *places);
  for (const LoadedTensor& tensor : tensors) RequireRight(*plan.model, *memory, tensor, plan.form);
  // What is damaged is damaged in the mapping, whatever the file says.
  const std::size_t part = std::find(places->mapped.begin(), places->mapped.end(), true) - places->mapped.begin();
  places->parts[part].back() ^= 1;
  const absl::Status damaged = FillLoad(plan, *memory, *places, how).status();
  CHECK(IssueNumberOf(damaged) == kQ4ChunkDamaged.number);
  places->parts[part].back() ^= 1;
  // What does not lie so in a file is no mapping of it.
  if (not_stored) {
    places->mapped[*not_stored] = true;
    CHECK(IssueNumberOf(FillLoad(plan, *memory, *places, how).status()) == kLoadPlace.number);
    places->mapped[*not_stored] = false;
  }
  places->mapped.pop_back();
  CHECK(IssueNumberOf(FillLoad(plan, *memory, *places, how).status()) == kLoadPlace.number);
}

TEST_CASE("a mapped file that became shorter is an error and no signal", "[loader]") {
  Q4Sample sample;
  sample.Add(RawTensor("kept", DType::kF32, {4096, 8}));
  sample.Sort();
  const auto files = OneFile(sample);
  const auto model = files->Open();
  const LoadPlan plan = test::Must(PlanLoad(*model, {}));
  const std::uint64_t bytes = plan.parts[0].bytes;
  std::FILE* const file = std::tmpfile();
  REQUIRE(file != nullptr);
  REQUIRE(::ftruncate(::fileno(file), static_cast<off_t>(bytes)) == 0);
  void* const mapping = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE, ::fileno(file), 0);
  REQUIRE(mapping != MAP_FAILED);
  constexpr int kPopulateRead = 22;
  const bool known = ::madvise(mapping, bytes, kPopulateRead) == 0;
  REQUIRE(::ftruncate(::fileno(file), 0) == 0);
  if (!known) {
    WARN("not tried: this system does not know MADV_POPULATE_READ");
    return;
  }
  LoadPlaces places;
  places.parts = {{static_cast<std::uint8_t*>(mapping), bytes}};
  places.mapped = {true};
  const absl::Status status = FillLoad(plan, *MakeHostMemory(), places, {}).status();
  CHECK(IssueNumberOf(status) == kLoadMapping.number);
  ::munmap(mapping, bytes);
  std::fclose(file);
}

}  // namespace
}  // namespace q4
