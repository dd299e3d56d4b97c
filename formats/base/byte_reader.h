// A cursor over little-endian bytes that cannot leave them. Every binary structure of the formats (header, footer and
// records of .q4, zstd's frame header) is read through it, so that bounds are checked in one place. byte_writer.h is
// its mirror image.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>

namespace q4 {

// Reading past the end sets the reader to failed: that read and all later ones give zeros or an empty span, and ok()
// stays false. So a run of fields is read first and ok() asked once:
//
//   ByteReader in(bytes);
//   const std::uint32_t version = in.U32();
//   const std::uint64_t offset = in.U64();
//   if (!in.ok()) return Fail(...);
//
// No count may be used before ok() was asked. Does not own the bytes and copies none. Cheap to copy. Not thread-safe.
class ByteReader {
 public:
  // `bytes` must outlive the reader. `base_offset` is where they lie in their file, in bytes; it only shifts offset().
  explicit ByteReader(std::span<const std::uint8_t> bytes, std::uint64_t base_offset = 0)
      : bytes_(bytes), base_offset_(base_offset) {}

  // False once a read did not fit; never true again.
  bool ok() const { return ok_; }
  // Unread bytes; 0 once failed.
  std::uint64_t remaining() const { return ok_ ? bytes_.size() - position_ : 0; }
  // Absolute offset of the next byte; once failed, of the field that did not fit.
  std::uint64_t offset() const { return base_offset_ + position_; }

  // Integers and IEEE 754 numbers, little-endian, at any alignment. 0 when too few bytes remain. Any bit pattern is a
  // valid F32() or F64(), NaN included: ranges are the caller's business.
  std::uint8_t U8() { return Unsigned<std::uint8_t>(); }
  std::uint16_t U16() { return Unsigned<std::uint16_t>(); }
  std::uint32_t U32() { return Unsigned<std::uint32_t>(); }
  std::uint64_t U64() { return Unsigned<std::uint64_t>(); }
  float F32() { return std::bit_cast<float>(U32()); }
  double F64() { return std::bit_cast<double>(U64()); }

  // The next `count` bytes, in place and valid as long as the bytes given to the constructor; an empty span when fewer
  // remain. `count` may be any number that a file claims.
  std::span<const std::uint8_t> Bytes(std::uint64_t count) {
    if (!Available(count)) return {};
    const auto out = bytes_.subspan(position_, static_cast<std::size_t>(count));
    position_ += static_cast<std::size_t>(count);
    return out;
  }

 private:
  // The subtraction cannot wrap: position_ never exceeds the size.
  bool Available(std::uint64_t count) {
    ok_ = ok_ && count <= bytes_.size() - position_;
    return ok_;
  }

  // With the width known to the compiler this is one load: an index of 100,000 tensors has millions of fields.
  // The loop is independent of the machine's byte order.
  template <typename T>
  T Unsigned() {
    const auto field = Bytes(sizeof(T));
    if (field.size() != sizeof(T)) return 0;
    T value = 0;
    for (std::size_t i = 0; i < sizeof(T); ++i) value = static_cast<T>(value | static_cast<T>(T{field[i]} << (8 * i)));
    return value;
  }

  // All bytes, read or not.
  std::span<const std::uint8_t> bytes_;
  std::uint64_t base_offset_;
  std::size_t position_ = 0;  // of the next byte, within bytes_
  bool ok_ = true;
};

}  // namespace q4
