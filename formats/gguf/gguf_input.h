// The header of a GGUF file as a stream: fields one after the other through a window of 1 MiB, so that a vocabulary of
// any length passes without lying in memory. Internal to formats/gguf/.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "formats/base/file.h"

namespace q4 {

// As ByteReader: what does not fit sets it to failed, that read and all later ones give zeros and empty texts, and the
// status is asked before any value is used. Not thread-safe.
class GgufInput {
 public:
  // Reads from the first byte on. `file` must outlive it.
  explicit GgufInput(const RandomAccessFile& file) : file_(file) {}

  // OK, kGgufEndsEarly with the place of the field that did not fit, or the error of RandomAccessFile::ReadAt().
  const absl::Status& status() const { return status_; }
  bool ok() const { return status_.ok(); }
  // Of the next byte, from the beginning of the file.
  std::uint64_t offset() const { return offset_; }
  // Bytes of the file from there on.
  std::uint64_t remaining() const { return file_.size() - offset_; }

  std::uint8_t U8();
  std::uint32_t U32();
  std::uint64_t U64();
  // `bytes` bytes of text, which the caller has found to be few; "" when fewer remain.
  std::string Text(std::uint64_t bytes);
  // The next bytes, at least 1 and at most `most`, as many as lie in the window: for what is looked at and not kept.
  // Valid until the next read. Empty once failed. REQUIRES: `most` > 0.
  std::span<const std::uint8_t> Some(std::uint64_t most);
  // Passes over `bytes` bytes, without reading what lies behind the window.
  void Skip(std::uint64_t bytes);

 private:
  // Makes the window hold the next `bytes` bytes, at most kWindowBytes; false once failed.
  bool Need(std::uint64_t bytes);
  // The next `bytes` bytes in the window, passed over; empty once failed, which a ByteReader reads as zeros.
  std::span<const std::uint8_t> Field(std::uint64_t bytes);

  const RandomAccessFile& file_;
  absl::Status status_;
  std::vector<std::uint8_t> window_;
  std::uint64_t window_begin_ = 0;  // where it lies in the file
  std::uint64_t offset_ = 0;
};

}  // namespace q4
