// A file that is bytes in memory, for readers that take a file.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <string>
#include <utility>

#include "formats/base/base_issues.h"
#include "formats/base/checked_math.h"
#include "formats/base/status.h"
#include "tests/support/steady_file.h"

namespace q4::test {

// The bytes must outlive it. What lies outside them is an error, as on a disk.
class BytesFile final : public SteadyFile {
 public:
  explicit BytesFile(std::span<const std::uint8_t> bytes, std::string path = "f.bin")
      : SteadyFile(std::move(path)), bytes_(bytes) {}
  absl::Status ReadAt(std::uint64_t offset, std::span<std::uint8_t> out) const override {
    if (!RangeFits(offset, out.size(), bytes_.size())) return Fail(kFileEndsEarly, path(), {});
    std::copy_n(bytes_.begin() + static_cast<std::ptrdiff_t>(offset), out.size(), out.begin());
    return absl::OkStatus();
  }
  std::uint64_t size() const override { return bytes_.size(); }

 private:
  const std::span<const std::uint8_t> bytes_;
};

}  // namespace q4::test
