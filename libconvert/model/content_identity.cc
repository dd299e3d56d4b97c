// One walk puts records and digests of raw chunks into the text of F7.8, which is digested as it grows. Those of stored
// chunks are in the index, where stored and raw bytes are the same; those of compressed ones are computed before, in
// the order of the walk.
#include "libconvert/model/content_identity.h"

#include <array>
#include <bit>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "formats/base/status.h"
#include "libconvert/base/parallel.h"
#include "libconvert/model/model_issues.h"

namespace q4 {
namespace {

static_assert(std::endian::native == std::endian::little, "numbers are digested as they lie in memory");

constexpr std::string_view kContentMagic = "q4-content-1\n";

struct ChunkAt {
  const Q4Reader* reader;
  std::uint64_t chunk;
  const Q4Chunk& entry() const { return reader->index().chunks[chunk]; }
};

// Gathers what is small, so that a digest is not asked for each number.
class DigestText {
 public:
  template <typename T>
  void Number(T value) {
    Add(&value, sizeof value);
  }
  void Text(std::string_view text) {
    // A tensor's name has at most 4,096 bytes.
    Add(text.data(), text.size());
  }
  void Name(std::string_view name) {
    Number(static_cast<std::uint32_t>(name.size()));
    Text(name);
  }
  void Digest(const Sha256& digest) { Add(digest.data(), digest.size()); }

  Sha256 Finish() {
    Flush();
    return stream_.Finish();
  }

 private:
  // REQUIRES: at most the buffer's size.
  void Add(const void* bytes, std::size_t size) {
    if (buffer_.size() - used_ < size) Flush();
    if (size != 0) std::memcpy(buffer_.data() + used_, bytes, size);
    used_ += size;
  }
  void Flush() {
    stream_.Update(std::span(buffer_).first(used_));
    used_ = 0;
  }

  std::array<std::uint8_t, 16384> buffer_;
  std::size_t used_ = 0;
  Sha256Stream stream_;
};

// `compressed`: of the raw bytes of each compressed chunk, in the order of the walk.
Sha256 IdentityOf(const Q4Model& model, const std::vector<Sha256>& compressed) {
  DigestText text;
  auto next = compressed.begin();
  const auto add_chunks = [&](const Q4Reader& reader, std::uint64_t first, std::uint64_t count) {
    for (std::uint64_t i = 0; i < count; ++i) {
      const Q4Chunk& chunk = reader.index().chunks[first + i];
      text.Digest(chunk.codec == Q4Codec::kStored ? chunk.sha256 : *next++);
    }
  };
  text.Text(kContentMagic);
  text.Number<std::uint64_t>(model.tensors().size());
  for (const Q4Model::Location& at : model.tensors()) {
    const Q4Tensor& tensor = model.tensor(at);
    text.Name(tensor.name);
    text.Number(tensor.block_size);
    text.Number(static_cast<std::uint8_t>(tensor.dtype));
    text.Number(static_cast<std::uint8_t>(tensor.shape.size()));
    text.Number(static_cast<std::uint8_t>(tensor.scheme));
    text.Number(static_cast<std::uint8_t>(tensor.encoder));
    text.Number<std::uint32_t>(tensor.nested ? 1 : 0);
    text.Number(tensor.nested_offset);
    for (const std::uint64_t dim : tensor.shape) text.Number(dim);
    for (const Q4PartEntry& part : tensor.parts()) add_chunks(model.reader(at), part.first_chunk, part.chunk_count);
  }
  // Only the first shard has files, and has them sorted.
  const Q4Reader& first = *model.shards().front();
  text.Number<std::uint64_t>(first.index().files.size());
  for (const Q4EmbeddedFile& file : first.index().files) {
    text.Name(file.name);
    text.Number(file.raw_bytes);
    add_chunks(first, file.first_chunk, file.chunk_count);
  }
  return text.Finish();
}

}  // namespace

std::optional<Sha256> ContentIdentityOfIndex(const Q4Model& model) {
  if (model.shards().size() != model.shards().front()->index().shard_count) return std::nullopt;
  for (const auto& shard : model.shards()) {
    const auto& chunks = shard->index().chunks;
    for (std::size_t i = 0; i < chunks.size(); ++i) {
      if (chunks[i].codec != Q4Codec::kStored) return std::nullopt;
    }
  }
  return IdentityOf(model, {});
}

absl::StatusOr<Sha256> ContentIdentity(const Q4Model& model, unsigned threads, CancelFlag* cancel) {
  std::vector<ChunkAt> compressed;
  const auto collect = [&compressed](const Q4Reader& reader, std::uint64_t first, std::uint64_t count) {
    for (std::uint64_t i = 0; i < count; ++i) {
      const ChunkAt at{&reader, first + i};
      if (at.entry().codec != Q4Codec::kStored) compressed.push_back(at);
    }
  };
  for (const Q4Model::Location& at : model.tensors()) {
    for (const Q4PartEntry& part : model.tensor(at).parts()) {
      collect(model.reader(at), part.first_chunk, part.chunk_count);
    }
  }
  const Q4Reader& first_shard = *model.shards().front();
  for (const Q4EmbeddedFile& file : first_shard.index().files) collect(first_shard, file.first_chunk, file.chunk_count);
  std::vector<Sha256> digests;
  digests.reserve(compressed.size());
  const auto work = [&](std::uint64_t i) -> absl::StatusOr<Sha256> {
    const ChunkAt& at = compressed[i];
    if (cancel != nullptr && cancel->load()) return Fail(kContentInterrupted, at.reader->path(), {});
    Q4_ASSIGN_OR_RETURN(const std::vector<std::uint8_t> raw, at.reader->ReadChunk(at.chunk));
    return Sha256Of(raw);
  };
  const auto commit = [&digests](std::uint64_t, const absl::StatusOr<Sha256>& digest) -> absl::Status {
    Q4_RETURN_IF_ERROR(digest.status());
    digests.push_back(*digest);
    return absl::OkStatus();
  };
  Q4_RETURN_IF_ERROR(ParallelInOrder(compressed.size(), threads, work, commit));
  return IdentityOf(model, digests);
}

}  // namespace q4
