// Compares the CRC-32 values that a file gives for its own bytes (SourceChecksum) with the bytes, as they pass by.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "absl/status/status.h"
#include "formats/source/checkpoint.h"

namespace q4 {

// One pass over one file, from its first byte to its last. Not thread-safe. Not owned: the file, which must outlive it.
class ChecksumCheck {
 public:
  explicit ChecksumCheck(const CheckpointFile& file) : file_(&file) {}

  // Goes on at byte `at`, where an earlier run ended. What came before was compared then; of a range that lies across
  // `at` the first part is read again. Errors: those of ReadAt(). REQUIRES: called before the first Update().
  absl::Status SkipTo(std::uint64_t at);
  // The next bytes of the file.
  void Update(std::span<const std::uint8_t> bytes);
  // The first range so far whose bytes are others than they were: kZipCrc. A range that is not complete is none.
  absl::Status status() const { return status_; }

 private:
  const CheckpointFile* file_;
  std::uint64_t at_ = 0;   // of the next byte
  std::size_t next_ = 0;   // of the checksums, the one that at_ lies in or before
  std::uint32_t crc_ = 0;  // of its bytes so far
  absl::Status status_;
};

}  // namespace q4
