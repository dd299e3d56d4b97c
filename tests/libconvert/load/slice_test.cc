// Slices: which there are, what they hold, and what of the file they cost.
#include "libconvert/load/slice.h"

#include <iterator>

#include "formats/base/status.h"
#include "formats/q4/q4_issues.h"
#include "libconvert/load/load.h"
#include "libconvert/load/load_issues.h"
#include "tests/libconvert/load/load_testing.h"
#include "tests/support/catch.h"
#include "tests/support/must.h"

namespace q4 {
namespace {

constexpr LoadForm kSliceForms[] = {LoadForm::kQuantized, LoadForm::kFlatScales, LoadForm::kSource, LoadForm::kF32};

// The shapes can be divided among 8.
Q4Sample SliceSample() {
  Q4Sample sample;
  sample.Add(QuantizedTensor("plain", Q4Scheme::kNf4, {64, 512}, 64, false));
  sample.Add(QuantizedTensor("nested", Q4Scheme::kFp4, {16, 4096}, 64, true));
  sample.Add(QuantizedTensor("experts", Q4Scheme::kNf4, {8, 32, 512}, 32, true));
  sample.Add(QuantizedTensor("tail", Q4Scheme::kNf4, {13, 40}, 64, true));
  sample.Add(QuantizedTensor("vector", Q4Scheme::kNf4, {4099}, 32, true));
  sample.Add(RawTensor("kept", DType::kBF16, {24, 40, 8}));
  sample.Add(RawTensor("bias", DType::kF32, {64}));
  sample.Add(RawTensor("scalar", DType::kF32, {}));
  sample.Sort();
  return sample;
}

// Of several chunks each.
Q4Sample LargeSample() {
  Q4Sample sample;
  sample.Add(QuantizedTensor("plain", Q4Scheme::kNf4, {1024, 8192}, 64, false));
  sample.Add(QuantizedTensor("nested", Q4Scheme::kFp4, {1536, 4096}, 64, true));
  sample.Add(RawTensor("kept", DType::kF32, {800, 3000}));
  sample.Sort();
  return sample;
}

// Into memory of the caller's own, each part by itself, on the host and through slots.
void RequireSlices(const Q4Model& model, std::vector<LoadSlice> slices, LoadForm form) {
  LoadPlanOptions what;
  what.form = form;
  what.slices = slices;
  for (const LoadSlice& slice : slices) what.tensors.push_back(slice.tensor);
  const LoadPlan plan = test::Must(PlanLoad(model, what));
  const auto host = MakeHostMemory();
  RingMemory ring;
  for (LoadMemory* memory : {host.get(), static_cast<LoadMemory*>(&ring)}) {
    LoadFillOptions how;
    how.slot_bytes = memory == &ring ? 65536 : how.slot_bytes;
    const CallerMemory caller = CallerMemory::Parts(plan, false);
    const auto filled = FillLoad(plan, *memory, caller.places(), how);
    INFO(filled.status().ToString());
    REQUIRE(filled.ok());
    caller.RequireRestUntouched();
    const std::vector<LoadedTensor> tensors = LoadedTensors(plan, caller.places());
    REQUIRE(tensors.size() == slices.size());
    for (const LoadSlice& slice : slices) {
      const LoadPlanTensor* planned = plan.Find(slice.tensor);
      RequireSlice(model, *memory, tensors[static_cast<std::size_t>(planned - plan.tensors.data())], slice, form);
    }
  }
}

TEST_CASE("slices of 2, 4 and 8 ranks along every dimension are those of the whole", "[loader][slice]") {
  Q4Sample sample = SliceSample();
  sample.compression.zstd = GENERATE(false, true);
  const auto files = OneFile(sample);
  const auto model = files->Open();
  const LoadForm form = GENERATE(from_range(std::begin(kSliceForms), std::end(kSliceForms)));
  for (const std::uint64_t ranks : {2, 4, 8}) {
    for (const std::uint32_t dim : {0u, 1u, 2u}) {
      // Together the ranks have every element once, and RequireSlice() looks at each.
      for (std::uint64_t rank = 0; rank < ranks; ++rank) {
        std::vector<LoadSlice> slices;
        for (const char* name : {"plain", "nested", "experts", "kept", "bias"}) {
          const Shape& shape = model->tensor(*model->Find(name)).shape;
          if (dim >= shape.size()) continue;
          const std::uint64_t size = shape[dim] / ranks;
          slices.push_back({name, dim, rank * size, (rank + 1) * size});
        }
        RequireSlices(*model, slices, form);
      }
    }
  }
}

TEST_CASE("any slice at borders of blocks is exact, the tensor's end included", "[loader][slice]") {
  const auto files = OneFile(SliceSample());
  const auto model = files->Open();
  for (const LoadForm form : kSliceForms) {
    // Rows of 40 elements in blocks of 64: eight rows are five blocks.
    for (const auto& [begin, end] : {std::pair{0, 8}, {8, 13}, {0, 13}}) {
      RequireSlices(*model, {{"tail", 0, std::uint64_t(begin), std::uint64_t(end)}}, form);
    }
    RequireSlices(*model, {{"vector", 0, 64, 4099}, {"kept", 1, 3, 20}, {"bias", 0, 63, 64}}, form);
    RequireSlices(*model, {{"vector", 0, 4096, 4099}, {"plain", 1, 64, 512}, {"nested", 1, 4032, 4096}}, form);
    RequireSlices(*model, {{"experts", 0, 3, 4}, {"plain", 0, 11, 14}, {"nested", 0, 7, 9}}, form);
  }
}

TEST_CASE("slices reach over the ends of chunks", "[loader][slice]") {
  Q4Sample sample = LargeSample();
  sample.compression.zstd = GENERATE(false, true);
  const auto files = OneFile(sample);
  const auto model = files->Open();
  for (const LoadForm form : {LoadForm::kQuantized, LoadForm::kFlatScales, LoadForm::kBF16}) {
    RequireSlices(*model, {{"plain", 0, 511, 514}, {"nested", 0, 1023, 1025}, {"kept", 0, 698, 701}}, form);
    RequireSlices(*model, {{"plain", 1, 8128, 8192}, {"nested", 1, 64, 192}, {"kept", 1, 2999, 3000}}, form);
  }
}

// Whether the scales of a slice are nested.
bool IsNested(const Q4Model& model, const LoadSlice& slice) {
  LoadPlanOptions what;
  what.tensors = {slice.tensor};
  what.slices = {slice};
  return test::Must(PlanLoad(model, what)).tensors[0].nested;
}

TEST_CASE("scales stay nested where no group is cut, and are decoded elsewhere", "[loader][slice]") {
  const auto files = OneFile(SliceSample());
  const auto model = files->Open();
  // Groups of 256 blocks of 64 are four rows of 4096.
  CHECK(IsNested(*model, {"nested", 0, 0, 16}));
  CHECK(IsNested(*model, {"nested", 0, 4, 8}));
  CHECK(IsNested(*model, {"nested", 0, 12, 16}));
  CHECK(!IsNested(*model, {"nested", 0, 2, 8}));
  CHECK(!IsNested(*model, {"nested", 0, 4, 7}));
  CHECK(IsNested(*model, {"nested", 1, 0, 4096}));
  CHECK(!IsNested(*model, {"nested", 1, 0, 2048}));
  // An expert has two groups, sixteen of its rows are one.
  CHECK(IsNested(*model, {"experts", 0, 3, 4}));
  CHECK(IsNested(*model, {"experts", 1, 16, 32}));
  CHECK(!IsNested(*model, {"experts", 1, 16, 24}));
  CHECK(!IsNested(*model, {"plain", 0, 0, 4}));
}

// The message of a slice that there is not.
std::string Refusal(const Q4Model& model, const LoadSlice& slice) {
  LoadPlanOptions what;
  what.slices = {slice};
  const auto plan = PlanLoad(model, what);
  REQUIRE(!plan.ok());
  CHECK(IssueNumberOf(plan.status()) == kLoadSlice.number);
  CHECK(ExitCodeOf(plan.status()) == ExitCode::kUsage);
  return MessageOf(plan.status());
}

TEST_CASE("a slice that cannot be is refused with the reason and what could be had", "[loader][slice]") {
  Q4Sample sample = SliceSample();
  // Llama-2-7B's down_proj: 172 blocks to a row, and too many rows for a test.
  sample.Add(QuantizedTensor("down_proj", Q4Scheme::kNf4, {64, 11008}, 64, true));
  sample.Add(QuantizedTensor("odd", Q4Scheme::kNf4, {64, 101}, 64, false));
  sample.Sort();
  const auto files = OneFile(sample);
  const auto model = files->Open();
  for (const std::uint64_t ranks : {2, 4}) RequireSlices(*model, {{"down_proj", 1, 0, 11008 / ranks}}, kSliceForms[0]);
  CHECK(Refusal(*model, {"down_proj", 1, 0, 1376}) ==
        "m.q4: tensor 'down_proj', dimension 1, [0, 1376): tensor cannot be sliced so (of shape [64, 11008], it would "
        "cut blocks of 64 elements that "
        "share a scale: begin and end must be multiples of 64; equal parts can be had for every number that divides "
        "172; converted with block size 32 this slice would be exact; the whole tensor can be loaded) [Q4-1840]");
  const std::string odd = Refusal(*model, {"odd", 1, 0, 64});
  CHECK(odd.find("no slice of this dimension is exact, as its 101 elements") != std::string::npos);
  CHECK(odd.find("converted with") == std::string::npos);
  const std::string rows = Refusal(*model, {"odd", 0, 0, 8});
  CHECK(rows.find("begin and end must be multiples of 64;") != std::string::npos);
  CHECK(rows.find("divides 1;") != std::string::npos);
  CHECK(Refusal(*model, {"tail", 0, 0, 12}).find("multiples of 8, or the end be 13") != std::string::npos);

  CHECK(Refusal(*model, {"plain", 2, 0, 1}).find("one of the 2 of shape [64, 512]") != std::string::npos);
  CHECK(Refusal(*model, {"scalar", 0, 0, 1}).find("one of the 0 of shape []") != std::string::npos);
  CHECK(Refusal(*model, {"plain", 0, 0, 65}).find("begin < end <= 64") != std::string::npos);
  CHECK(Refusal(*model, {"plain", 0, 4, 4}).find("got [4, 4)") != std::string::npos);
  CHECK(Refusal(*model, {"kept", 1, 5, 4}).find("begin < end <= 40") != std::string::npos);
  CHECK(Refusal(*model, {"plain", 0, ~std::uint64_t{0}, 0}).find("[18446744073709551615, 0)") != std::string::npos);

  LoadPlanOptions what;
  what.slices = {{"no such", 0, 0, 1}};
  CHECK(IssueNumberOf(PlanLoad(*model, what).status()) == kLoadNoSuchTensor.number);
  what.tensors = {"plain"};
  what.slices = {{"nested", 0, 0, 4}};
  CHECK(MessageOf(PlanLoad(*model, what).status()).find("not the tensor itself") != std::string::npos);
  what.slices = {{"plain", 0, 0, 4}, {"plain", 0, 4, 8}};
  CHECK(MessageOf(PlanLoad(*model, what).status()).find("two slices") != std::string::npos);
  what.slices = {{"plain", 0, 0, 4}, {"plain", 0, 0, 4}};
  CHECK(PlanLoad(*model, what).ok());
}

TEST_CASE("a slice costs the chunks that it touches, and damage elsewhere is not its own", "[loader][slice]") {
  Q4Sample sample = LargeSample();
  sample.compression.zstd = GENERATE(false, true);
  const auto files = OneFile(sample);
  const auto model = files->Open();
  const Q4Reader& reader = *model->shards()[0];
  const Q4Tensor& entry = model->tensor(*model->Find("plain"));
  const Q4PartEntry codes = *entry.Part(Q4Part::kCodes), scales = *entry.Part(Q4Part::kScales);
  REQUIRE(codes.chunk_count == 2);
  const auto load = [&](LoadSlice slice) {
    LoadOptions options;
    options.tensors = {"plain"};
    options.slices = {slice};
    files->fs.TakeReads();
    return LoadModel(*model, *MakeHostMemory(), options);
  };
  const auto stored = [&](std::uint64_t chunk) { return std::uint64_t{reader.index().chunks[chunk].stored_bytes}; };
  // 512 rows are the first chunk.
  const auto first = load({"plain", 0, 0, 500});
  REQUIRE(first.ok());
  CHECK(first->read_bytes == stored(codes.first_chunk) + stored(scales.first_chunk));
  std::uint64_t read = 0;
  for (const LoggedRead& record : files->fs.TakeReads()) read += record.bytes;
  CHECK(read == first->read_bytes);
  CHECK(load({"plain", 0, 500, 520})->read_bytes ==
        stored(codes.first_chunk) + stored(codes.first_chunk + 1) + stored(scales.first_chunk));

  const Q4Chunk& second = reader.index().chunks[codes.first_chunk + 1];
  files->fs["m.q4"][second.offset + second.stored_bytes / 2] ^= 1;
  CHECK(load({"plain", 0, 0, 512}).ok());
  for (const LoadSlice& slice : {LoadSlice{"plain", 0, 512, 520}, LoadSlice{"plain", 1, 0, 64}}) {
    const auto damaged = load(slice);
    REQUIRE(!damaged.ok());
    CHECK(IssueNumberOf(damaged.status()) == kQ4ChunkDamaged.number);
    CHECK(MessageOf(damaged.status()).find("tensor 'plain', codes, chunk 1") != std::string::npos);
  }
}

TEST_CASE("slices and whole tensors load together", "[loader][slice]") {
  const auto files = OneFile(SliceSample());
  const auto model = files->Open();
  for (const LoadForm form : kSliceForms) {
    LoadOptions options;
    options.form = form;
    options.slices = {{"nested", 0, 4, 12}, {"kept", 2, 2, 4}};
    options.scratch_bytes = std::uint64_t{2} << 20;
    Progress last;
    options.progress = [&](const Progress& now) { last = now; };
    RingMemory ring;
    const LoadedModel loaded = test::Must(LoadModel(*model, ring, options));
    CHECK(loaded.tensors.size() == model->tensors().size());
    for (const LoadedTensor& tensor : loaded.tensors) {
      if (tensor.entry.name == "nested") {
        RequireSlice(*model, ring, tensor, options.slices[0], form);
      } else if (tensor.entry.name == "kept") {
        RequireSlice(*model, ring, tensor, options.slices[1], form);
      } else {
        RequireRight(*model, ring, tensor, form);
      }
    }
    CHECK(last.done_bytes == last.total_bytes);
    CHECK(last.done_bytes == loaded.read_bytes);
    CHECK(last.done_tensors == last.total_tensors);
  }
}

TEST_CASE("of a slice, runs count, find and gather their members", "[loader][slice]") {
  const Runs runs = {3, 2, 4, 10};  // 2..5, 12..15, 22..25
  std::vector<std::uint8_t> sequence(40);
  for (std::size_t i = 0; i < sequence.size(); ++i) sequence[i] = static_cast<std::uint8_t>(i);
  const std::vector<std::uint8_t> members = {2, 3, 4, 5, 12, 13, 14, 15, 22, 23, 24, 25};
  CHECK(runs.total() == members.size());
  for (std::uint64_t begin = 0; begin <= sequence.size(); ++begin) {
    std::uint64_t before = 0;
    for (const std::uint8_t member : members) before += member < begin ? 1 : 0;
    CHECK(runs.Before(begin) == before);
    for (std::uint64_t end = begin; end <= sequence.size(); ++end) {
      std::vector<std::uint8_t> bytes(sequence.begin() + static_cast<std::ptrdiff_t>(begin),
                                      sequence.begin() + static_cast<std::ptrdiff_t>(end));
      const std::uint64_t count = GatherRuns(runs, begin, bytes, bytes.data());
      REQUIRE(count == runs.Before(end) - before);
      CHECK(std::equal(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(count),
                       members.begin() + static_cast<std::ptrdiff_t>(before)));
    }
  }
  CHECK(AllOf(0).Before(5) == 0);
  CHECK(AllOf(7).Before(5) == 5);
}

}  // namespace
}  // namespace q4
