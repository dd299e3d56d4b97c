// Nothing is allocated or followed before it was checked: magic, header, footer, structure of the index. The digests of
// the index, which take as long as decoding it, are computed meanwhile; nothing is given out, and no finding about the
// structure reported, before they are known to be right.
//
// A chunk is read in the same order: its stored bytes, their digests, then zstd, then the planes.
#include "formats/q4/reader.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <future>
#include <system_error>

#include "fmt/format.h"
#include "formats/base/base_issues.h"
#include "formats/base/checked_math.h"
#include "formats/base/limits.h"
#include "formats/q4/chunk.h"
#include "formats/q4/index.h"
#include "formats/q4/layout.h"
#include "formats/q4/q4_issues.h"

namespace q4 {
namespace {

absl::Status Incomplete(const RandomAccessFile& file) {
  return Fail(
      kQ4IncompleteContainer, file.path(), "footer",
      fmt::format("the file has {} bytes; a copy or download that was cut off, or still being written?", file.size()));
}

// Scales are copied as they lie in the file (F1.2).
static_assert(std::endian::native == std::endian::little, "scales are copied as they lie in the file");

// Section 6: where the index lies, in a file of `file_bytes`. The three sizes must add up exactly, so an index that
// points outside, into itself or around 2^64 is refused whatever its digest.
absl::Status CheckFooter(const Q4Footer& footer, std::uint64_t file_bytes, std::string_view path) {
  std::uint64_t end = 0;
  const bool holds = footer.file_bytes == file_bytes && footer.index_bytes <= limits::kQ4IndexBytes &&
                     footer.index_offset >= kQ4HeaderBytes &&
                     CheckedAdd(footer.index_offset, footer.index_bytes, &end) &&
                     CheckedAdd(end, kQ4FooterBytes, &end) && end == file_bytes;
  if (holds) return absl::OkStatus();
  return Fail(kQ4FooterField, path, "footer",
              fmt::format("index of {} bytes at {}, file of {}, got {}", footer.index_bytes, footer.index_offset,
                          footer.file_bytes, file_bytes));
}

// The header, or as much of it as an alien or cut file has; it begins with our magic. An alien file is told from a cut
// one by its magic, however short it is.
absl::Status ReadHeader(const RandomAccessFile& file, std::span<std::uint8_t, kQ4HeaderBytes> header) {
  const auto present = header.first(static_cast<std::size_t>(std::min(file.size(), kQ4HeaderBytes)));
  Q4_RETURN_IF_ERROR(file.ReadAt(0, present));
  if (present.size() < kQ4Magic.size() || !std::equal(kQ4Magic.begin(), kQ4Magic.end(), present.begin())) {
    return Fail(kQ4NotAContainer, file.path(), {}, "it does not begin with the magic of .q4");
  }
  if (file.size() < kQ4HeaderBytes + kQ4FooterBytes) {
    return Incomplete(file);
  }
  return absl::OkStatus();
}

// From this size on an index is worth a second thread: below it starting one takes longer.
constexpr std::uint64_t kLargeIndexBytes = 1u << 20;

// Starts `job` on a thread of its own, or lets it run when its result is asked for.
template <typename Job>
auto Start(bool beside, Job job) {
  if (beside) {
    try {
      return std::async(std::launch::async, job);
    } catch (const std::system_error&) {
      // The process may have no more threads: slower, but no error.
    }
  }
  return std::async(std::launch::deferred, job);
}

// Two threads read a large index: most of the time goes into new pages of memory.
absl::Status ReadIndexInto(const RandomAccessFile& file, std::uint64_t offset, std::span<std::uint8_t> bytes) {
  if (bytes.size() < kLargeIndexBytes) return file.ReadAt(offset, bytes);
  const std::size_t half = bytes.size() / 2;
  std::future<absl::Status> second =
      Start(true, [&file, offset, bytes, half] { return file.ReadAt(offset + half, bytes.subspan(half)); });
  // An early return waits for the other half: the future's destructor does, and `bytes` must not die before.
  Q4_RETURN_IF_ERROR(file.ReadAt(offset, bytes.first(half)));
  return second.get();
}

absl::StatusOr<SharedArray<std::uint8_t>> ReadIndex(const RandomAccessFile& file, const Q4Footer& footer) {
  // Not cleared before it is read into. The size was checked against the limit and the file's own size.
  const std::shared_ptr<std::uint8_t> memory(new std::uint8_t[footer.index_bytes],
                                             std::default_delete<std::uint8_t[]>());
  const std::span<std::uint8_t> bytes(memory.get(), footer.index_bytes);
  Q4_RETURN_IF_ERROR(ReadIndexInto(file, footer.index_offset, bytes));
  return SharedArray<std::uint8_t>(memory, bytes.size());
}

// The digests of an index.
struct IndexDigests {
  std::uint64_t xxh3 = 0;
  Sha256 root{};
};

// Runs beside the decoding; reads only what no longer changes.
IndexDigests DigestsOf(std::span<const std::uint8_t> header_bytes, const Sha256& file_id,
                       std::span<const std::uint8_t> index) {
  return {Xxh3(index, Q4Seed(file_id, Q4DigestSection::kIndex)), Q4Root(header_bytes, index)};
}

// Copied rather than cast: a vector of bytes cannot hand its memory to one of floats.
std::vector<float> AsFloats(const std::vector<std::uint8_t>& bytes) {
  std::vector<float> floats(bytes.size() / sizeof(float));
  std::memcpy(floats.data(), bytes.data(), floats.size() * sizeof(float));
  return floats;
}

}  // namespace

// Section 9: magic, header (digest, version, features), then footer, then index. Each step reads only what the one
// before has shown to be there.
absl::StatusOr<std::unique_ptr<Q4Reader>> Q4Reader::Open(FileSystem& fs, const std::string& path) {
  Q4_ASSIGN_OR_RETURN(std::unique_ptr<RandomAccessFile> file, fs.OpenForRead(path));
  return Open(std::move(file));
}

absl::StatusOr<std::unique_ptr<Q4Reader>> Q4Reader::Open(std::unique_ptr<RandomAccessFile> opened) {
  std::unique_ptr<Q4Reader> reader(new Q4Reader);
  reader->file_ = std::move(opened);
  const RandomAccessFile& file = *reader->file_;
  const std::string& path = file.path();
  std::array<std::uint8_t, kQ4HeaderBytes> header_bytes{};
  Q4_RETURN_IF_ERROR(ReadHeader(file, header_bytes));
  Q4_ASSIGN_OR_RETURN(const Q4Header header, Q4Header::DecodeFrom(header_bytes, path));

  // ReadHeader() has seen that the file is long enough for both.
  std::array<std::uint8_t, kQ4FooterBytes> footer_bytes{};
  Q4_RETURN_IF_ERROR(file.ReadAt(file.size() - kQ4FooterBytes, footer_bytes));
  const absl::StatusOr<Q4Footer> decoded = Q4Footer::DecodeFrom(footer_bytes, header.file_id, path);
  if (IssueNumberOf(decoded.status()) == kQ4IncompleteContainer.number) return Incomplete(file);
  Q4_RETURN_IF_ERROR(decoded.status());
  const Q4Footer& footer = *decoded;
  Q4_RETURN_IF_ERROR(CheckFooter(footer, file.size(), path));

  Q4_ASSIGN_OR_RETURN(const SharedArray<std::uint8_t> index_bytes, ReadIndex(file, footer));
  std::future<IndexDigests> digests = Start(index_bytes.size() >= kLargeIndexBytes,
                                            [&] { return DigestsOf(header_bytes, header.file_id, index_bytes); });
  // Kept until the digests are known: a flipped bit must be reported as damage, not as the odd rule that it breaks.
  const absl::Status structure = reader->DecodeIndex(header, footer, index_bytes);
  // Waits in any case: the thread works on this function's memory.
  const IndexDigests found = digests.get();
  if (found.xxh3 != footer.index_xxh3) return Fail(kQ4IndexDamaged, path, "index");
  if (found.root != footer.root) return Fail(kQ4RootDiffers, path, "footer");
  Q4_RETURN_IF_ERROR(structure);
  reader->seal_ = {footer.root, footer.file_bytes, footer.index_offset, footer.index_bytes};
  return reader;
}

// First the rules of each record, then those between records.
absl::Status Q4Reader::DecodeIndex(const Q4Header& header, const Q4Footer& footer,
                                   const SharedArray<std::uint8_t>& bytes) {
  Q4_ASSIGN_OR_RETURN(index_, DecodeQ4Index(header, bytes, path()));
  Q4_ASSIGN_OR_RETURN(chunk_owner_, ValidateQ4Index(index_, footer.index_offset, path()));
  return absl::OkStatus();
}

// The order of the names was checked, so a binary search is enough.
std::int64_t Q4Reader::FindTensor(std::string_view name) const {
  const auto at = std::lower_bound(index_.tensors.begin(), index_.tensors.end(), name,
                                   [](const Q4Tensor& tensor, std::string_view n) { return tensor.name < n; });
  return at != index_.tensors.end() && at->name == name ? at - index_.tensors.begin() : -1;
}

// Owners count the files first, see Q4ChunkOwners.
const Q4Tensor* Q4Reader::TensorOfChunk(std::uint64_t chunk) const {
  const std::size_t owner = chunk_owner_[chunk];
  return owner < index_.files.size() ? nullptr : &index_.tensors[owner - index_.files.size()];
}

// Messages number chunks within their part or file, as somebody counts who looks for one; the index numbers them
// through.
std::string Q4Reader::DescribeChunk(std::uint64_t chunk) const {
  const Q4Tensor* tensor = TensorOfChunk(chunk);
  if (tensor == nullptr) {
    const Q4EmbeddedFile& file = index_.files[chunk_owner_[chunk]];
    return fmt::format("file '{}', chunk {}", file.name, chunk - file.first_chunk);
  }
  // The subtraction wraps for a chunk before the part, so the comparison comes with it.
  for (const Q4PartEntry& part : tensor->parts()) {
    const std::uint64_t number = chunk - part.first_chunk;
    if (chunk >= part.first_chunk && number < part.chunk_count) {
      return fmt::format("tensor '{}', {}, chunk {}", tensor->name, Q4PartName(part.part), number);
    }
  }
  return "tensor '" + tensor->name + "'";
}

// At most 4095 bytes, as ValidateQ4Index() has seen: padding never exceeds an alignment.
absl::Status Q4Reader::CheckZero(std::uint64_t begin, std::uint64_t end, std::string_view before) const {
  std::vector<std::uint8_t> padding(end - begin);
  Q4_RETURN_IF_ERROR(file_->ReadAt(begin, padding));
  const auto bad = std::find_if(padding.begin(), padding.end(), [](std::uint8_t byte) { return byte != 0; });
  if (bad == padding.end()) return absl::OkStatus();
  return Fail(kQ4PaddingNotZero, path(), before,
              fmt::format("at byte {}", begin + static_cast<std::uint64_t>(bad - padding.begin())));
}

// F7.2: the owner's number in its section, and the chunk's running number over all parts of the owner.
std::uint64_t Q4Reader::SeedOf(std::uint64_t chunk) const {
  const Q4Tensor* tensor = TensorOfChunk(chunk);
  Q4ChunkPlace place;
  if (tensor == nullptr) {
    place.section = Q4ChunkPlace::Section::kFile;
    place.owner = chunk_owner_[chunk];
    place.chunk = chunk - index_.files[chunk_owner_[chunk]].first_chunk;
  } else {
    place.owner = chunk_owner_[chunk] - index_.files.size();
    place.chunk = chunk - tensor->first_chunk;
  }
  return Q4ChunkSeed(index_.file_id, place);
}

// Allocates stored_bytes, which the index bounds by the raw size and that by the format's 8 MiB.
absl::StatusOr<std::vector<std::uint8_t>> Q4Reader::ReadStored(std::uint64_t chunk) const {
  const Q4Chunk& entry = index_.chunks[chunk];
  std::vector<std::uint8_t> stored(entry.stored_bytes);
  Q4_RETURN_IF_ERROR(file_->ReadAt(entry.offset, stored));
  // XXH3 first, as in VerifyChunk(): an accident is called one. It keeps nobody from replacing the bytes.
  if (Xxh3(stored, SeedOf(chunk)) != entry.xxh3) return Fail(kQ4ChunkDamaged, path(), DescribeChunk(chunk));
  if (Sha256Of(stored) != entry.sha256) return Fail(kQ4ChunkReplaced, path(), DescribeChunk(chunk));
  return stored;
}

// zstd_codec.h knows neither file nor chunk; they are put in front of its message here.
absl::StatusOr<std::vector<std::uint8_t>> Q4Reader::Decode(std::uint64_t chunk,
                                                           std::vector<std::uint8_t> stored) const {
  auto raw = DecodeQ4Chunk(index_.chunks[chunk], std::move(stored));
  if (!raw.ok()) return InFile(raw.status(), path() + ": " + DescribeChunk(chunk));
  return raw;
}

absl::StatusOr<std::vector<std::uint8_t>> Q4Reader::ReadChunk(std::uint64_t chunk) const {
  Q4_ASSIGN_OR_RETURN(std::vector<std::uint8_t> stored, ReadStored(chunk));
  return Decode(chunk, std::move(stored));
}

// A part of one chunk, as most are, is moved and not copied. Scales are judged when all of them are there.
absl::StatusOr<std::vector<std::uint8_t>> Q4Reader::ReadPart(const Q4Tensor& tensor, Q4Part part) const {
  const std::optional<Q4PartEntry> entry = tensor.Part(part);
  if (!entry) return Fail(kQ4NoSuchPart, path(), "tensor '" + tensor.name + "'", Q4PartName(part));
  std::vector<std::uint8_t> out;
  out.reserve(entry->raw_bytes);
  for (std::uint64_t i = 0; i < entry->chunk_count; ++i) {
    Q4_ASSIGN_OR_RETURN(std::vector<std::uint8_t> raw, ReadChunk(entry->first_chunk + i));
    if (entry->chunk_count == 1) {
      out = std::move(raw);
    } else {
      out.insert(out.end(), raw.begin(), raw.end());
    }
  }
  Q4_RETURN_IF_ERROR(ValidateQ4Scales(tensor, part, out, 0, path()));
  return out;
}

// Reserved from the index: raw_bytes was compared with the number of chunks there and is at most 256 MiB.
absl::StatusOr<std::string> Q4Reader::ReadFile(const Q4EmbeddedFile& file, std::uint64_t limit) const {
  if (file.raw_bytes > limit) {
    return Fail(kFileTooLarge, path(), "file '" + file.name + "'",
                GotExpected(std::to_string(file.raw_bytes) + " bytes", "at most " + std::to_string(limit)));
  }
  std::string content;
  content.reserve(file.raw_bytes);
  Q4_RETURN_IF_ERROR(ReadFileChunks(file, [&](std::uint64_t, std::span<const std::uint8_t> bytes) {
    content.append(bytes.begin(), bytes.end());
    return absl::OkStatus();
  }));
  return content;
}

absl::Status Q4Reader::ReadFileChunks(
    const Q4EmbeddedFile& file,
    const std::function<absl::Status(std::uint64_t, std::span<const std::uint8_t>)>& take) const {
  std::uint64_t offset = 0;
  for (std::uint64_t i = 0; i < file.chunk_count; ++i) {
    Q4_ASSIGN_OR_RETURN(const std::vector<std::uint8_t> raw, ReadChunk(file.first_chunk + i));
    Q4_RETURN_IF_ERROR(take(offset, raw));
    offset += raw.size();
  }
  return absl::OkStatus();
}

// Chunks are adjacent in the index as in the file; before the first one lies the header.
absl::Status Q4Reader::CheckPaddingBefore(std::uint64_t chunk) const {
  const std::uint64_t begin =
      chunk == 0 ? kQ4HeaderBytes : index_.chunks[chunk - 1].offset + index_.chunks[chunk - 1].stored_bytes;
  if (begin == index_.chunks[chunk].offset) return absl::OkStatus();
  return CheckZero(begin, index_.chunks[chunk].offset, "before " + DescribeChunk(chunk));
}

absl::Status Q4Reader::VerifyChunk(std::uint64_t chunk) const {
  // In pieces that stay in a core's cache: both digests then read them from there.
  constexpr std::uint64_t kPieceBytes = std::uint64_t{256} << 10;
  const Q4Chunk& entry = index_.chunks[chunk];
  std::vector<std::uint8_t> piece(std::min<std::uint64_t>(kPieceBytes, entry.stored_bytes));
  Xxh3Stream xxh3(SeedOf(chunk));
  Sha256Stream sha256;
  for (std::uint64_t at = 0; at < entry.stored_bytes; at += piece.size()) {
    piece.resize(std::min<std::uint64_t>(kPieceBytes, entry.stored_bytes - at));
    Q4_RETURN_IF_ERROR(file_->ReadAt(entry.offset + at, piece));
    xxh3.Update(piece);
    sha256.Update(piece);
  }
  // XXH3 first, as in ReadStored(): the same damage has the same number, however it is found.
  if (xxh3.Digest() != entry.xxh3) return Fail(kQ4ChunkDamaged, path(), DescribeChunk(chunk));
  if (sha256.Finish() != entry.sha256) return Fail(kQ4ChunkReplaced, path(), DescribeChunk(chunk));
  return CheckPaddingBefore(chunk);
}

// For q4verify, which needs the bytes of some chunks besides: one pass over the file instead of two.
absl::StatusOr<std::vector<std::uint8_t>> Q4Reader::ReadVerifiedChunk(std::uint64_t chunk) const {
  Q4_ASSIGN_OR_RETURN(std::vector<std::uint8_t> stored, ReadStored(chunk));
  Q4_RETURN_IF_ERROR(CheckPaddingBefore(chunk));
  return Decode(chunk, std::move(stored));
}

// The padding behind the last chunk, or behind the header where there is no chunk. Header, index and footer are covered
// by their digests, which Open() has checked.
absl::Status Q4Reader::VerifyTail() const {
  const std::uint64_t begin =
      index_.chunks.empty() ? kQ4HeaderBytes : index_.chunks.back().offset + index_.chunks.back().stored_bytes;
  return CheckZero(begin, seal_.index_offset, "before the index");
}

absl::StatusOr<Q4TensorData> ReadQ4Tensor(const Q4Reader& reader, const Q4Tensor& tensor) {
  Q4TensorData data;
  for (const Q4PartEntry& part : tensor.parts()) {
    Q4_ASSIGN_OR_RETURN(std::vector<std::uint8_t> bytes, reader.ReadPart(tensor, part.part));
    switch (part.part) {
      case Q4Part::kData:
        data.data = std::move(bytes);
        break;
      case Q4Part::kCodes:
        data.codes = std::move(bytes);
        break;
      case Q4Part::kScales:
        data.scales = AsFloats(bytes);
        break;
      case Q4Part::kScaleCodes:
        data.scale_codes = std::move(bytes);
        break;
      case Q4Part::kScales2:
        data.scales2 = AsFloats(bytes);
        break;
    }
  }
  return data;
}

}  // namespace q4
