// Builds little-endian bytes in memory; the mirror image of ByteReader. For structures whose size is bounded by a
// limit, such as the index of a container: it holds all of them at once.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

namespace q4 {

// Appends field after field. Owns its bytes. Not thread-safe. Fails only where memory is exhausted (std::bad_alloc). A
// structure with a digest appends its fields, takes the digest of bytes() from its own beginning on, and appends that.
class ByteWriter {
 public:
  // Integers and IEEE 754 numbers, little-endian, without padding between them.
  void U8(std::uint8_t value) { bytes_.push_back(value); }
  void U16(std::uint16_t value) { Unsigned(value, 2); }
  void U32(std::uint32_t value) { Unsigned(value, 4); }
  void U64(std::uint64_t value) { Unsigned(value, 8); }
  void F32(float value) { U32(std::bit_cast<std::uint32_t>(value)); }
  void F64(double value) { U64(std::bit_cast<std::uint64_t>(value)); }
  // Bytes and characters as they are: no length in front, no terminator.
  void Bytes(std::span<const std::uint8_t> bytes) { bytes_.insert(bytes_.end(), bytes.begin(), bytes.end()); }
  void Text(std::string_view text) { bytes_.insert(bytes_.end(), text.begin(), text.end()); }
  // `count` zero bytes: reserved fields and padding.
  void Zeros(std::size_t count) { bytes_.resize(bytes_.size() + count); }

  // Bytes so far.
  std::size_t size() const { return bytes_.size(); }
  // Valid until the next append.
  std::span<const std::uint8_t> bytes() const { return bytes_; }
  // Hands the bytes over; the writer is empty afterwards.
  std::vector<std::uint8_t> Take() { return std::exchange(bytes_, {}); }

 private:
  // The lowest `width` bytes of `value`, the least significant first.
  void Unsigned(std::uint64_t value, unsigned width) {
    for (unsigned i = 0; i < width; ++i) bytes_.push_back(static_cast<std::uint8_t>(value >> (8 * i)));
  }

  std::vector<std::uint8_t> bytes_;
};

}  // namespace q4
