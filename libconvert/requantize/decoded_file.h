// A file of a container that also shows, behind its end, what its tensors and embedded files are when they are decoded.
// So whoever digests the file reads what is stored, and whoever asks for elements reads elements; no copy of the
// decoded model is made. Internal to libconvert/requantize/.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/base/file.h"
#include "formats/q4/reader.h"

namespace q4 {

// Thread-safe. Holds nothing while it is not read; a read takes MemoryOfRead().
class DecodedFile final : public RandomAccessFile {
 public:
  // What lies behind the end: bytes [begin, begin + bytes).
  struct Region {
    std::uint64_t begin = 0, bytes = 0;
  };

  // Shard number `shard` of `model`, opened once more. `fs` must outlive the result. Errors: those of OpenForRead();
  // kFileChanged if it is another file by now.
  static absl::StatusOr<std::shared_ptr<DecodedFile>> Open(FileSystem& fs, std::shared_ptr<const Q4Model> model,
                                                           std::size_t shard);

  // Of tensor or embedded file number `i` of the shard's index. A quantized tensor's elements have its dtype.
  const Region& tensor(std::size_t i) const { return tensors_[i]; }
  const Region& embedded(std::size_t i) const { return files_[i]; }
  // The most that one read takes beside its output, in bytes.
  std::uint64_t MemoryOfRead() const;

  // A range before the end is that of the file; behind it, one inside a region. Errors: those of the file; of
  // Q4Reader::ReadChunk() and kQ4ScaleValue, for all that is decoded is checked (exit code 6); kFileEndsEarly for any
  // other range.
  absl::Status ReadAt(std::uint64_t offset, std::span<std::uint8_t> out) const override;
  absl::Status ReadUncached(std::uint64_t offset, std::span<std::uint8_t> out) const override {
    return file_->ReadUncached(offset, out);
  }
  bool ReadCached(std::uint64_t offset, std::span<std::uint8_t> out) const override {
    return file_->ReadCached(offset, out);
  }
  void Prefetch(std::uint64_t offset, std::uint64_t bytes) const override;
  FileVersion version() const override { return file_->version(); }
  absl::StatusOr<FileVersion> VersionNow() const override { return file_->VersionNow(); }
  std::uint64_t size() const override { return file_->size(); }
  const std::string& path() const override { return file_->path(); }
  FileIdentity identity() const override { return file_->identity(); }

 private:
  DecodedFile() = default;
  const Q4Reader& reader() const { return *model_->shards()[shard_]; }
  absl::Status ReadStored(std::uint64_t first_chunk, std::uint64_t begin, std::span<std::uint8_t> out) const;
  absl::Status ReadTensor(const Q4Tensor& tensor, std::uint64_t begin, std::span<std::uint8_t> out) const;

  std::shared_ptr<const Q4Model> model_;
  std::size_t shard_ = 0;
  std::unique_ptr<RandomAccessFile> file_;
  std::vector<Region> tensors_, files_;
  // Regions in the order of their bytes, which are those of tensors in the order of their chunks: indices into
  // tensors_.
  std::vector<std::uint32_t> by_place_;
};

}  // namespace q4
