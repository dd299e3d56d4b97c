#include "formats/q4/writer.h"

#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "formats/base/base_issues.h"
#include "formats/base/status.h"
#include "formats/q4/index.h"
#include "formats/q4/q4_issues.h"
#include "tests/formats/q4/samples.h"
#include "tests/support/bytes.h"
#include "tests/support/catch.h"
#include "tests/support/faulty_file_system.h"
#include "tests/support/must.h"
#include "tests/support/temp_dir.h"

namespace q4 {
namespace {

std::unique_ptr<Q4Writer> WriterOf(WritableFile* file, const Q4Index& plan) {
  return test::Must(Q4Writer::Create(file, plan));
}

Q4EncodedChunk ChunkOf(const Q4Index& plan, std::uint64_t owner, std::uint64_t number, test::Bytes raw) {
  return test::Must(
      EncodeQ4Chunk(plan.file_id, {Q4ChunkPlace::Section::kTensor, owner, number}, std::move(raw), 1, {}));
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
    for (const Q4Part part : Q4PartKindsOf(tensor)) {
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
  SECTION("file") { plan.files.emplace_back().name = "../config.json"; }
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
    CHECK(refused(writer->Append(ChunkOf(plan, 0, 0, test::Bytes(10)))));
    CHECK(refused(writer->BeginPart(Q4Part::kData)));
    REQUIRE(writer->BeginTensor(0).ok());
    CHECK(refused(writer->Append(ChunkOf(plan, 0, 0, test::Bytes(10)))));
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
    const absl::Status again = writer->Finish("{}").status();
    CHECK(refused(again));
    CHECK(MessageOf(again).find("finished twice") != std::string::npos);
  }
  SECTION("a chunk that is said to be there already") {
    REQUIRE(writer->BeginTensor(0).ok());
    REQUIRE(writer->BeginPart(Q4Part::kData).ok());
    Q4Chunk chunk = ChunkOf(plan, 0, 0, test::Bytes(10)).entry;
    chunk.offset = writer->bytes_written();
    CHECK(refused(writer->AppendStored(chunk)));
  }
  SECTION("a chunk of the wrong size") {
    REQUIRE(writer->BeginFile(0).ok());
    REQUIRE(writer->Append(ChunkOf(plan, 0, 0, test::Bytes(3))).ok());
    for (const std::size_t i : {0, 1}) {
      REQUIRE(writer->BeginTensor(i).ok());
      for (const Q4Part part : Q4PartKindsOf(plan.tensors[i])) {
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
    other = plan.tensors[0];
    other.block_size = 48;
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
  REQUIRE(writer->Append(ChunkOf(plan, 0, 0, test::Bytes(128, 1))).ok());
  writer->SetTensorResult(0, false, 0, nullptr);
  REQUIRE(writer->Finish("{}").ok());
  CHECK(VerifySample(fs["t.q4"]).ok());
}

TEST_CASE("results that no reader would accept are refused", "[q4][writer]") {
  MemoryFileSystem fs;
  auto file = fs.CreateExclusive("t.q4");
  REQUIRE(file.ok());
  Q4Sample sample;
  sample.Add(QuantizedTensor("w", Q4Scheme::kNf4, {64}, 64, true));
  const Q4Tensor planned = sample.plan.tensors[0];
  sample.plan.tensors[0].stats = nullptr;  // known when the data are
  const auto writer = WriterOf(file->get(), sample.plan);
  REQUIRE(writer->BeginTensor(0).ok());
  for (std::uint64_t chunk = 0; const Q4Part part : Q4PartKindsOf(planned)) {
    REQUIRE(writer->BeginPart(part).ok());
    REQUIRE(writer->Append(ChunkOf(sample.plan, 0, chunk++, RawBytes(sample, planned, part))).ok());
  }
  std::string provenance = "{}";
  Issue issue = kQ4WriterMisuse;
  std::string text;
  SECTION("none") { text = "tensor 'w' has no result"; }
  SECTION("an offset that is no number") {
    writer->SetTensorResult(0, true, std::numeric_limits<float>::quiet_NaN(), planned.stats.get());
    text = "nested offset is not finite";
  }
  SECTION("an index beyond the limit") {
    writer->SetTensorResult(0, true, 0.5f, planned.stats.get());
    provenance.assign(256u << 20, ' ');
    issue = kQ4IndexTooLarge;
  }
  const absl::Status status = writer->Finish(std::move(provenance)).status();
  INFO(status.ToString());
  CHECK(IssueNumberOf(status) == issue.number);
  CHECK(MessageOf(status).find(text) != std::string::npos);
}

TEST_CASE("a resumed writer retraces what is there and nothing else", "[q4][writer]") {
  const Q4Sample sample = SmallSample();
  const test::Bytes whole = WriteSample(sample);
  const OpenedSample opened = OpenSample(whole);
  REQUIRE(opened.reader.ok());
  const Q4Index& written = (*opened.reader)->index();
  MemoryFileSystem fs;
  fs["t.q4"].assign(whole.begin(), whole.begin() + static_cast<long>((*opened.reader)->seal().index_offset));
  auto file = fs.OpenLocked("t.q4");
  REQUIRE(file.ok());
  auto resumed = Q4Writer::Resume(file->get(), sample.plan);
  REQUIRE(resumed.ok());
  Q4Writer& writer = **resumed;
  const auto refused_for = [](const absl::Status& status, const char* text) {
    INFO(status.ToString());
    CHECK(IssueNumberOf(status) == kQ4WriterMisuse.number);
    CHECK(MessageOf(status).find(text) != std::string::npos);
  };

  for (const std::size_t i : sample.payload_order) {
    REQUIRE(writer.BeginTensor(i).ok());
    for (const Q4PartEntry& part : written.tensors[i].parts()) {
      REQUIRE(writer.BeginPart(part.part).ok());
      REQUIRE(writer.AppendStored(written.chunks[part.first_chunk]).ok());
      refused_for(writer.AppendStored(written.chunks[0]), "lies elsewhere");
    }
    const Q4Tensor& tensor = sample.plan.tensors[i];
    writer.SetTensorResult(i, tensor.nested, tensor.nested_offset, tensor.stats.get());
  }
  refused_for(writer.Append(ChunkOf(sample.plan, 0, 0, test::Bytes(10))), "out of turn");
  refused_for(writer.Finish(sample.provenance).status(), "finished while retracing");
  writer.Continue();
  REQUIRE(writer.Finish(sample.provenance).ok());
  CHECK(fs["t.q4"] == whole);
}

// Writes raw tensors of these sizes, and an index of `index_bytes`.
absl::Status WriteTensors(FileSystem& fs, const std::string& path, const std::vector<std::uint64_t>& sizes,
                          std::uint64_t index_bytes) {
  Q4Index plan;
  for (const std::uint64_t size : sizes) {
    plan.tensors.push_back(RawTensor("t" + std::to_string(plan.tensors.size()), DType::kU8, {size}));
  }
  Q4_ASSIGN_OR_RETURN(const auto file, fs.OpenLocked(path));
  Q4_ASSIGN_OR_RETURN(const auto writer, Q4Writer::Create(file.get(), plan));
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    Q4_RETURN_IF_ERROR(writer->BeginTensor(i));
    Q4_RETURN_IF_ERROR(writer->BeginPart(Q4Part::kData));
    Q4_RETURN_IF_ERROR(writer->Append(ChunkOf(plan, i, 0, test::Bytes(sizes[i]))));
  }
  const std::uint64_t without_provenance = Q4IndexBytes(writer->index(), sizes.size(), 0);
  REQUIRE(without_provenance <= index_bytes);
  Q4_RETURN_IF_ERROR(writer->Finish(std::string(index_bytes - without_provenance, ' ')).status());
  return file->Close();
}

// What is smaller than 1 MiB is gathered, so an error comes with whatever makes the buffer overflow. The first tensor
// is written at once and ends one byte before a page; the second fills the buffer so far that it overflows with, in
// turn, the padding before a third, the padding before the index, the index and the footer.
TEST_CASE("whichever write fails, its error comes through", "[q4][writer]") {
  constexpr std::uint64_t kBuffer = 1 << 20;
  const auto [sizes, index_bytes] =
      GENERATE(table<std::vector<std::uint64_t>, std::uint64_t>({{{kBuffer + 4095, kBuffer - 11, 8}, 1024},
                                                                 {{kBuffer + 4095, kBuffer - 11}, 1024},
                                                                 {{kBuffer + 4095, kBuffer - 11 - 4096}, 8192},
                                                                 {{kBuffer + 4095, kBuffer - 11 - 4096}, 4088}}));
  std::int64_t calls = 0;
  for (bool failed = true; failed; ++calls) {
    const test::TempDir dir;
    test::FaultyFileSystem fs(calls);
    const absl::Status status = WriteTensors(fs, dir.File("t.q4"), sizes, index_bytes);
    INFO("call " << calls << ": " << status.message());
    failed = fs.failed();
    CHECK(IssueNumberOf(status) == (failed ? kCannotWrite.number : 0));
    if (!failed) CHECK(Q4Reader::Open(PosixFileSystem(), dir.File("t.q4")).ok());
  }
  CHECK(calls == 7);  // open; header, first tensor, a full buffer, the rest; close; none
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
}

TEST_CASE("a layout is computed of a valid plan only", "[q4][writer]") {
  Q4Index plan = SmallSample().plan;
  std::vector<std::size_t> order = {0, 1};
  Issue issue = kQ4WriterMisuse;
  std::string text;
  SECTION("a tensor is missing") { order = {1}, text = "lacks a tensor"; }
  SECTION("a tensor comes twice") { order = {1, 1}, text = "tensor 1 twice"; }
  SECTION("a tensor is unknown") { order = {0, 2}, text = "tensor 2 twice or unknown"; }
  SECTION("a tensor breaks a rule") { plan.tensors[1].block_size = 48, issue = kQ4TensorRecord; }
  SECTION("a file breaks a rule") { plan.files.emplace_back().name = "../config.json", issue = kQ4FileName; }
  const absl::Status status = ComputeQ4Layout(plan, order, 0).status();
  INFO(status.ToString());
  CHECK(IssueNumberOf(status) == issue.number);
  CHECK(MessageOf(status).find(text) != std::string::npos);
}

}  // namespace
}  // namespace q4
