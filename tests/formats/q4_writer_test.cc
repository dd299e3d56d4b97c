#include "formats/q4_writer.h"

#include "formats/q4_issues.h"
#include "tests/formats/q4_samples.h"
#include "tests/support/catch.h"

namespace q4 {
namespace {

std::unique_ptr<Q4Writer> WriterOf(WritableFile* file, const Q4Index& plan) {
  auto writer = Q4Writer::Create(file, plan);
  REQUIRE(writer.ok());
  return *std::move(writer);
}

Q4EncodedChunk ChunkOf(const Q4Index& plan, std::uint64_t owner, std::uint64_t number, TestBytes raw) {
  auto chunk = EncodeQ4Chunk(plan.file_id, {Q4ChunkPlace::Section::kTensor, owner, number}, std::move(raw), 1, {});
  REQUIRE(chunk.ok());
  return *std::move(chunk);
}

TEST_CASE("the same calls write the same bytes", "[q4][writer]") {
  CHECK(WriteSample(FullSample()) == WriteSample(FullSample()));
}

TEST_CASE("the layout is exact for what is not compressed", "[q4][writer]") {
  for (const Q4Sample& sample : {SmallSample(), FullSample(), Q4Sample{}}) {
    const auto layout = ComputeQ4Layout(sample.plan, sample.payload_order, sample.provenance.size());
    REQUIRE(layout.ok());
    const OpenedSample opened = OpenSample(WriteSample(sample));
    REQUIRE(opened.reader.ok());
    const Q4Reader& reader = **opened.reader;
    CHECK(layout->file_bytes == reader.seal().file_bytes);
    CHECK(layout->index_bytes == reader.seal().index_bytes);
    for (std::size_t i = 0; i < sample.plan.tensors.size(); ++i) {
      const Q4Tensor& tensor = reader.index().tensors[i];
      const std::uint64_t expected = tensor.elems == 0 ? 0 : reader.index().chunks[tensor.first_chunk].offset;
      CHECK(layout->segment_offsets[i] == expected);
    }
  }
}

TEST_CASE("segments are aligned to pages, parts to cache lines", "[q4][writer]") {
  const OpenedSample opened = OpenSample(WriteSample(FullSample()));
  REQUIRE(opened.reader.ok());
  const Q4Index& index = (*opened.reader)->index();
  for (const Q4Tensor& tensor : index.tensors) {
    for (const Q4PartEntry& part : tensor.parts()) {
      if (part.chunk_count == 0) continue;
      const bool first = part.first_chunk == tensor.first_chunk;
      CHECK(index.chunks[part.first_chunk].offset % (first ? 4096 : 64) == 0);
    }
  }
  for (const Q4EmbeddedFile& file : index.files) {
    if (file.chunk_count != 0) CHECK(index.chunks[file.first_chunk].offset % 4096 == 0);
  }
}

TEST_CASE("parts longer than a chunk are cut and joined", "[q4][writer]") {
  Q4Sample sample;
  sample.Add(RawTensor("big", DType::kF32, {kQ4ChunkBytes / 4 + 3}));
  sample.Add(QuantizedTensor("wide", Q4Scheme::kFp4, {2 * kQ4ChunkElems + 1}, 4096, true));
  sample.AddFile("tokenizer.json", std::string(kQ4ChunkBytes + 1, 't'));
  sample.Sort();
  sample.compression.zstd = GENERATE(false, true);
  sample.compression.level = 1;
  const OpenedSample opened = OpenSample(WriteSample(sample));
  REQUIRE(opened.reader.ok());
  const Q4Reader& reader = **opened.reader;
  CHECK(reader.index().files[0].chunk_count == 2);
  CHECK(reader.index().tensors[0].parts()[0].chunk_count == 2);
  CHECK(reader.index().tensors[1].parts()[0].chunk_count == 3);
  CHECK(reader.index().chunks[reader.index().tensors[1].first_chunk + 2].raw_bytes == 1);
  for (const Q4Tensor& tensor : reader.index().tensors) {
    for (const Q4Part part : Q4PartsOf(tensor)) {
      const auto bytes = reader.ReadPart(tensor, part);
      REQUIRE(bytes.ok());
      CHECK(*bytes == RawBytes(sample, tensor, part));
    }
  }
  const auto file = reader.ReadFile(reader.index().files[0]);
  REQUIRE(file.ok());
  CHECK(*file == sample.files[0]);
  CHECK(VerifyQ4Container(reader).ok());
}

TEST_CASE("a plan that no reader would accept is refused before anything is written", "[q4][writer]") {
  MemoryFileSystem fs;
  auto file = fs.CreateExclusive("t.q4");
  REQUIRE(file.ok());
  Q4Index plan = SmallSample().plan;
  SECTION("block size") { plan.tensors[1].block_size = 48; }
  SECTION("shape") { plan.tensors[0].elems = 6; }
  SECTION("name") { plan.tensors[0].name.clear(); }
  const auto writer = Q4Writer::Create(file->get(), plan);
  CHECK(IssueNumberOf(writer.status()) == kQ4WriterMisuse.number);
  CHECK(fs["t.q4"].empty());
}

TEST_CASE("calls out of order are refused", "[q4][writer]") {
  MemoryFileSystem fs;
  auto file = fs.CreateExclusive("t.q4");
  REQUIRE(file.ok());
  Q4Sample sample = SmallSample();
  sample.AddFile("config.json", "{}");
  const Q4Index& plan = sample.plan;
  const auto writer = WriterOf(file->get(), plan);
  const auto refused = [](const absl::Status& status) { return IssueNumberOf(status) == kQ4WriterMisuse.number; };

  SECTION("a chunk or part outside of a segment") {
    CHECK(refused(writer->Append(ChunkOf(plan, 0, 0, TestBytes(10)))));
    CHECK(refused(writer->BeginPart(Q4Part::kData)));
    REQUIRE(writer->BeginTensor(0).ok());
    CHECK(refused(writer->Append(ChunkOf(plan, 0, 0, TestBytes(10)))));
  }
  SECTION("a tensor twice, or unknown") {
    REQUIRE(writer->BeginTensor(0).ok());
    CHECK(refused(writer->BeginTensor(0)));
    CHECK(refused(writer->BeginTensor(2)));
  }
  SECTION("a file behind a tensor") {
    REQUIRE(writer->BeginTensor(0).ok());
    CHECK(refused(writer->BeginFile(0)));
  }
  SECTION("a tensor that was not written") {
    CHECK(refused(writer->Finish("{}").status()));
    CHECK(refused(writer->Finish("{}").status()));
  }
  SECTION("a chunk of the wrong size") {
    REQUIRE(writer->BeginFile(0).ok());
    REQUIRE(writer->Append(ChunkOf(plan, 0, 0, TestBytes(3))).ok());
    for (const std::size_t i : {0, 1}) {
      REQUIRE(writer->BeginTensor(i).ok());
      for (const Q4Part part : Q4PartsOf(plan.tensors[i])) {
        REQUIRE(writer->BeginPart(part).ok());
        REQUIRE(writer->Append(ChunkOf(plan, i, 0, RawBytes(sample, plan.tensors[i], part))).ok());
      }
    }
    CHECK(refused(writer->Finish("{}").status()));
  }
  SECTION("a revision after the fact, or to another tensor") {
    Q4Tensor other = plan.tensors[0];
    other.name = "other";
    CHECK(refused(writer->ReviseTensor(0, other)));
    REQUIRE(writer->BeginTensor(0).ok());
    CHECK(refused(writer->ReviseTensor(0, plan.tensors[0])));
  }
}

TEST_CASE("a tensor can fall back to being raw", "[q4][writer]") {
  MemoryFileSystem fs;
  auto file = fs.CreateExclusive("t.q4");
  REQUIRE(file.ok());
  Q4Index plan;
  plan.tensors.push_back(QuantizedTensor("w", Q4Scheme::kNf4, {64}, 64, true));
  const auto writer = WriterOf(file->get(), plan);
  REQUIRE(writer->ReviseTensor(0, RawTensor("w", DType::kBF16, {64})).ok());
  REQUIRE(writer->BeginTensor(0).ok());
  REQUIRE(writer->BeginPart(Q4Part::kData).ok());
  REQUIRE(writer->Append(ChunkOf(plan, 0, 0, TestBytes(128, 1))).ok());
  writer->SetTensorResult(0, false, 0, nullptr);
  REQUIRE(writer->Finish("{}").ok());
  CHECK(VerifySample(fs["t.q4"]).ok());
}

TEST_CASE("flushing hands over what was gathered", "[q4][writer]") {
  MemoryFileSystem fs;
  auto file = fs.CreateExclusive("t.q4");
  REQUIRE(file.ok());
  const auto writer = WriterOf(file->get(), SmallSample().plan);
  CHECK(writer->bytes_written() == kQ4HeaderBytes);
  REQUIRE(writer->Flush().ok());
  CHECK(fs["t.q4"].size() == kQ4HeaderBytes);
}

TEST_CASE("an index beyond the limit is refused while planning", "[q4][writer]") {
  Q4Sample sample;
  sample.Add(RawTensor("w", DType::kU8, {8}));
  sample.Sort();
  CHECK(ComputeQ4Layout(sample.plan, sample.payload_order, (256u << 20) - 512).ok());
  CHECK(IssueNumberOf(ComputeQ4Layout(sample.plan, sample.payload_order, 256u << 20).status()) ==
        kQ4IndexTooLarge.number);
  sample.plan.tensors[0].shape = {std::uint64_t{1} << 47};
  sample.plan.tensors[0].elems = std::uint64_t{1} << 47;
  CHECK(IssueNumberOf(ComputeQ4Layout(sample.plan, sample.payload_order, 0).status()) == kQ4IndexTooLarge.number);
  CHECK_FALSE(ComputeQ4Layout(sample.plan, std::vector<std::size_t>{}, 0).ok());
  CHECK_FALSE(ComputeQ4Layout(sample.plan, std::vector<std::size_t>{0, 0}, 0).ok());
}

}  // namespace
}  // namespace q4
