// The digests of raw chunks come first, in the order of the text that is digested at the end. Those of stored chunks
// are in the index, where stored and raw bytes are the same; those of compressed ones are computed.
#include "libconvert/model/content_identity.h"

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "formats/base/byte_writer.h"
#include "formats/base/status.h"
#include "libconvert/base/parallel.h"
#include "libconvert/model/model_issues.h"

namespace q4 {
namespace {

constexpr std::string_view kContentMagic = "q4-content-1\n";
// So much text is gathered before it is digested.
constexpr std::uint64_t kBufferBytes = std::uint64_t{1} << 20;

struct ChunkAt {
  const Q4Reader* reader;
  std::uint64_t chunk;
  bool stored() const { return reader->index().chunks[chunk].codec == Q4Codec::kStored; }
};

std::vector<std::pair<const Q4Reader*, const Q4EmbeddedFile*>> FilesOfContent(const Q4Model& model) {
  std::vector<std::pair<const Q4Reader*, const Q4EmbeddedFile*>> files;
  for (const auto& shard : model.shards()) {
    for (const Q4EmbeddedFile& file : shard->index().files) files.emplace_back(shard.get(), &file);
  }
  return files;
}

// All chunks in the order of F7.8: of the tensors by name, of their parts, of the files by name.
std::vector<ChunkAt> ChunksOfContent(const Q4Model& model) {
  std::vector<ChunkAt> chunks;
  for (const Q4Model::Location& at : model.tensors()) {
    for (const Q4PartEntry& part : model.tensor(at).parts()) {
      for (std::uint64_t i = 0; i < part.chunk_count; ++i) chunks.push_back({&model.reader(at), part.first_chunk + i});
    }
  }
  for (const auto& [reader, file] : FilesOfContent(model)) {
    for (std::uint64_t i = 0; i < file->chunk_count; ++i) chunks.push_back({reader, file->first_chunk + i});
  }
  return chunks;
}

// Puts the digests between the records that they belong to.
class ContentText {
 public:
  explicit ContentText(const std::vector<Sha256>& digests) : digests_(digests) {}

  Sha256 Digest(const Q4Model& model) {
    out_.Text(kContentMagic);
    out_.U64(model.tensors().size());
    for (const Q4Model::Location& at : model.tensors()) AddTensor(model.tensor(at));
    const auto files = FilesOfContent(model);
    out_.U64(files.size());
    for (const auto& [reader, file] : files) {
      AddName(file->name);
      out_.U64(file->raw_bytes);
      AddDigests(file->chunk_count);
    }
    stream_.Update(out_.bytes());
    return stream_.Finish();
  }

 private:
  void AddName(const std::string& name) {
    out_.U32(static_cast<std::uint32_t>(name.size()));
    out_.Text(name);
  }

  void AddDigests(std::uint64_t count) {
    for (std::uint64_t i = 0; i < count; ++i) out_.Bytes(digests_[next_++]);
  }

  void AddTensor(const Q4Tensor& tensor) {
    AddName(tensor.name);
    out_.U32(tensor.block_size);
    out_.U8(static_cast<std::uint8_t>(tensor.dtype));
    out_.U8(static_cast<std::uint8_t>(tensor.shape.size()));
    out_.U8(static_cast<std::uint8_t>(tensor.scheme));
    out_.U8(static_cast<std::uint8_t>(tensor.encoder));
    out_.U32(tensor.nested ? 1 : 0);
    out_.F32(tensor.nested_offset);
    for (const std::uint64_t dim : tensor.shape) out_.U64(dim);
    for (const Q4PartEntry& part : tensor.parts()) AddDigests(part.chunk_count);
    if (out_.size() < kBufferBytes) return;
    stream_.Update(out_.Take());
  }

  const std::vector<Sha256>& digests_;
  std::size_t next_ = 0;  // into digests_
  ByteWriter out_;
  Sha256Stream stream_;
};

bool IsWhole(const Q4Model& model) { return model.shards().size() == model.shards().front()->index().shard_count; }

}  // namespace

std::optional<Sha256> ContentIdentityOfIndex(const Q4Model& model) {
  if (!IsWhole(model)) return std::nullopt;
  const std::vector<ChunkAt> chunks = ChunksOfContent(model);
  std::vector<Sha256> digests;
  digests.reserve(chunks.size());
  for (const ChunkAt& at : chunks) {
    if (!at.stored()) return std::nullopt;
    digests.push_back(at.reader->index().chunks[at.chunk].sha256);
  }
  return ContentText(digests).Digest(model);
}

absl::StatusOr<Sha256> ContentIdentity(const Q4Model& model, unsigned threads, CancelFlag* cancel) {
  const std::vector<ChunkAt> chunks = ChunksOfContent(model);
  std::vector<Sha256> digests;
  digests.reserve(chunks.size());
  const auto work = [&](std::uint64_t i) -> absl::StatusOr<Sha256> {
    const ChunkAt& at = chunks[i];
    if (at.stored()) return at.reader->index().chunks[at.chunk].sha256;
    if (cancel != nullptr && cancel->load()) return Fail(kContentInterrupted, at.reader->path(), {});
    Q4_ASSIGN_OR_RETURN(const std::vector<std::uint8_t> raw, at.reader->ReadChunk(at.chunk));
    return Sha256Of(raw);
  };
  const auto commit = [&digests](std::uint64_t, const absl::StatusOr<Sha256>& digest) -> absl::Status {
    Q4_RETURN_IF_ERROR(digest.status());
    digests.push_back(*digest);
    return absl::OkStatus();
  };
  Q4_RETURN_IF_ERROR(ParallelInOrder(chunks.size(), threads, work, commit));
  return ContentText(digests).Digest(model);
}

}  // namespace q4
