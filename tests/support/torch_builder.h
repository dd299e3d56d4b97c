// PyTorch checkpoints for tests: a pickle put together from its opcodes, and a zip archive of stored entries, as
// Python's zipfile writes them (tests/support/torch_bytes.py has those of torch.save, and lies).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "formats/base/crc32.h"
#include "tests/support/bytes.h"

namespace q4::test {

inline std::string LittleEndian(std::uint64_t value, int bytes) {
  std::string out;
  for (int i = 0; i < bytes; ++i) out += static_cast<char>(value >> (8 * i) & 0xFF);
  return out;
}

// An archive of these names and contents.
inline std::string ZipBytes(const std::vector<std::pair<std::string, std::string>>& entries) {
  std::string out, directory;
  for (const auto& [name, content] : entries) {
    const std::string sizes = LittleEndian(Crc32(0, AsBytes(content)), 4) + LittleEndian(content.size(), 4) +
                              LittleEndian(content.size(), 4) + LittleEndian(name.size(), 2);
    const std::string offset = LittleEndian(out.size(), 4);
    out += std::string("PK\3\4", 4) + std::string(10, '\0') + sizes + std::string(2, '\0') + name + content;
    directory += std::string("PK\1\2", 4) + std::string(12, '\0') + sizes + std::string(12, '\0') + offset + name;
  }
  const std::string count = LittleEndian(entries.size(), 2);
  return out + directory + std::string("PK\5\6", 4) + std::string(4, '\0') + count + count +
         LittleEndian(directory.size(), 4) + LittleEndian(out.size(), 4) + std::string(2, '\0');
}

// Opcodes of protocol 2.
inline std::string PickledText(std::string_view text) { return "X" + LittleEndian(text.size(), 4) + std::string(text); }
inline std::string PickledNumber(std::int64_t value) {
  return std::string("\x8a\x08", 2) + LittleEndian(static_cast<std::uint64_t>(value), 8);
}
inline std::string PickledNumbers(const std::vector<std::int64_t>& values) {
  std::string out = "(";
  for (const std::int64_t value : values) out += PickledNumber(value);
  return out + "t";
}

struct PickledView {
  std::vector<std::int64_t> shape, strides;
  std::int64_t offset = 0;
  std::string key = "0";
  std::int64_t elements = 0;  // of the storage
  std::string type = "FloatStorage";
};
inline std::string PickledTensor(const PickledView& view) {
  return "ctorch._utils\n_rebuild_tensor_v2\n((" + PickledText("storage") + "ctorch\n" + view.type + "\n" +
         PickledText(view.key) + PickledText("cpu") + PickledNumber(view.elements) + "tQ" + PickledNumber(view.offset) +
         PickledNumbers(view.shape) + PickledNumbers(view.strides) +
         "\x89"
         "ccollections\nOrderedDict\n)RtR";
}
inline std::string PickledDict(const std::vector<std::pair<std::string, std::string>>& items) {
  std::string out = "}(";
  for (const auto& [key, value] : items) out += PickledText(key) + value;
  return out + "u";
}
inline std::string PickleOf(const std::string& value) { return "\x80\x02" + value + "."; }

// A checkpoint of one storage.
inline std::string TorchBytes(const std::string& value, const std::string& storage) {
  return ZipBytes({{"m/data.pkl", PickleOf(value)}, {"m/data/0", storage}, {"m/version", "3\n"}});
}

}  // namespace q4::test
