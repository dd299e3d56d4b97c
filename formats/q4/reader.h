// Opens .q4 containers. Opening reads header, footer and index, a small part of the file; a tensor costs its own bytes.
// Q4Reader is one file, Q4Model a whole model with its shards. verify.h checks every byte; what the index means is in
// container.h.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "formats/base/file.h"
#include "formats/base/limits.h"
#include "formats/q4/container.h"
#include "formats/q4/layout.h"
#include "formats/q4/parts.h"
#include "formats/q4/shards.h"
#include "formats/q4/validate.h"

namespace q4 {

// One validated container file (one shard). Immutable and thread-safe: chunks are read side by side. What index()
// refers to lives as long as the reader.
//
// Errors: exit code 3 when the file is no container, 5 when it needs a newer reader, 6 when it is damaged, 2 when it
// cannot be read. A `chunk` below is an index into index().chunks and must be one.
class Q4Reader {
 public:
  // Reads and validates header, footer and index: digests and root, then every structural rule of docs/format.md. No
  // payload is read. Memory: the index, at most 256 MiB, and a small multiple of its tensors. A large index takes a
  // second thread while it is opened. `fs` must outlive the reader.
  static absl::StatusOr<std::unique_ptr<Q4Reader>> Open(FileSystem& fs, const std::string& path);
  // The same of a file that is open, and not null.
  static absl::StatusOr<std::unique_ptr<Q4Reader>> Open(std::unique_ptr<RandomAccessFile> file);

  const Q4Index& index() const { return index_; }
  const Q4Seal& seal() const { return seal_; }
  const std::string& path() const { return file_->path(); }
  // For readers that fetch stored bytes their own way; they check digests themselves.
  const RandomAccessFile& file() const { return *file_; }
  // Index into index().tensors, or -1. Binary search.
  std::int64_t FindTensor(std::string_view name) const;

  // The raw bytes of one chunk: checks its XXH3 and its SHA-256, by which the root vouches for it, decompresses, joins
  // byte planes. kQ4ChunkDamaged, kQ4ChunkReplaced or an error of zstd_codec.h names tensor, part and chunk. The values
  // are unchecked: see F3.6 and ReadPart().
  absl::StatusOr<std::vector<std::uint8_t>> ReadChunk(std::uint64_t chunk) const;
  // The whole of a tensor's part, its scales checked to be finite and of the right sign (F3.6, kQ4ScaleValue).
  // kQ4NoSuchPart (exit code 4) if the tensor has no such part. `tensor` is one of index().tensors. Allocates the
  // part's size, which the shape alone determines: go by chunks where that may be too much.
  absl::StatusOr<std::vector<std::uint8_t>> ReadPart(const Q4Tensor& tensor, Q4Part part) const;
  // The whole of an embedded file; kFileTooLarge (exit code 3) if it has more than `limit` bytes, before anything is
  // read. `file` is one of index().files. ReadFileChunks() hands it on chunk by chunk instead, each with its place.
  absl::StatusOr<std::string> ReadFile(const Q4EmbeddedFile& file,
                                       std::uint64_t limit = limits::kEmbeddedFileBytes) const;
  absl::Status ReadFileChunks(
      const Q4EmbeddedFile& file,
      const std::function<absl::Status(std::uint64_t offset, std::span<const std::uint8_t> bytes)>& take) const;

  // The tensor that a chunk belongs to; nullptr for a chunk of an embedded file. Constant time.
  const Q4Tensor* TensorOfChunk(std::uint64_t chunk) const;
  // What the chunk holds, for messages: "tensor 'x', codes, chunk 3".
  std::string DescribeChunk(std::uint64_t chunk) const;

  // Checks XXH3 and SHA-256 of the stored bytes of one chunk (kQ4ChunkDamaged, kQ4ChunkReplaced), and that the padding
  // before it is zero (kQ4PaddingNotZero). Holds 256 KiB of the chunk at a time. Does not decode it.
  absl::Status VerifyChunk(std::uint64_t chunk) const;
  // ReadChunk(), and that the padding before the chunk is zero: both in one, reading the file once.
  absl::StatusOr<std::vector<std::uint8_t>> ReadVerifiedChunk(std::uint64_t chunk) const;
  // Checks the padding between the last chunk and the index. Every byte of the file is covered by Open(), VerifyChunk()
  // of every chunk, and this.
  absl::Status VerifyTail() const;

