// A file for reading that is nowhere on a disk: it never changes and has no times.
#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "formats/base/file.h"

namespace q4::test {

// What is read, and how much there is, is up to the class derived from it.
class SteadyFile : public RandomAccessFile {
 public:
  explicit SteadyFile(std::string path) : path_(std::move(path)) {}

  void Prefetch(std::uint64_t, std::uint64_t) const override {}
  absl::Status CheckUnchanged() const override { return absl::OkStatus(); }
  std::int64_t modified_nanoseconds() const override { return 0; }
  std::int64_t changed_nanoseconds() const override { return 0; }
  const std::string& path() const override { return path_; }
  FileIdentity identity() const override { return {}; }

 private:
  std::string path_;
};

}  // namespace q4::test
