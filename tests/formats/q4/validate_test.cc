// Files whose digests are all right and whose content lies (F7.5).
#include "formats/q4/validate.h"

#include <limits>
#include <string>
#include <string_view>

#include "formats/base/base_issues.h"
#include "formats/q4/chunk.h"
#include "formats/q4/parts.h"
#include "formats/q4/q4_issues.h"
#include "tests/formats/q4/samples.h"
#include "tests/support/bytes.h"
#include "tests/support/catch.h"

namespace q4 {
namespace {

constexpr std::uint64_t kHuge = std::numeric_limits<std::uint64_t>::max();

// Opens FullSample() after `edit` changed its index and all digests were made anew.
absl::Status Forge(const std::function<void(Q4Index*)>& edit) {
  ForgedContainer forged(WriteSample(FullSample()));
  forged.EditIndex(edit);
  return VerifySample(forged.Seal());
}

void CheckIssue(const Issue& issue, const absl::Status& status) {
  INFO(status.ToString());
  CHECK(IssueNumberOf(status) == issue.number);
  CHECK(ExitCodeOf(status) == issue.exit_code);
}

// `text` is what the message says beside the rule, where several places of the code know the same rule.
void CheckForged(const Issue& issue, const std::function<void(Q4Index*)>& edit, std::string_view text = {}) {
  const absl::Status status = Forge(edit);
  CheckIssue(issue, status);
  CHECK(MessageOf(status).find(text) != std::string::npos);
}

void CheckForgedChunks(const Issue& issue, const std::function<void(std::vector<Q4Chunk>*)>& edit,
                       std::string_view text = {}) {
  ForgedContainer forged(WriteSample(FullSample()));
  forged.EditChunks(edit);
  const absl::Status status = VerifySample(forged.Seal());
  CheckIssue(issue, status);
  CHECK(MessageOf(status).find(text) != std::string::npos);
}

Q4Tensor& Named(Q4Index* index, const std::string& name) {
  for (Q4Tensor& tensor : index->tensors) {
    if (tensor.name == name) return tensor;
  }
  FAIL("no tensor " << name);
  return index->tensors.front();
}

TEST_CASE("a forged container without a lie opens", "[q4][validate]") {
  CHECK(Forge([](Q4Index*) {}).ok());
}

TEST_CASE("a lying tensor record is refused", "[q4][validate]") {
  const auto tensor = [](const Issue& issue, const std::string& name, const std::function<void(Q4Tensor&)>& edit) {
    INFO(name);
    CheckForged(issue, [&](Q4Index* index) { edit(Named(index, name)); });
  };
  tensor(kQ4TensorRecord, "bias", [](Q4Tensor& t) { t.dtype = static_cast<DType>(0); });
  tensor(kQ4TensorRecord, "bias", [](Q4Tensor& t) { t.dtype = static_cast<DType>(18); });
  tensor(kQ4TensorRecord, "bias", [](Q4Tensor& t) { t.scheme = static_cast<Q4Scheme>(3); });
  tensor(kQ4TensorRecord, "bias", [](Q4Tensor& t) { t.encoder = Q4Encoder::kAbsmax; });
  tensor(kQ4TensorRecord, "bias", [](Q4Tensor& t) { t.block_size = 64; });
  tensor(kQ4TensorRecord, "bias", [](Q4Tensor& t) { t.nested = true; });
  tensor(kQ4TensorRecord, "bias", [](Q4Tensor& t) { t.has_stats = true, t.stats = std::make_shared<const Q4Stats>(); });
  tensor(kQ4TensorRecord, "bias", [](Q4Tensor& t) { t.nested_offset = 1; });
  tensor(kQ4TensorRecord, "fp4.plain", [](Q4Tensor& t) { t.encoder = static_cast<Q4Encoder>(5); });
  tensor(kQ4TensorRecord, "fp4.plain", [](Q4Tensor& t) { t.scheme = static_cast<Q4Scheme>(3); });
  tensor(kQ4TensorRecord, "fp4.plain", [](Q4Tensor& t) { t.shape = {0}, t.first_chunk = 0; });
  tensor(kQ4TensorRecord, "fp4.plain", [](Q4Tensor& t) { t.dtype = DType::kF64; });
  tensor(kQ4TensorRecord, "fp4.plain", [](Q4Tensor& t) { t.nested_offset = -0.0f; });
  for (const std::uint32_t block_size : {0u, 1u, 16u, 48u, 8192u, 0x80000000u}) {
    tensor(kQ4TensorRecord, "fp4.plain", [block_size](Q4Tensor& t) { t.block_size = block_size; });
  }
  tensor(kQ4TensorRecord, "nf4.nested", [](Q4Tensor& t) { t.nested_offset = std::numeric_limits<float>::quiet_NaN(); });
  tensor(kQ4TensorRecord, "nf4.nested", [](Q4Tensor& t) { t.nested_offset = std::numeric_limits<float>::infinity(); });
  tensor(kQ4TensorShape, "bias", [](Q4Tensor& t) { t.shape = {kHuge}; });
  tensor(kQ4TensorShape, "bias", [](Q4Tensor& t) { t.shape = {std::uint64_t{1} << 32, std::uint64_t{1} << 32}; });
  tensor(kQ4TensorShape, "bias", [](Q4Tensor& t) { t.shape = {std::uint64_t{1} << 48}; });
  tensor(kQ4TensorShape, "bias", [](Q4Tensor& t) { t.shape = Shape(9, 1); });
  tensor(kQ4TensorName, "bias", [](Q4Tensor& t) { t.name = std::string("a\0b", 3); });
  tensor(kQ4TensorName, "bias", [](Q4Tensor& t) { t.name = "\xC0\x80"; });
  tensor(kQ4TensorName, "bias", [](Q4Tensor& t) { t.name.clear(); });
  tensor(kQ4TensorName, "bias", [](Q4Tensor& t) { t.name.assign(4097, 'b'); });
}

TEST_CASE("names must be sorted and unique", "[q4][validate]") {
  CheckForged(kQ4TensorOrder, [](Q4Index* index) { index->tensors[0].name = index->tensors[1].name; });
  CheckForged(kQ4TensorOrder, [](Q4Index* index) { index->tensors[0].name = "zzz"; });
  CheckForged(kQ4FileOrder, [](Q4Index* index) { index->files[1].name = index->files[0].name; });
}

TEST_CASE("embedded files stay below their folder", "[q4][validate]") {
  for (const std::string& name :
       {std::string("../x"), std::string("/etc/passwd"), std::string("a//b"), std::string("./a"), std::string("a/.."),
        std::string("a\\b"), std::string("C:x"), std::string("a\nb"), std::string(""), std::string("a/"),
        std::string("\xFF"), std::string(".env"), std::string(".git/config"), std::string("a/.hidden"),
        std::string("a/.b/c"), std::string("...")}) {
    INFO(name);
    CheckForged(kQ4FileName, [&name](Q4Index* index) { index->files[0].name = name; });
  }
  CheckForged(kQ4FileRecord, [](Q4Index* index) { index->files[0].raw_bytes = kHuge; });
}

TEST_CASE("embedded files can lie beside each other everywhere, and have room", "[q4][validate]") {
  CheckForged(kQ4FileTwins, [](Q4Index* index) {
    REQUIRE(index->files.size() >= 2);
    index->files[0].name = index->files[1].name;
    for (char& c : index->files[0].name) c = c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
  });
  Q4Index index;
  index.files.resize(5);
  for (Q4EmbeddedFile& file : index.files) file.raw_bytes = 256u << 20;
  const absl::Status status = ValidateQ4Index(index, kQ4HeaderBytes, "t.q4").status();
  CheckIssue(kQ4FileRecord, status);
  CHECK(MessageOf(status).find("1342177280 bytes of embedded files") != std::string::npos);
}

TEST_CASE("only the first shard embeds files", "[q4][validate]") {
  ForgedContainer forged(WriteSample(FullSample()));
  forged.header.shard_count = 2;
  CHECK(OpenSample(forged.Seal()).reader.ok());
  forged.header.shard = 1;
  CHECK(IssueNumberOf(VerifySample(forged.Seal())) == kQ4FileRecord.number);
}

TEST_CASE("header fields out of range are refused", "[q4][validate]") {
  const auto edit =
      GENERATE(std::pair<std::uint32_t, std::uint32_t>{0, 0}, std::pair<std::uint32_t, std::uint32_t>{1, 1},
               std::pair<std::uint32_t, std::uint32_t>{0, 10'001});
  ForgedContainer forged(WriteSample(SmallSample()));
  forged.header.shard = edit.first;
  forged.header.shard_count = edit.second;
  CHECK(IssueNumberOf(VerifySample(forged.Seal())) == kQ4HeaderField.number);
  forged = ForgedContainer(WriteSample(SmallSample()));
  forged.header.version = 0;
  CHECK(IssueNumberOf(VerifySample(forged.Seal())) == kQ4HeaderField.number);
}

TEST_CASE("a footer that points elsewhere is refused", "[q4][validate]") {
  ForgedContainer forged(WriteSample(SmallSample()));
  const auto check = [&forged](const std::function<void(Q4Footer*)>& edit) {
    forged.edit_footer = edit;
    CHECK(IssueNumberOf(VerifySample(forged.Seal())) == kQ4FooterField.number);
  };
  check([](Q4Footer* f) { f->index_offset = kHuge; });
  check([](Q4Footer* f) { f->index_bytes = kHuge; });
  check([](Q4Footer* f) { f->index_bytes = kHuge - f->index_offset + 1; });  // the sum wraps to 0
  check([](Q4Footer* f) { f->index_bytes = (std::uint64_t{256} << 20) + 1; });
  check([](Q4Footer* f) { f->index_offset -= 8; });
  check([](Q4Footer* f) { f->index_offset += 8; });
  check([](Q4Footer* f) { f->index_offset += 8, f->index_bytes -= 8, f->file_bytes += 1; });
  check([](Q4Footer* f) { f->file_bytes = 0; });
  check([](Q4Footer* f) { f->index_bytes += f->index_offset, f->index_offset = 0; });
  forged.edit_footer = [](Q4Footer* f) { f->root[31] ^= 1; };
  CHECK(IssueNumberOf(VerifySample(forged.Seal())) == kQ4RootDiffers.number);
  forged.edit_footer = [](Q4Footer* f) { f->index_xxh3 ^= 1; };
  CHECK(IssueNumberOf(VerifySample(forged.Seal())) == kQ4IndexDamaged.number);
}

TEST_CASE("every chunk has exactly one owner", "[q4][validate]") {
  const auto first_chunk = [](const std::string& name, std::uint64_t first) {
    CheckForged(kQ4ChunkOwner, [&](Q4Index* index) { Named(index, name).first_chunk = first; });
  };
  first_chunk("bias", kHuge);
  first_chunk("bias", 0);  // that of a file
  first_chunk("nf4.nested", kHuge);
  first_chunk("nf4.nested", kHuge - 1);  // its further parts wrap to 0
  CheckForged(
      kQ4ChunkOwner, [](Q4Index* index) { Named(index, "bias").first_chunk = Named(index, "scalar").first_chunk; },
      "tensor 'scalar'");
  CheckForgedChunks(
      kQ4ChunkOwner, [](std::vector<Q4Chunk>* chunks) { chunks->push_back(chunks->back()); }, "has none");
  CheckForgedChunks(kQ4ChunkOwner, [](std::vector<Q4Chunk>* chunks) { chunks->pop_back(); });
  CheckForgedChunks(
      kQ4ChunkOwner, [](std::vector<Q4Chunk>* chunks) { chunks->clear(); }, "file '1_Pooling/config.json'");
  // Tensors of equal form may trade their segments in the index, but the seeds of their chunks tell.
  CheckForged(kQ4ChunkOwner, [](Q4Index* index) { Named(index, "bias").shape = {kQ4ChunkBytes / 4 + 1}; });
}

TEST_CASE("chunks lie where the format puts them", "[q4][validate]") {
  CheckForgedChunks(kQ4ChunkPlace, [](std::vector<Q4Chunk>* chunks) { (*chunks)[0].offset = 0; });
  CheckForgedChunks(kQ4ChunkPlace, [](std::vector<Q4Chunk>* chunks) { (*chunks)[1].offset = (*chunks)[0].offset; });
  CheckForgedChunks(kQ4ChunkPlace,
                    [](std::vector<Q4Chunk>* chunks) { std::swap((*chunks)[0].offset, (*chunks)[1].offset); });
  CheckForgedChunks(kQ4ChunkPlace, [](std::vector<Q4Chunk>* chunks) { chunks->back().offset += 4096; });
  CheckForgedChunks(kQ4ChunkPlace, [](std::vector<Q4Chunk>* chunks) { chunks->back().offset = kHuge; });
  ForgedContainer forged(WriteSample(SmallSample()));
  forged.payload.resize(forged.payload.size() + 4096);  // a hole before the index
  CHECK(IssueNumberOf(VerifySample(forged.Seal())) == kQ4ChunkPlace.number);
}

TEST_CASE("chunk sizes follow from the shape", "[q4][validate]") {
  CheckForged(kQ4ChunkSize, [](Q4Index* index) { Named(index, "bias").shape = {301}; });
  CheckForged(kQ4ChunkSize, [](Q4Index* index) { Named(index, "fp4.plain").shape = {9, 38}; });
  CheckForged(kQ4ChunkSize, [](Q4Index* index) { Named(index, "fp4.plain").block_size = 32; });
  CheckForgedChunks(kQ4ChunkSize, [](std::vector<Q4Chunk>* chunks) { (*chunks)[0].raw_bytes = 0x40000000; });
  CheckForged(kQ4ChunkSize, [](Q4Index* index) { index->files[0].raw_bytes = 3; });
  CheckForgedChunks(kQ4ChunkCodec, [](std::vector<Q4Chunk>* chunks) { (*chunks)[0].stored_bytes += 1; });
  CheckForgedChunks(kQ4ChunkCodec, [](std::vector<Q4Chunk>* chunks) { (*chunks)[0].stored_bytes = 0; });
  CheckForgedChunks(kQ4ChunkCodec, [](std::vector<Q4Chunk>* chunks) { (*chunks)[0].plane_bytes = 2; });
  CheckForgedChunks(kQ4ChunkCodec, [](std::vector<Q4Chunk>* chunks) { (*chunks)[0].codec = static_cast<Q4Codec>(2); });
  // That of "bias", which is stored: compressed, it would save nothing.
  CheckForgedChunks(kQ4ChunkCodec, [](std::vector<Q4Chunk>* chunks) { chunks->back().codec = Q4Codec::kZstd; });
}

// A container with one compressed chunk of a tensor of U8, its stored bytes replaced.
absl::Status WithFrame(const test::Bytes& frame) {
  Q4Sample sample;
  sample.Add(RawTensor("t", DType::kU8, {4000}));
  sample.parts["t"][Q4Part::kData].assign(4000, 0);
  sample.Sort();
  sample.compression.zstd = true;
  ForgedContainer forged(WriteSample(sample));
  forged.EditChunks([&](std::vector<Q4Chunk>* chunks) {
    Q4Chunk& chunk = chunks->front();
    REQUIRE(chunk.codec == Q4Codec::kZstd);
    chunk.stored_bytes = static_cast<std::uint32_t>(frame.size());
    chunk.xxh3 = Xxh3(frame, Q4ChunkSeed(forged.header.file_id, {Q4ChunkPlace::Section::kTensor, 0, 0}));
    chunk.sha256 = Sha256Of(frame);
  });
  forged.payload.assign(4096, 0);
  std::copy(frame.begin(), frame.end(), forged.payload.begin());
  const absl::Status status = VerifySample(forged.Seal());
  CHECK(ExitCodeOf(status) == (status.ok() ? ExitCode::kOk : ExitCode::kCheckFailed));
  if (!status.ok()) CHECK(MessageOf(status).find("t.q4: tensor 't', data, chunk 0: ") != std::string::npos);
  return status;
}

test::Bytes FrameOf(std::uint64_t zeros) {
  auto chunk = EncodeQ4Chunk({}, {}, test::Bytes(zeros), 1, {true, 3});
  REQUIRE(chunk.ok());
  REQUIRE(chunk->entry.codec == Q4Codec::kZstd);
  return chunk->stored;
}

TEST_CASE("compressed chunks are one frame of the expected size", "[q4][validate]") {
  const test::Bytes good = FrameOf(4000);
  CHECK(WithFrame(good).ok());

  CHECK(IssueNumberOf(WithFrame(FrameOf(8u << 20))) == kZstdSize.number);  // a bomb: 2 KiB that would be 8 MiB
  CHECK(IssueNumberOf(WithFrame(FrameOf(3999))) == kZstdSize.number);
  test::Bytes longer = good;
  longer.push_back(0);
  CHECK(IssueNumberOf(WithFrame(longer)) == kZstdFrame.number);
  test::Bytes twice = good;
  twice.insert(twice.end(), good.begin(), good.end());
  CHECK(IssueNumberOf(WithFrame(twice)) == kZstdFrame.number);
  CHECK_FALSE(WithFrame({0x50, 0x2A, 0x4D, 0x18, 4, 0, 0, 0, 1, 2, 3, 4}).ok());  // skippable
  CHECK_FALSE(WithFrame({1, 2, 3}).ok());
  test::Bytes cut(good.begin(), good.end() - 1);
  CHECK_FALSE(WithFrame(cut).ok());
  // The digests are right and the frame's header too; the data are not.
  std::uint64_t refused = 0;
  for (std::size_t at = 7; at < good.size(); ++at) {
    test::Bytes corrupt = good;
    corrupt[at] ^= 0xFF;
    if (!WithFrame(corrupt).ok()) ++refused;
  }
  CHECK(refused > 0);
}

TEST_CASE("provenance is text", "[q4][validate]") {
  CheckForged(kQ4Provenance, [](Q4Index* index) { index->provenance = "\xFF"; });
  CheckForged(kQ4Provenance, [](Q4Index* index) { index->provenance.assign((16u << 20) + 1, ' '); });
}

TEST_CASE("an index has no more tensors than a checkpoint may have", "[q4][validate]") {
  Q4Index index;
  index.tensors.resize(1'000'001);
  const absl::Status status = ValidateQ4Index(index, kQ4HeaderBytes, "t.q4").status();
  CheckIssue(kQ4TensorRecord, status);
  CHECK(MessageOf(status).find("1000001 tensors") != std::string::npos);
}

TEST_CASE("element counts", "[q4][validate]") {
  std::uint64_t elems = 1;
  CHECK((ComputeQ4Elements({}, &elems) && elems == 1));
  CHECK((ComputeQ4Elements({0, 1u << 30, 1u << 30}, &elems) && elems == 0));
  CHECK((ComputeQ4Elements({(std::uint64_t{1} << 48) - 1}, &elems) && elems == (std::uint64_t{1} << 48) - 1));
  CHECK_FALSE(ComputeQ4Elements({1u << 24, 1u << 24}, &elems));
  CHECK_FALSE(ComputeQ4Elements({0, kHuge}, &elems));
}

}  // namespace
}  // namespace q4
