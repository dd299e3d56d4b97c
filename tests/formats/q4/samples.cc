#include "tests/formats/q4/samples.h"

#include <algorithm>
#include <numeric>

#include "formats/base/byte_writer.h"
#include "formats/q4/index.h"
#include "formats/q4/parts.h"
#include "formats/q4/validate.h"
#include "tests/support/bytes.h"
#include "tests/support/catch.h"

namespace q4 {
namespace {

// Bytes that compress a little, as weights do.
test::Bytes PatternBytes(std::uint64_t count, std::uint64_t seed) {
  test::Bytes bytes(count);
  std::uint64_t state = seed * 2654435761u + 1;
  for (std::uint8_t& byte : bytes) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    byte = static_cast<std::uint8_t>(state >> 57);
  }
  return bytes;
}

test::Bytes ScaleBytes(std::uint64_t count) {
  std::vector<float> scales(count);
  for (std::uint64_t i = 0; i < count; ++i) scales[i] = 0.01f + static_cast<float>(i % 13) * 0.001f;
  return test::BytesOf(scales);
}

Q4Stats PlausibleStats(const Q4Tensor& tensor) {
  Q4Stats stats;
  stats.count = tensor.elems;
  stats.hist[7] = tensor.elems;
  stats.sum_e = -0.25;
  stats.sum_abs_e = 1.5;
  stats.sum_e2 = 0.125;
  stats.sum_x2 = 12.5;
  stats.sum_xy = 12.25;
  stats.max_abs_err = 0.0625;
  stats.max_abs_err_index = tensor.elems - 1;
  stats.max_gap_ratio = 0.875;
  stats.worst_block_e2 = 0.03125;
  stats.worst_block = tensor.blocks() - 1;
  return stats;
}

}  // namespace

Q4Tensor RawTensor(const std::string& name, DType dtype, Shape shape) {
  Q4Tensor tensor;
  tensor.name = name;
  tensor.dtype = dtype;
  tensor.shape = std::move(shape);
  REQUIRE(ComputeQ4Elements(tensor.shape, &tensor.elems));
  return tensor;
}

Q4Tensor QuantizedTensor(const std::string& name, Q4Scheme scheme, Shape shape, std::uint32_t block_size, bool nested) {
  Q4Tensor tensor = RawTensor(name, DType::kBF16, std::move(shape));
  tensor.scheme = scheme;
  tensor.encoder = Q4Encoder::kAbsmax;
  tensor.block_size = block_size;
  tensor.nested = nested;
  tensor.nested_offset = nested ? 0.015625f : 0;
  tensor.has_stats = true;
  tensor.stats = std::make_shared<const Q4Stats>(PlausibleStats(tensor));
  return tensor;
}

void Q4Sample::Add(Q4Tensor tensor) {
  std::map<Q4Part, test::Bytes>& mine = parts[tensor.name];
  for (const Q4Part part : Q4PartKindsOf(tensor)) {
    const std::uint64_t bytes = Q4PartRawBytes(tensor, part);
    const bool floats = part == Q4Part::kScales || part == Q4Part::kScales2;
    mine[part] = floats ? ScaleBytes(bytes / sizeof(float)) : PatternBytes(bytes, plan.tensors.size());
    if (part == Q4Part::kCodes && tensor.elems % 2 != 0) {
      std::uint8_t& last = mine[part].back();
      last = static_cast<std::uint8_t>((last & 0xF0) | (tensor.scheme == Q4Scheme::kNf4 ? 7 : 0));
    }
  }
  plan.tensors.push_back(std::move(tensor));
}

void Q4Sample::AddFile(const std::string& name, const std::string& content) {
  Q4EmbeddedFile file;
  file.name = name;
  file.raw_bytes = content.size();
  plan.files.push_back(std::move(file));
  files.push_back(content);
}

