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

  std::uint8_t U8() { return Unsigned<std::uint8_t>(); }
  std::uint16_t U16() { return Unsigned<std::uint16_t>(); }
  std::uint32_t U32() { return Unsigned<std::uint32_t>(); }
  std::uint64_t U64() { return Unsigned<std::uint64_t>(); }
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

  // With the width known to the compiler this is one load: an index of 100,000 tensors has millions of fields.
  template <typename T>
  T Unsigned() {
    const auto field = Bytes(sizeof(T));
    if (field.size() != sizeof(T)) return 0;
    T value = 0;
    for (std::size_t i = 0; i < sizeof(T); ++i) value = static_cast<T>(value | static_cast<T>(T{field[i]} << (8 * i)));
    return value;
  }

  std::span<const std::uint8_t> bytes_;
  std::uint64_t base_offset_;
  std::size_t position_ = 0;
  bool ok_ = true;
};

}  // namespace q4
