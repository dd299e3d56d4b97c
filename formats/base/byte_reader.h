// A cursor over little-endian bytes that cannot leave them.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>

namespace q4 {

// Reading past the end sets the reader to failed: that read and all later ones give zeros or an empty span, and ok()
// stays false. So a run of fields is read first and ok() asked once. No count may be used before ok() was asked.
class ByteReader {
 public:
  // `bytes` must outlive the reader. `base_offset` is where they lie in their file, for messages.
  explicit ByteReader(std::span<const std::uint8_t> bytes, std::uint64_t base_offset = 0)
      : bytes_(bytes), base_offset_(base_offset) {}

  bool ok() const { return ok_; }
  // Unread bytes; 0 once failed.
  std::uint64_t remaining() const { return ok_ ? bytes_.size() - position_ : 0; }
  // Absolute offset of the next byte; once failed, of the field that did not fit.
  std::uint64_t offset() const { return base_offset_ + position_; }

  std::uint8_t U8() { return static_cast<std::uint8_t>(Unsigned(1)); }
  std::uint16_t U16() { return static_cast<std::uint16_t>(Unsigned(2)); }
  std::uint32_t U32() { return static_cast<std::uint32_t>(Unsigned(4)); }
  std::uint64_t U64() { return Unsigned(8); }
  float F32() { return std::bit_cast<float>(U32()); }
  double F64() { return std::bit_cast<double>(U64()); }

  // The next `count` bytes, in place; an empty span when fewer remain.
  std::span<const std::uint8_t> Bytes(std::uint64_t count) {
    if (!Available(count)) return {};
    const auto out = bytes_.subspan(position_, static_cast<std::size_t>(count));
    position_ += static_cast<std::size_t>(count);
    return out;
  }

 private:
  bool Available(std::uint64_t count) {
    ok_ = ok_ && count <= bytes_.size() - position_;
    return ok_;
  }

  std::uint64_t Unsigned(unsigned width) {
    std::uint64_t value = 0;
    const auto field = Bytes(width);
    for (std::size_t i = 0; i < field.size(); ++i) value |= std::uint64_t{field[i]} << (8 * i);
    return value;
  }

  std::span<const std::uint8_t> bytes_;
  std::uint64_t base_offset_;
  std::size_t position_ = 0;
  bool ok_ = true;
};

}  // namespace q4