void Q4Sample::Sort() {
  std::sort(plan.tensors.begin(), plan.tensors.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  payload_order.resize(plan.tensors.size());
  std::iota(payload_order.rbegin(), payload_order.rend(), std::size_t{0});
}

Q4Sample TwoTensorSample() {
  Q4Sample sample;
  std::iota(sample.plan.file_id.begin(), sample.plan.file_id.end(), std::uint8_t{0xA0});
  sample.Add(RawTensor("norm.weight", DType::kBF16, {4}));
  sample.parts["norm.weight"][Q4Part::kData] = {0x80, 0x3F, 0x00, 0x3F, 0x00, 0xC0, 0x00, 0x00};  // 1, 0.5, -2, 0
  Q4Tensor weight = QuantizedTensor("proj.weight", Q4Scheme::kNf4, {3, 11}, 32, false);
  // Codes 15, 0, 1, ... 15, 0, 1, ... and the padding nibble 7; scales 0.5 for 32 elements and 0.25 for the last one.
  test::Bytes codes = {0xF0};
  for (int i = 1; i < 16; ++i) codes.push_back(static_cast<std::uint8_t>(((2 * i - 1) << 4 | (2 * i % 16)) & 0xFF));
  codes.push_back(0xF7);
  Q4Stats stats = *weight.stats;
  stats.hist = {};
  for (std::size_t i = 0; i < weight.elems; ++i) ++stats.hist[test::GetCode(codes, i)];
  weight.stats = std::make_shared<const Q4Stats>(stats);
  sample.Add(weight);
  sample.parts["proj.weight"][Q4Part::kCodes] = codes;
  sample.parts["proj.weight"][Q4Part::kScales] = {0, 0, 0, 0x3F, 0, 0, 0x80, 0x3E};
  sample.Sort();
  return sample;
}

Q4Sample SmallSample() {
  Q4Sample sample;
  sample.plan.file_id[0] = 1;
  sample.Add(RawTensor("norm", DType::kBF16, {5}));
  sample.Add(QuantizedTensor("w", Q4Scheme::kNf4, {3, 33}, 32, false));
  sample.Sort();
  return sample;
}

Q4Sample FullSample() {
  Q4Sample sample;
  sample.plan.file_id.fill(0x5A);
  sample.Add(RawTensor("bias", DType::kF32, {300}));
  sample.Add(RawTensor("empty", DType::kF16, {0, 4}));
  sample.Add(RawTensor("position_ids", DType::kI64, {1, 7}));
  sample.Add(RawTensor("scalar", DType::kF64, {}));
  sample.Add(QuantizedTensor("fp4.plain", Q4Scheme::kFp4, {9, 37}, 64, false));
  sample.Add(QuantizedTensor("nf4.nested", Q4Scheme::kNf4, {1000, 31}, 32, true));
  sample.Add(QuantizedTensor("nf4.plain", Q4Scheme::kNf4, {64, 64}, 4096, false));
  sample.AddFile("1_Pooling/config.json", "{}");
  sample.AddFile("config.json", R"({"model_type":"test"})");
  sample.AddFile("empty.md", "");
  sample.Sort();
  return sample;
}

Q4Sample ShardSample(std::uint32_t shard) {
  Q4Sample sample;
  sample.plan.file_id.fill(static_cast<std::uint8_t>(0x60 + shard));
  sample.plan.shard = shard;
  sample.plan.shard_count = 2;
  if (shard == 0) {
    sample.Add(RawTensor("a.norm", DType::kBF16, {64}));
    sample.Add(QuantizedTensor("a.weight", Q4Scheme::kNf4, {16, 64}, 64, true));
    sample.AddFile("config.json", R"({"model_type":"test"})");
  } else {
    sample.Add(QuantizedTensor("b.weight", Q4Scheme::kFp4, {16, 64}, 64, false));
  }
  const auto source = [](int number) {
    return R"({"name":"model-0000)" + std::to_string(number) + R"(-of-00003.safetensors","sha256":")" +
           std::string(64, static_cast<char>('0' + number)) + R"(","size":)" + std::to_string(1000 * number) + "}";
  };
  const int first = 1 + static_cast<int>(shard);
  sample.provenance = R"({"numerics":"q4n-1","options":{},"source":{"files":[)" + source(first) + "," +
                      source(first + 1) + R"(],"format":"safetensors-sharded"},"tool":{"name":"tests","version":"1"}})";
  sample.Sort();
  return sample;
}

