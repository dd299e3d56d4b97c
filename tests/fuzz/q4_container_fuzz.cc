// A whole container from somebody who computes all digests right (docs/format.md F7.5). The input is
//   u16 size of the index | bytes 8 .. 71 of the header | index | the stored bytes of all chunks, one after the other
// and the target puts the chunks where the index says, enters their digests, and seals the file. What opens and
// verifies can be read in full.
#include <algorithm>
#include <numeric>
#include <vector>

#include "formats/base/byte_reader.h"
#include "formats/base/byte_writer.h"
#include "formats/base/checked_math.h"
#include "formats/q4/chunk.h"
#include "formats/q4/index.h"
#include "formats/q4/layout.h"
#include "formats/q4/reader.h"
#include "formats/q4/verify.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/support/bytes.h"
#include "tests/support/memory_file_system.h"

namespace q4::fuzz {
namespace {

constexpr char kPath[] = "f.q4";
constexpr std::size_t kHeaderFields = 64;  // of the input, behind the magic
constexpr std::uint64_t kMostFileBytes = std::uint64_t{1} << 18;
constexpr std::uint64_t kMostRawBytes = std::uint64_t{4} << 20;  // that are decoded

// The header with the digest that its fields ask for.
test::Bytes MakeHeader(std::span<const std::uint8_t> fields) {
  ByteWriter out;
  out.Bytes(kQ4Magic);
  out.Bytes(fields);
  out.Zeros(kQ4HeaderBytes - 8 - out.size());
  Sha256 file_id{};
  std::copy_n(out.bytes().begin() + 32, file_id.size(), file_id.begin());
  out.U64(Xxh3(out.bytes(), Q4Seed(file_id, Q4DigestSection::kHeader)));
  return out.Take();
}

// The place that seeds the digest of each chunk, as far as the index gives it one.
std::vector<Q4ChunkPlace> PlacesOf(const Q4Index& index) {
  std::vector<Q4ChunkPlace> places(index.chunks.size());
  const auto claim = [&](std::uint64_t first, std::uint64_t count, Q4ChunkPlace place) {
    for (std::uint64_t i = 0; i < count && first < places.size() && i < places.size() - first; ++i) {
      place.chunk = i;
      places[first + i] = place;
    }
  };
  for (std::size_t i = 0; i < index.files.size(); ++i) {
    claim(index.files[i].first_chunk, index.files[i].chunk_count, {Q4ChunkPlace::Section::kFile, i, 0});
  }
  for (std::size_t i = 0; i < index.tensors.size(); ++i) {
    const Q4Tensor& tensor = index.tensors[i];
    claim(tensor.first_chunk, Q4ChunkCountOf(tensor), {Q4ChunkPlace::Section::kTensor, i, 0});
  }
  return places;
}

// Where the records of the chunks begin in the index, which was decoded before: the Offset of section 5.
std::uint64_t ChunkRecords(std::span<const std::uint8_t> index) {
  ByteReader in(index);
  in.Bytes(8 + 4 * Q4SectionEntry::kBytes);
  return Q4SectionEntry::DecodeFrom(&in).offset;
}

// Puts the chunks where `index` says, `stored` being their bytes, and enters their digests into `index_bytes`.
test::Bytes PlaceChunks(const Q4Index& index, std::span<const std::uint8_t> stored, test::Bytes* index_bytes) {
  test::Bytes payload;
  const std::vector<Q4ChunkPlace> places = PlacesOf(index);
  const std::uint64_t records = ChunkRecords(*index_bytes);
  for (std::size_t i = 0; i < index.chunks.size(); ++i) {
    Q4Chunk chunk = index.chunks[i];
    const auto bytes = stored.first(std::min<std::size_t>(stored.size(), chunk.stored_bytes));
    stored = stored.subspan(bytes.size());
    if (chunk.offset < kQ4HeaderBytes || !RangeFits(chunk.offset, bytes.size(), kMostFileBytes)) continue;
    const std::uint64_t begin = chunk.offset - kQ4HeaderBytes;
    if (payload.size() < begin + bytes.size()) payload.resize(begin + bytes.size());
    std::copy(bytes.begin(), bytes.end(), payload.begin() + static_cast<std::ptrdiff_t>(begin));
    chunk.xxh3 = Xxh3(bytes, Q4ChunkSeed(index.file_id, places[i]));
    chunk.sha256 = Sha256Of(bytes);
    ByteWriter record;
    EncodeQ4ChunkRecord(chunk, &record);
    std::copy(record.bytes().begin(), record.bytes().end(),
              index_bytes->begin() + static_cast<std::ptrdiff_t>(records + i * kQ4ChunkRecordBytes));
  }
  payload.resize(CeilDiv(payload.size(), kQ4SegmentAlignment) * kQ4SegmentAlignment);
  return payload;
}

test::Bytes MakeContainer(FuzzInput input) {
  const std::size_t index_size = input.Below(1 << 16);
  const test::Bytes header = MakeHeader(input.Take(kHeaderFields));
  const auto index_input = input.Take(index_size);
  test::Bytes index(index_input.begin(), index_input.end());
  Q4Header decoded_header;
  std::copy_n(header.begin() + 32, decoded_header.file_id.size(), decoded_header.file_id.begin());
  test::Bytes payload;
  if (const auto decoded = DecodeQ4Index(decoded_header, index, kPath); decoded.ok()) {
    payload = PlaceChunks(*decoded, input.Rest(), &index);
  }

  ByteWriter out;
  out.Bytes(header);
  out.Bytes(payload);
  out.Bytes(index);
  Q4Footer footer;
  footer.index_offset = kQ4HeaderBytes + payload.size();
  footer.index_bytes = index.size();
  footer.file_bytes = out.size() + kQ4FooterBytes;
  footer.index_xxh3 = Xxh3(index, Q4Seed(decoded_header.file_id, Q4DigestSection::kIndex));
  footer.root = Q4Root(header, index);
  footer.EncodeTo(decoded_header.file_id, &out);
  return out.Take();
}

void ReadEverything(const Q4Reader& reader) {
  const Q4Index& index = reader.index();
  for (std::size_t i = 0; i < index.tensors.size(); ++i) {
    const Q4Tensor& tensor = index.tensors[i];
    Q4_FUZZ_CHECK(reader.FindTensor(tensor.name) == static_cast<std::int64_t>(i));
    Q4_FUZZ_CHECK(ReadQ4Tensor(reader, tensor).ok());
    for (const Q4PartEntry& part : tensor.parts()) {
      const auto bytes = reader.ReadPart(tensor, part.part);
      Q4_FUZZ_CHECK(bytes.ok() && bytes->size() == part.raw_bytes);
    }
  }
  for (const Q4EmbeddedFile& file : index.files) {
    const auto content = reader.ReadFile(file);
    Q4_FUZZ_CHECK(content.ok() && content->size() == file.raw_bytes);
  }
}

}  // namespace
}  // namespace q4::fuzz

Q4_FUZZ_TARGET(q4_container) {
  using namespace q4;
  MemoryFileSystem fs;
  fs[fuzz::kPath] = fuzz::MakeContainer(fuzz::FuzzInput(data, size));
  const auto reader = Q4Reader::Open(fs, fuzz::kPath);
  if (!reader.ok()) {
    fuzz::CheckError(reader.status());
    return 0;
  }
  const auto& chunks = (*reader)->index().chunks;
  const std::uint64_t raw_bytes =
      std::accumulate(chunks.begin(), chunks.end(), std::uint64_t{0},
                      [](std::uint64_t sum, const Q4Chunk& chunk) { return sum + chunk.raw_bytes; });
  if (raw_bytes > fuzz::kMostRawBytes) return 0;  // nothing is wrong with it, but decoding takes its time
  if (const absl::Status status = VerifyQ4Container(**reader); status.ok()) {
    fuzz::ReadEverything(**reader);
  } else {
    fuzz::CheckError(status);
  }
  return 0;
}
