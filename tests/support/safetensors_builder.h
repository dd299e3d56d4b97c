// Makes safetensors files for tests, right ones and wrong ones. Independent of formats/safetensors_writer.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tests/support/bytes.h"

namespace q4::test {

// `length` as 8 little-endian bytes, then `json`, then `payload`. Nothing is checked.
inline std::string SafetensorsBytes(std::uint64_t length, std::string_view json, std::string_view payload) {
  std::string out;
  AppendU64(length, &out);
  return out.append(json).append(payload);
}

// The same with the true length.
inline std::string SafetensorsBytes(std::string_view json, std::string_view payload) {
  return SafetensorsBytes(json.size(), json, payload);
}

// A well-formed file, tensors in the order in which they are added.
class SafetensorsBuilder {
 public:
  // `name` must need no JSON escapes; `bytes` must fit dtype and shape.
  SafetensorsBuilder& Add(std::string_view name, std::string_view dtype, const std::vector<std::uint64_t>& shape,
                          std::string_view bytes) {
    std::string dimensions;
    for (const std::uint64_t d : shape) dimensions += (dimensions.empty() ? "" : ",") + std::to_string(d);
    Member("\"" + std::string(name) + "\":{\"dtype\":\"" + std::string(dtype) + "\",\"shape\":[" + dimensions +
           "],\"data_offsets\":[" + std::to_string(payload_.size()) + "," +
           std::to_string(payload_.size() + bytes.size()) + "]}");
    payload_ += bytes;
    return *this;
  }

  SafetensorsBuilder& Metadata(std::string_view key, std::string_view value) {
    Member("\"__metadata__\":{\"" + std::string(key) + "\":\"" + std::string(value) + "\"}");
    return *this;
  }

  // `first`: a member of the header before all others.
  std::string Build(const std::string& first = "") const {
    return SafetensorsBytes("{" + first + (first.empty() || members_.empty() ? "" : ",") + members_ + "}", payload_);
  }
  // The bytes of all tensors.
  std::size_t payload_bytes() const { return payload_.size(); }

 private:
  void Member(const std::string& member) { members_ += (members_.empty() ? "" : ",") + member; }

  std::string members_;
  std::string payload_;
};

}  // namespace q4::test
