#include "formats/q4/reader.h"

#include <chrono>
#include <iostream>
#include <limits>

#include "fmt/format.h"
#include "formats/base/base_issues.h"
#include "formats/q4/chunk.h"
#include "formats/q4/q4_issues.h"
#include "tests/formats/q4/samples.h"
#include "tests/support/bytes.h"
#include "tests/support/catch.h"
#include "tests/support/faulty_file_system.h"
#include "tests/support/temp_dir.h"

namespace q4 {
namespace {

TEST_CASE("what was written is read back", "[q4][reader]") {
  const bool compressed = GENERATE(false, true);
  Q4Sample sample = FullSample();
  sample.compression.zstd = compressed;
  const OpenedSample opened = OpenSample(WriteSample(sample));
  REQUIRE(opened.reader.ok());
  const Q4Reader& reader = **opened.reader;
  CHECK(reader.index().file_id == sample.plan.file_id);
  CHECK(reader.index().provenance == sample.provenance);
  REQUIRE(reader.index().tensors.size() == sample.plan.tensors.size());
  for (std::size_t i = 0; i < sample.plan.tensors.size(); ++i) {
    const Q4Tensor& expected = sample.plan.tensors[i];
    const Q4Tensor& got = reader.index().tensors[i];
    INFO(expected.name);
    CHECK(got.name == expected.name);
    CHECK(got.dtype == expected.dtype);
    CHECK(got.shape == expected.shape);
    CHECK(got.elems == expected.elems);
    CHECK(got.scheme == expected.scheme);
    CHECK(got.encoder == expected.encoder);
    CHECK(got.block_size == expected.block_size);
    CHECK(got.nested == expected.nested);
    CHECK(got.nested_offset == expected.nested_offset);
    CHECK(got.has_stats == expected.has_stats);
    if (expected.has_stats) CHECK(*got.stats == *expected.stats);
    CHECK(reader.FindTensor(expected.name) == static_cast<std::int64_t>(i));
    for (const Q4Part part : Q4PartKindsOf(got)) {
      const auto bytes = reader.ReadPart(got, part);
      REQUIRE(bytes.ok());
      CHECK(*bytes == RawBytes(sample, expected, part));
    }
  }
  CHECK(reader.FindTensor("nf4") == -1);
  CHECK(reader.FindTensor("zzz") == -1);
  REQUIRE(reader.index().files.size() == 3);
  for (std::size_t i = 0; i < sample.files.size(); ++i) {
    const auto content = reader.ReadFile(reader.index().files[i]);
    REQUIRE(content.ok());
    CHECK(*content == sample.files[i]);
  }
  CHECK(VerifyQ4Container(reader).ok());
}

TEST_CASE("compression is used where it pays and nowhere else", "[q4][reader]") {
  Q4Sample sample = FullSample();
  sample.compression.zstd = true;
  const OpenedSample opened = OpenSample(WriteSample(sample));
  REQUIRE(opened.reader.ok());
  const Q4Reader& reader = **opened.reader;
  const auto codec_of = [&](const std::string& name, Q4Part part) {
    const Q4Tensor& tensor = reader.index().tensors[static_cast<std::size_t>(reader.FindTensor(name))];
    return reader.index().chunks[tensor.Part(part)->first_chunk];
  };
  CHECK(codec_of("nf4.nested", Q4Part::kScales2).codec == Q4Codec::kStored);  // 16 bytes
  CHECK(codec_of("bias", Q4Part::kData).codec == Q4Codec::kZstd);
  CHECK(codec_of("bias", Q4Part::kData).plane_bytes == 4);
  CHECK(codec_of("nf4.nested", Q4Part::kCodes).codec == Q4Codec::kZstd);
  CHECK(codec_of("nf4.nested", Q4Part::kCodes).plane_bytes == 1);
}

TEST_CASE("opening reads header, footer and index; a tensor costs its own bytes", "[q4][reader]") {
  const OpenedSample opened = OpenSample(WriteSample(FullSample()));
  REQUIRE(opened.reader.ok());
  const Q4Reader& reader = **opened.reader;
  const std::uint64_t size = reader.seal().file_bytes;
  const std::vector<LoggedRead> open_reads = opened.fs->TakeReads();
  REQUIRE(open_reads.size() == 3);
  CHECK((open_reads[0].offset == 0 && open_reads[0].bytes == kQ4HeaderBytes));
  CHECK((open_reads[1].offset == size - kQ4FooterBytes && open_reads[1].bytes == kQ4FooterBytes));
  CHECK((open_reads[2].offset == reader.seal().index_offset && open_reads[2].bytes == reader.seal().index_bytes));

  const Q4Tensor& tensor = reader.index().tensors[static_cast<std::size_t>(reader.FindTensor("nf4.nested"))];
  const auto data = ReadQ4Tensor(reader, tensor);
  REQUIRE(data.ok());
  CHECK(data->codes.size() == 15500);
  CHECK(data->scales.empty());
  CHECK(data->scale_codes.size() == 969);
  CHECK(data->scales2.size() == 4);
  std::uint64_t bytes = 0;
  for (const LoggedRead& read : opened.fs->TakeReads()) {
    bytes += read.bytes;
    CHECK(read.offset >= reader.index().chunks[tensor.first_chunk].offset);
  }
  CHECK(bytes == 15500 + 969 + 16);
}

TEST_CASE("what is no container is not called damaged", "[q4][reader]") {
  for (const std::string& text :
       {std::string(), std::string("\x89Q4F"), std::string(9000, 'x'), std::string("GGUF....")}) {
    const OpenedSample opened = OpenSample(test::Bytes(text.begin(), text.end()));
    CHECK(IssueNumberOf(opened.reader.status()) == kQ4NotAContainer.number);
    CHECK(ExitCodeOf(opened.reader.status()) == ExitCode::kInvalidInput);
  }
}

TEST_CASE("a partial file is incomplete", "[q4][reader]") {
  const test::Bytes bytes = WriteSample(FullSample());
  const OpenedSample whole = OpenSample(bytes);
  REQUIRE(whole.reader.ok());
  const auto index_offset = static_cast<std::ptrdiff_t>((*whole.reader)->seal().index_offset);
  const OpenedSample opened = OpenSample(test::Bytes(bytes.begin(), bytes.begin() + index_offset));
  CHECK(IssueNumberOf(opened.reader.status()) == kQ4IncompleteContainer.number);
  CHECK(ExitCodeOf(opened.reader.status()) == ExitCode::kCheckFailed);
  for (const std::uint64_t size : {std::uint64_t{8}, kQ4HeaderBytes, kQ4HeaderBytes + kQ4FooterBytes - 1}) {
    const OpenedSample cut = OpenSample(test::Bytes(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(size)));
    INFO(size);
    CHECK(IssueNumberOf(cut.reader.status()) == kQ4IncompleteContainer.number);
  }
}

TEST_CASE("a chunk that another has taken the place of is found by its SHA-256", "[q4][reader]") {
  ForgedContainer forged(WriteSample(SmallSample()));
  forged.EditChunks([](std::vector<Q4Chunk>* chunks) { chunks->front().sha256[0] ^= 1; });
  const OpenedSample opened = OpenSample(forged.Seal());
  REQUIRE(opened.reader.ok());
  CHECK(IssueNumberOf((*opened.reader)->ReadChunk(0).status()) == kQ4ChunkReplaced.number);
  CHECK(IssueNumberOf((*opened.reader)->ReadVerifiedChunk(0).status()) == kQ4ChunkReplaced.number);
  CHECK(IssueNumberOf((*opened.reader)->VerifyChunk(0)) == kQ4ChunkReplaced.number);
}

TEST_CASE("what needs a newer reader says so", "[q4][reader]") {
  ForgedContainer forged(WriteSample(SmallSample()));
  SECTION("version") {
    forged.header.version = 7;
    const OpenedSample opened = OpenSample(forged.Seal());
    CHECK(ExitCodeOf(opened.reader.status()) == ExitCode::kUnsupported);
    CHECK(MessageOf(opened.reader.status()).find("needs version 7, this build reads <= 1") != std::string::npos);
  }
  SECTION("required feature") {
    forged.header.required_features = std::uint64_t{1} << 63;
    const OpenedSample opened = OpenSample(forged.Seal());
    CHECK(ExitCodeOf(opened.reader.status()) == ExitCode::kUnsupported);
    CHECK(IssueNumberOf(opened.reader.status()) == kQ4UnknownFeature.number);
  }
  SECTION("optional features are no obstacle") {
    forged.header.optional_features = ~std::uint64_t{0};
    CHECK(VerifySample(forged.Seal()).ok());
  }
}

TEST_CASE("scales are checked when a part is read", "[q4][reader]") {
  const float bad =
      GENERATE(std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(), -0.5f, -0.0f);
  Q4Sample sample = FullSample();
  const auto put = [&sample, bad](const std::string& name, Q4Part part) {
    test::PutValue(&sample.parts[name][part], 4, bad);
  };
  SECTION("plain") {
    put("fp4.plain", Q4Part::kScales);
    const OpenedSample opened = OpenSample(WriteSample(sample));
    REQUIRE(opened.reader.ok());
    const Q4Reader& reader = **opened.reader;
    const Q4Tensor& tensor = reader.index().tensors[static_cast<std::size_t>(reader.FindTensor("fp4.plain"))];
    CHECK(IssueNumberOf(ReadQ4Tensor(reader, tensor).status()) == kQ4ScaleValue.number);
    CHECK(IssueNumberOf(VerifyQ4Container(reader)) == kQ4ScaleValue.number);
    CHECK(MessageOf(VerifyQ4Container(reader)).find("tensor 'fp4.plain'") != std::string::npos);
  }
  SECTION("nested") {
    put("nf4.nested", Q4Part::kScales2);
    const OpenedSample opened = OpenSample(WriteSample(sample));
    REQUIRE(opened.reader.ok());
    CHECK(IssueNumberOf(VerifyQ4Container(**opened.reader)) == kQ4ScaleValue.number);
  }
}

TEST_CASE("signed scales are allowed but for the absmax encoder", "[q4][reader]") {
  Q4Sample sample = FullSample();
  test::PutValue(&sample.parts["fp4.plain"][Q4Part::kScales], 0, -0.5f);
  const Q4Encoder encoder = GENERATE(Q4Encoder::kNone, Q4Encoder::kAbsmax, Q4Encoder::kMse);
  for (Q4Tensor& tensor : sample.plan.tensors) {
    if (tensor.name == "fp4.plain") tensor.encoder = encoder;
  }
  CHECK(VerifySample(WriteSample(sample)).ok() == (encoder != Q4Encoder::kAbsmax));
}

TEST_CASE("the padding nibble is checked by verifying", "[q4][reader]") {
  Q4Sample sample = SmallSample();
  sample.parts["w"][Q4Part::kCodes].back() ^= 1;
  const OpenedSample opened = OpenSample(WriteSample(sample));
  REQUIRE(opened.reader.ok());
  const Q4Reader& reader = **opened.reader;
  CHECK(ReadQ4Tensor(reader, reader.index().tensors[1]).ok());
  CHECK(IssueNumberOf(VerifyQ4Container(reader)) == kQ4PaddingNibble.number);
}

TEST_CASE("asking for a part that a tensor lacks is an error", "[q4][reader]") {
  const OpenedSample opened = OpenSample(WriteSample(SmallSample()));
  REQUIRE(opened.reader.ok());
  const Q4Reader& reader = **opened.reader;
  CHECK(IssueNumberOf(reader.ReadPart(reader.index().tensors[0], Q4Part::kCodes).status()) == kQ4NoSuchPart.number);
}

// Read by two threads, decoded beside its digests: what is found and reported must not depend on that.
TEST_CASE("a large index is checked like a small one", "[q4][reader]") {
  Q4Sample sample;
  for (int i = 0; i < 4000; ++i) {
    sample.Add(QuantizedTensor(fmt::format("model.layers.{:04}.mlp.weight", i), Q4Scheme::kNf4, {8, 8}, 64, true));
  }
  sample.Sort();
  const test::Bytes intact = WriteSample(sample);
  const ForgedContainer original(intact);
  REQUIRE(original.index.size() > 1'500'000);
  CHECK(OpenSample(intact).reader.ok());

  const std::size_t index_offset = kQ4HeaderBytes + original.payload.size();
  test::Bytes damaged = intact;
  for (std::size_t at = 0; at < original.index.size(); at += original.index.size() / 61) {
    damaged[index_offset + at] ^= 0x40;
    CHECK(IssueNumberOf(OpenSample(damaged).reader.status()) == kQ4IndexDamaged.number);
    damaged[index_offset + at] ^= 0x40;
  }

  ForgedContainer forged = original;
  forged.EditChunks([](std::vector<Q4Chunk>* chunks) { chunks->back().offset += 64; });
  CHECK(IssueNumberOf(VerifySample(forged.Seal())) == kQ4ChunkPlace.number);
  forged.edit_footer = [](Q4Footer* footer) { footer->root[0] ^= 1; };
  CHECK(IssueNumberOf(VerifySample(forged.Seal())) == kQ4RootDiffers.number);

  // Each read fails in turn: those of both halves among them.
  const test::TempDir dir;
  dir.Write("t.q4", test::AsText(intact));
  test::FaultyFileSystem counting(std::numeric_limits<std::int64_t>::max());
  REQUIRE(Q4Reader::Open(counting, dir.File("t.q4")).ok());
  REQUIRE(counting.calls() == 5);  // open, header, footer, two halves
  for (std::int64_t call = 0; call < counting.calls(); ++call) {
    test::FaultyFileSystem fs(call);
    CHECK(IssueNumberOf(Q4Reader::Open(fs, dir.File("t.q4")).status()) == kCannotWrite.number);
  }
}

TEST_CASE("a hundred thousand tensors open quickly", "[q4][reader]") {
  constexpr std::size_t kTensors = 100'000;
  Q4Sample sample;
  for (std::size_t i = 0; i < kTensors; ++i) {
    const std::string name = fmt::format("model.layers.{:05}.mlp.experts.weight", i);
    if (i % 2 == 0) {
      sample.Add(QuantizedTensor(name, Q4Scheme::kNf4, {8, 8}, 64, true));
    } else {
      sample.Add(RawTensor(name, DType::kBF16, {8}));
    }
  }
  sample.Sort();
  MemoryFileSystem fs;
  fs["t.q4"] = WriteSample(sample);
  double best = 1e9;
  std::uint64_t index_bytes = 0;
  for (int run = 0; run < 3; ++run) {
    const auto begin = std::chrono::steady_clock::now();
    const auto reader = Q4Reader::Open(fs, "t.q4");
    const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - begin;
    REQUIRE(reader.ok());
    REQUIRE((*reader)->FindTensor("model.layers.54321.mlp.experts.weight") == 54321);
    index_bytes = (*reader)->seal().index_bytes;
    best = std::min(best, took.count());
  }
  std::cout << "q4_reader: " << kTensors << " tensors (index of " << index_bytes << " bytes) opened in " << best
            << " ms\n";
  // The bound is for the quadratic, not for a slow machine or a sanitizer.
  CHECK(best < 5000);
}

}  // namespace
}  // namespace q4
