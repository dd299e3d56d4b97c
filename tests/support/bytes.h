// Bytes as tests make and change them: views of texts and values, little-endian words, 4-bit codes. The little-endian
// words are those of files; values are taken as they lie in memory, which is the same on every machine that q4 runs on.
#pragma once

#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <vector>

namespace q4::test {

using Bytes = std::vector<std::uint8_t>;

// The characters as bytes; `text` must outlive them.
inline std::span<const std::uint8_t> AsBytes(std::string_view text) {
  return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}

// The bytes of all values, as those who take a text want them; `values` must outlive them.
template <typename T>
std::string_view AsText(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

// The bytes of all values, copied.
template <typename T>
Bytes BytesOf(const std::vector<T>& values) {
  const std::span<const std::uint8_t> bytes = AsBytes(AsText(values));
  return {bytes.begin(), bytes.end()};
}

// The values that `bytes` are, copied. A rest that is no whole value is left out.
template <typename T>
std::vector<T> ValuesOf(std::span<const std::uint8_t> bytes) {
  std::vector<T> values(bytes.size() / sizeof(T));
  if (!values.empty()) std::memcpy(values.data(), bytes.data(), values.size() * sizeof(T));
  return values;
}

// Writes `value` over the bytes at `at` of a string or vector of bytes; throws std::out_of_range behind its end.
template <typename T, typename Container>
void PutValue(Container* bytes, std::size_t at, T value) {
  static_cast<void>(bytes->at(at + sizeof value - 1));
  std::memcpy(bytes->data() + at, &value, sizeof value);
}

inline void PutU32(Bytes* bytes, std::size_t at, std::uint32_t value) { PutValue(bytes, at, value); }
inline void PutU64(Bytes* bytes, std::size_t at, std::uint64_t value) { PutValue(bytes, at, value); }

// Appends 8 little-endian bytes to a string or vector of bytes. Independent of formats/base/byte_writer.
template <typename Container>
void AppendU64(std::uint64_t value, Container* out) {
  for (int shift = 0; shift < 64; shift += 8)
    out->push_back(static_cast<typename Container::value_type>(value >> shift));
}

// Code number `i` of packed 4-bit codes, of which the first of a byte is the high nibble.
inline std::uint8_t GetCode(const Bytes& codes, std::uint64_t i) {
  return i % 2 == 0 ? codes[i / 2] >> 4 : codes[i / 2] & 0x0F;
}
inline void SetCode(Bytes* codes, std::uint64_t i, std::uint8_t code) {
  std::uint8_t& byte = (*codes)[i / 2];
  byte = static_cast<std::uint8_t>(i % 2 == 0 ? (byte & 0x0F) | (code << 4) : (byte & 0xF0) | code);
}

}  // namespace q4::test