test::Bytes WriteSample(const Q4Sample& sample) {
  MemoryFileSystem fs;
  auto file = fs.CreateExclusive("t.q4");
  REQUIRE(file.ok());
  auto writer = Q4Writer::Create(file->get(), sample.plan);
  INFO(writer.status().ToString());
  REQUIRE(writer.ok());
  const auto append = [&](test::Bytes raw, std::uint64_t chunk_size, std::uint8_t planes, Q4ChunkPlace* place) {
    for (std::size_t begin = 0; begin < raw.size(); begin += chunk_size) {
      const std::size_t end = std::min<std::size_t>(raw.size(), begin + chunk_size);
      auto chunk = EncodeQ4Chunk(
          sample.plan.file_id, *place,
          test::Bytes(raw.begin() + static_cast<std::ptrdiff_t>(begin), raw.begin() + static_cast<std::ptrdiff_t>(end)),
          planes, sample.compression);
      REQUIRE(chunk.ok());
      REQUIRE((*writer)->Append(*std::move(chunk)).ok());
      ++place->chunk;
    }
  };
  for (std::size_t i = 0; i < sample.files.size(); ++i) {
    REQUIRE((*writer)->BeginFile(i).ok());
    Q4ChunkPlace place{Q4ChunkPlace::Section::kFile, i, 0};
    append(test::Bytes(sample.files[i].begin(), sample.files[i].end()), kQ4ChunkBytes, 1, &place);
  }
  for (const std::size_t i : sample.payload_order) {
    const Q4Tensor& tensor = sample.plan.tensors[i];
    REQUIRE((*writer)->BeginTensor(i).ok());
    Q4ChunkPlace place{Q4ChunkPlace::Section::kTensor, i, 0};
    for (const Q4Part part : Q4PartKindsOf(tensor)) {
      REQUIRE((*writer)->BeginPart(part).ok());
      append(RawBytes(sample, tensor, part), Q4ChunkRawSize(part), Q4PlaneBytes(tensor, part), &place);
    }
    (*writer)->SetTensorResult(i, tensor.nested, tensor.nested_offset, tensor.has_stats ? tensor.stats.get() : nullptr);
  }
  const auto seal = (*writer)->Finish(sample.provenance);
  INFO(seal.status().ToString());
  REQUIRE(seal.ok());
  REQUIRE(seal->file_bytes == fs["t.q4"].size());
  return fs["t.q4"];
}

test::Bytes RawBytes(const Q4Sample& sample, const Q4Tensor& tensor, Q4Part part) {
  return sample.parts.at(tensor.name).at(part);
}

OpenedSample OpenSample(test::Bytes bytes) {
  auto fs = std::make_unique<MemoryFileSystem>();
  (*fs)["t.q4"] = std::move(bytes);
  auto reader = Q4Reader::Open(*fs, "t.q4");
  return {std::move(fs), std::move(reader)};
}

absl::Status VerifySample(test::Bytes bytes) {
  const OpenedSample opened = OpenSample(std::move(bytes));
  return opened.reader.ok() ? VerifyQ4Container(**opened.reader) : opened.reader.status();
}

ForgedContainer::ForgedContainer(const test::Bytes& bytes) {
  const std::span<const std::uint8_t> all(bytes);
  auto decoded = Q4Header::DecodeFrom(all.first(kQ4HeaderBytes), "t.q4");
  REQUIRE(decoded.ok());
  header = *decoded;
  const auto footer = Q4Footer::DecodeFrom(all.last(kQ4FooterBytes), header.file_id, "t.q4");
  REQUIRE(footer.ok());
  const auto body = all.subspan(kQ4HeaderBytes, footer->index_offset - kQ4HeaderBytes);
  const auto tail = all.subspan(footer->index_offset, footer->index_bytes);
  payload.assign(body.begin(), body.end());
  index.assign(tail.begin(), tail.end());
}

void ForgedContainer::EditIndex(const std::function<void(Q4Index*)>& edit) {
  auto decoded = DecodeQ4Index(header, index, "t.q4");
  REQUIRE(decoded.ok());
  edit(&*decoded);
  index = EncodeQ4Index(*decoded);
}

void ForgedContainer::EditChunks(const std::function<void(std::vector<Q4Chunk>*)>& edit) {
  EditIndex([&edit](Q4Index* decoded) {
    std::vector<Q4Chunk> chunks = decoded->chunks.ToVector();
    edit(&chunks);
    decoded->chunks = std::move(chunks);
  });
}

test::Bytes ForgedContainer::Seal() const {
  ByteWriter out;
  header.EncodeTo(&out);
  Q4Footer footer;
  footer.root = Q4Root(out.bytes(), index);
  out.Bytes(payload);
  out.Bytes(index);
  footer.index_offset = kQ4HeaderBytes + payload.size();
  footer.index_bytes = index.size();
  footer.file_bytes = out.size() + kQ4FooterBytes;
  footer.index_xxh3 = Xxh3(index, Q4Seed(header.file_id, Q4DigestSection::kIndex));
  edit_footer(&footer);
  footer.EncodeTo(header.file_id, &out);
  return out.Take();
}

}  // namespace q4
