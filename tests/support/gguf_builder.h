// GGUF files in memory, for tests: independent of the reader.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tests/support/bytes.h"
#include "tests/support/steady_file.h"

namespace q4::test {

// Types of values and of tensors, as the format numbers them.
enum GgufNumber : std::uint32_t {
  kGgufF32 = 0,
  kGgufF16 = 1,
  kGgufQ4K = 12,
  kGgufU16 = 2,
  kGgufU32 = 4,
  kGgufText = 8,
  kGgufArray = 9,
};

class GgufBuilder {
 public:
  GgufBuilder& Version(std::uint32_t version) { return version_ = version, *this; }

  // A key with the bytes of a value.
  GgufBuilder& Key(std::string_view key, std::uint32_t type, std::string_view value) {
    AppendText(key, &keys_);
    AppendU32(type, &keys_);
    keys_ += value;
    ++key_count_;
    return *this;
  }
  GgufBuilder& Text(std::string_view key, std::string_view value) {
    std::string bytes;
    AppendText(value, &bytes);
    return Key(key, kGgufText, bytes);
  }
  GgufBuilder& U16(std::string_view key, std::uint16_t value) {
    return Key(key, kGgufU16, AsText(std::vector<std::uint16_t>{value}));
  }
  GgufBuilder& U32(std::string_view key, std::uint32_t value) {
    return Key(key, kGgufU32, AsText(std::vector<std::uint32_t>{value}));
  }

  // An array: the type of its elements, how many it claims, and their bytes.
  GgufBuilder& Array(std::string_view key, std::uint32_t type, std::uint64_t count, std::string_view elements) {
    std::string bytes;
    AppendU32(type, &bytes);
    AppendU64(count, &bytes);
    return Key(key, kGgufArray, bytes + std::string(elements));
  }

  // Of the header, whatever it holds.
  GgufBuilder& Counts(std::uint64_t tensors, std::uint64_t keys) {
    tensor_count_ = tensors;
    key_count_ = keys;
    return *this;
  }

  // The next tensors claim to lie so much behind where they lie.
  GgufBuilder& Shifted(std::uint64_t bytes) { return shift_ = bytes, *this; }

  // Dimensions as the format has them, the innermost first. The data is padded to 32 bytes.
  GgufBuilder& Tensor(std::string_view name, std::vector<std::uint64_t> dimensions, std::uint32_t type,
                      std::string_view data) {
    AppendText(name, &tensors_);
    AppendU32(static_cast<std::uint32_t>(dimensions.size()), &tensors_);
    for (const std::uint64_t dimension : dimensions) AppendU64(dimension, &tensors_);
    AppendU32(type, &tensors_);
    AppendU64(data_.size() + shift_, &tensors_);
    data_ += data;
    data_.resize((data_.size() + 31) / 32 * 32);
    ++tensor_count_;
    return *this;
  }

  std::string Build() const {
    std::string out = "GGUF";
    AppendU32(version_, &out);
    AppendU64(tensor_count_, &out);
    AppendU64(key_count_, &out);
    out += keys_ + tensors_;
    out.resize((out.size() + 31) / 32 * 32);
    return out + data_;
  }

 private:
  static void AppendU32(std::uint32_t value, std::string* out) {
    for (int shift = 0; shift < 32; shift += 8) out->push_back(static_cast<char>(value >> shift));
  }
  static void AppendText(std::string_view text, std::string* out) {
    AppendU64(text.size(), out);
    *out += text;
  }

  std::uint32_t version_ = 3;
  std::uint64_t key_count_ = 0, tensor_count_ = 0, shift_ = 0;
  std::string keys_, tensors_, data_;
};

// `bytes` as an open file.
class TextFile final : public SteadyFile {
 public:
  explicit TextFile(std::string bytes) : SteadyFile("m.gguf"), bytes_(std::move(bytes)) {}
  absl::Status ReadAt(std::uint64_t offset, std::span<std::uint8_t> out) const override {
    if (offset > bytes_.size() || out.size() > bytes_.size() - offset)
      return absl::OutOfRangeError("read behind the end");
    bytes_.copy(reinterpret_cast<char*>(out.data()), out.size(), offset);
    return absl::OkStatus();
  }
  std::uint64_t size() const override { return bytes_.size(); }

 private:
  std::string bytes_;
};

}  // namespace q4::test