 private:
  Q4Reader() = default;
  // Sets index_ and chunk_owner_, every rule of docs/format.md but the digests checked.
  absl::Status DecodeIndex(const Q4Header& header, const Q4Footer& footer, const SharedArray<std::uint8_t>& bytes);
  // The stored bytes of a chunk, their digests checked.
  absl::StatusOr<std::vector<std::uint8_t>> ReadStored(std::uint64_t chunk) const;
  // Their raw bytes; an error names file, owner and chunk.
  absl::StatusOr<std::vector<std::uint8_t>> Decode(std::uint64_t chunk, std::vector<std::uint8_t> stored) const;
  // Of the chunk's XXH3 (F7.2).
  std::uint64_t SeedOf(std::uint64_t chunk) const;
  // Of the bytes between the chunk before, or the header, and this chunk.
  absl::Status CheckPaddingBefore(std::uint64_t chunk) const;
  // That the bytes [begin, end) are zero. `before` says what follows them, for messages.
  absl::Status CheckZero(std::uint64_t begin, std::uint64_t end, std::string_view before) const;

  std::unique_ptr<RandomAccessFile> file_;
  Q4Index index_;
  Q4Seal seal_;
  Q4ChunkOwners chunk_owner_;
};

// A model: one container, or the shards named by NAME.q4.index.json, or one shard opened alone. Immutable and
// thread-safe. Holds one open file per shard.
class Q4Model {
 public:
  // The content decides whether `path` is a container or a list of shards. Opens every shard and compares it with the
  // list: size, root, number, tensors. kQ4ShardList (exit code 3) if the list itself is wrong, kQ4ShardDiffers (6) if a
  // shard is another than the list says, and the errors of Q4Reader::Open(), which name the shard. `fs` must outlive
  // the model.
  static absl::StatusOr<std::unique_ptr<Q4Model>> Open(FileSystem& fs, const std::string& path);

  // Where a tensor lies: index into shards(), and into the tensors of that shard's index.
  struct Location {
    std::size_t shard = 0;
    std::size_t tensor = 0;
  };
  const std::vector<std::unique_ptr<Q4Reader>>& shards() const { return shards_; }
  // As it was given to Open(): the container or the list.
  const std::string& path() const { return path_; }
  // All tensors of all shards, bytewise sorted by name; names are unique over the shards.
  const std::vector<Location>& tensors() const { return tensors_; }
  const Q4Tensor& tensor(const Location& at) const { return shards_[at.shard]->index().tensors[at.tensor]; }
  const Q4Reader& reader(const Location& at) const { return *shards_[at.shard]; }
  // nullptr when there is no such tensor. Binary search. Lives as long as the model.
  const Location* Find(std::string_view name) const;
  // An embedded file by name, whole; they lie in the first shard. kQ4NoSuchFile (exit code 3) when there is none.
  absl::StatusOr<std::string> ReadFile(std::string_view name, std::uint64_t limit = limits::kEmbeddedFileBytes) const;
  // SHA-256 over the shard roots in order; the root itself for a single file (F7.4). Identifies every byte of the
  // model.
  Sha256 root() const;
  // kQ4OtherRoot (exit code 6) unless root() is `pinned`, which the caller has from elsewhere: then what Q4Reader reads
  // of the payload is what was pinned, for it checks SHA-256. No root is OK.
  absl::Status RequireRoot(const std::optional<Sha256>& pinned) const;

 private:
  Q4Model() = default;
  std::string path_;
  std::vector<std::unique_ptr<Q4Reader>> shards_;
  std::vector<Location> tensors_;
};

// One tensor's bytes, part by part, as a loader wants them: only decompressed. Parts that the tensor does not have are
// empty.
struct Q4TensorData {
  std::vector<std::uint8_t> data;   // kept: the elements, little-endian
  std::vector<std::uint8_t> codes;  // two to a byte (numerics Q3.1)
  // One per block; empty when nested. Then the scale of block b is made of scale_codes[b], scales2[b / 256] and
  // Q4Tensor::nested_offset (Q5.5).
  std::vector<float> scales;
  std::vector<std::uint8_t> scale_codes;
  std::vector<float> scales2;
};
// All parts of a tensor of reader.index(). Allocates the tensor's stored size before compression; errors as
// Q4Reader::ReadPart().
absl::StatusOr<Q4TensorData> ReadQ4Tensor(const Q4Reader& reader, const Q4Tensor& tensor);

}  // namespace q4
