// A reader for the golden safetensors files, for tests only: it trusts them.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "tests/support/bytes.h"
#include "tests/support/temp_dir.h"

namespace q4::testing {

class GoldenFile {
 public:
  explicit GoldenFile(const std::string& name) {
    const std::string text = test::ReadBytes(std::string(Q4_TESTDATA "/golden/") + name);
    bytes_.assign(text.begin(), text.end());
    const std::uint64_t header_bytes = test::ValuesOf<std::uint64_t>(std::span(bytes_).first(8))[0];
    header_ = nlohmann::json::parse(bytes_.begin() + 8, bytes_.begin() + 8 + static_cast<std::ptrdiff_t>(header_bytes));
    data_ = 8 + header_bytes;
  }

  bool Has(const std::string& tensor) const { return header_.contains(tensor); }

  std::vector<std::uint8_t> Bytes(const std::string& tensor) const {
    const auto& offsets = header_.at(tensor).at("data_offsets");
    const auto begin = bytes_.begin() + static_cast<std::ptrdiff_t>(data_);
    return {begin + offsets[0].get<std::ptrdiff_t>(), begin + offsets[1].get<std::ptrdiff_t>()};
  }

  std::vector<float> Floats(const std::string& tensor) const { return test::ValuesOf<float>(Bytes(tensor)); }

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
