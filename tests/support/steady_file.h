// A file for reading that is nowhere on a disk: it never changes, and its version says no more than its size.
#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "formats/base/file.h"

namespace q4::test {

// What is read, and how much there is, is up to the class derived from it.
class SteadyFile : public RandomAccessFile {
 public:
  explicit SteadyFile(std::string path) : path_(std::move(path)) {}

  void Prefetch(std::uint64_t, std::uint64_t) const override {}
  FileVersion version() const override { return {size(), {}}; }
  absl::StatusOr<FileVersion> VersionNow() const override { return version(); }
  const std::string& path() const override { return path_; }
  FileIdentity identity() const override { return {}; }

 private:
  std::string path_;
};

}  // namespace q4::test
