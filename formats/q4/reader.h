// Opens .q4 containers. Opening reads header, footer and index; a tensor costs its own bytes.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "formats/base/file.h"
#include "formats/q4/container.h"
#include "formats/q4/layout.h"
#include "formats/q4/parts.h"
#include "formats/q4/shards.h"
#include "formats/q4/validate.h"

namespace q4 {

// One validated container file (one shard). Thread-safe.
//
// Errors: exit code 3 when the file is no container, 5 when it needs a newer reader, 6 when it is damaged, 2 when it
// cannot be read.
class Q4Reader {
 public:
  // Reads and validates header, footer and index: digests and root, then every structural rule of docs/format.md. No
  // payload is read.
  static absl::StatusOr<std::unique_ptr<Q4Reader>> Open(FileSystem& fs, const std::string& path);

  const Q4Index& index() const { return index_; }
  const Q4Seal& seal() const { return seal_; }
  const std::string& path() const { return file_->path(); }
  const RandomAccessFile& file() const { return *file_; }
  // Index into index().tensors, or -1.
  std::int64_t FindTensor(std::string_view name) const;

  // Reads one chunk (an index into index().chunks): checks its XXH3, decompresses, joins byte planes.
  absl::StatusOr<std::vector<std::uint8_t>> ReadChunk(std::uint64_t chunk) const;
  // The whole of a tensor's part, its scales checked to be finite and of the right sign (F3.6). Allocates the part's
  // size, which the shape alone determines: go by chunks where that may be too much.
  absl::StatusOr<std::vector<std::uint8_t>> ReadPart(const Q4Tensor& tensor, Q4Part part) const;
  // The whole of an embedded file.
  absl::StatusOr<std::string> ReadFile(const Q4EmbeddedFile& file) const;

  // The tensor that a chunk belongs to; nullptr for a chunk of an embedded file.
  const Q4Tensor* TensorOfChunk(std::uint64_t chunk) const;
  // What the chunk holds, for messages: "tensor 'x', codes, chunk 3".
  std::string DescribeChunk(std::uint64_t chunk) const;

  // Checks XXH3 and SHA-256 of the stored bytes of one chunk, and that the padding before it is zero. Holds a small
  // part of the chunk at a time.
  absl::Status VerifyChunk(std::uint64_t chunk) const;
  // The same and ReadChunk() in one, reading the file once.
  absl::StatusOr<std::vector<std::uint8_t>> ReadVerifiedChunk(std::uint64_t chunk) const;
  // Checks the padding between the last chunk and the index. Every byte of the file is covered by Open(),
  // VerifyChunk() of every chunk, and this.
  absl::Status VerifyTail() const;

 private:
  Q4Reader() = default;
  // Sets index_ and chunk_owner_, every rule of docs/format.md but the digests checked.
  absl::Status DecodeIndex(const Q4Header& header, const Q4Footer& footer, const SharedArray<std::uint8_t>& bytes);
  // The stored bytes of a chunk, their XXH3 checked.
  absl::StatusOr<std::vector<std::uint8_t>> ReadStored(std::uint64_t chunk) const;
  absl::StatusOr<std::vector<std::uint8_t>> Decode(std::uint64_t chunk, std::vector<std::uint8_t> stored) const;
  std::uint64_t SeedOf(std::uint64_t chunk) const;
  absl::Status CheckPaddingBefore(std::uint64_t chunk) const;
  // That the bytes [begin, end) are zero.
  absl::Status CheckZero(std::uint64_t begin, std::uint64_t end, std::string_view before) const;

  std::unique_ptr<RandomAccessFile> file_;
  Q4Index index_;
  Q4Seal seal_;
  Q4ChunkOwners chunk_owner_;
};

// A model: one container, or the shards named by NAME.q4.index.json, or one shard opened alone. Thread-safe.
class Q4Model {
 public:
  // The content decides whether `path` is a container or a list of shards.
  static absl::StatusOr<std::unique_ptr<Q4Model>> Open(FileSystem& fs, const std::string& path);

  struct Location {
    std::size_t shard = 0;
    std::size_t tensor = 0;
  };
  const std::vector<std::unique_ptr<Q4Reader>>& shards() const { return shards_; }
  const std::string& path() const { return path_; }
  // All tensors of all shards, bytewise sorted by name.
  const std::vector<Location>& tensors() const { return tensors_; }
  const Q4Tensor& tensor(const Location& at) const { return shards_[at.shard]->index().tensors[at.tensor]; }
  const Q4Reader& reader(const Location& at) const { return *shards_[at.shard]; }
  const Location* Find(std::string_view name) const;
  // Embedded files of all shards (they lie in the first); an error when there is no such file.
  absl::StatusOr<std::string> ReadFile(std::string_view name) const;
  // SHA-256 over the shard roots in order; the root itself for a single file.
  Sha256 root() const;

 private:
  Q4Model() = default;
  std::string path_;
  std::vector<std::unique_ptr<Q4Reader>> shards_;
  std::vector<Location> tensors_;
};

// One tensor's codes and decoded-ready scales, as a loader wants them.
struct Q4TensorData {
  std::vector<std::uint8_t> data;  // kRaw
  std::vector<std::uint8_t> codes;
  std::vector<float> scales;  // fp32 scales; nested: empty, use scale_codes and scales2
  std::vector<std::uint8_t> scale_codes;
  std::vector<float> scales2;
};
// Allocates the tensor's stored size before compression; see Q4Reader::ReadPart().
absl::StatusOr<Q4TensorData> ReadQ4Tensor(const Q4Reader& reader, const Q4Tensor& tensor);

}  // namespace q4
