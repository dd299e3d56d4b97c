// A reader for the golden safetensors files, for tests only: it trusts them.
#pragma once

#include <cstdint>
#include <cstring>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <vector>

namespace q4::testing {

class GoldenFile {
 public:
  explicit GoldenFile(const std::string& name) {
    std::ifstream file(std::string(Q4_TESTDATA "/golden/") + name, std::ios::binary);
    if (!file) throw std::runtime_error("cannot open testdata/golden/" + name);
    bytes_.assign(std::istreambuf_iterator<char>(file), {});
    std::uint64_t header_bytes;
    std::memcpy(&header_bytes, bytes_.data(), sizeof(header_bytes));
    header_ = nlohmann::json::parse(bytes_.begin() + 8, bytes_.begin() + 8 + static_cast<std::ptrdiff_t>(header_bytes));
    data_ = 8 + header_bytes;
  }

  bool Has(const std::string& tensor) const { return header_.contains(tensor); }

  std::vector<std::uint8_t> Bytes(const std::string& tensor) const {
    const auto& offsets = header_.at(tensor).at("data_offsets");
    const auto begin = bytes_.begin() + static_cast<std::ptrdiff_t>(data_);
    return {begin + offsets[0].get<std::ptrdiff_t>(), begin + offsets[1].get<std::ptrdiff_t>()};
  }

  std::vector<float> Floats(const std::string& tensor) const {
    const std::vector<std::uint8_t> bytes = Bytes(tensor);
    std::vector<float> floats(bytes.size() / sizeof(float));
    std::memcpy(floats.data(), bytes.data(), bytes.size());
    return floats;
  }

  std::vector<std::string> Names() const {
    std::vector<std::string> names;
    for (const auto& [name, value] : header_.items()) {
      if (name != "__metadata__") names.push_back(name);
    }
    return names;
  }

 private:
  std::vector<std::uint8_t> bytes_;
  nlohmann::json header_;
  std::uint64_t data_ = 0;
};

}  // namespace q4::testing
