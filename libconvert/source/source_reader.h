// Elements of the tensors of a checkpoint, whatever the files hold for them. The one place that carries out a
// SourceRecipe: policy, pipeline, verifier and inspector ask for elements and never see how they are stored.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "absl/status/status.h"
#include "formats/source/checkpoint.h"
#include "libconvert/base/budget.h"
#include "libconvert/source/file_hasher.h"

namespace q4 {

// Thread-safe; holds nothing but the checkpoint, which must outlive it.
class SourceReader {
 public:
  // `checkpoint` is not owned.
  explicit SourceReader(const Checkpoint& checkpoint) : checkpoint_(checkpoint) {}

  // The elements from `first` on, as many as fill `out`, as little-endian bytes of the tensor's dtype. `tensor` is one
  // of the checkpoint; `first` counts elements. REQUIRES: `out` holds whole elements. Errors: those of
  // RandomAccessFile::ReadAt() (exit code 2, or 3 where the file has become shorter); kReadOutsideTensor, an internal
  // error, for elements that do not exist.
  absl::Status Read(const SourceTensor& tensor, std::uint64_t first, std::span<std::uint8_t> out) const;

  // The same into a buffer that `hasher` may keep until the turn of its bytes has come: the digest of a file then needs
  // no reading of its own. The hasher shares the buffer, so nobody may change its bytes any more; readers may use it at
  // the same time. Of a tensor whose elements are not stored bytes nothing is given, and the hasher reads its extents
  // itself. Errors as Read(); nothing is given to the hasher then.
  absl::Status ReadAndHash(const SourceTensor& tensor, std::uint64_t first, const std::shared_ptr<Buffer>& out,
                           FileHasher* hasher) const;

  // Asks the system to bring the stored bytes of `count` elements from `first` on to memory, and returns at once. They
  // may begin or end behind the tensor: what follows it in the file is usually wanted next. Advisory, as
  // RandomAccessFile::Prefetch().
  void Prefetch(const SourceTensor& tensor, std::uint64_t first, std::uint64_t count) const;

 private:
  // Not owned.
  const Checkpoint& checkpoint_;
};

}  // namespace q4
