// Names of a GGUF model stand in its key-values: in the file, or in what a container carries of it.
#include <algorithm>
#include <string>
#include <utility>

#include "formats/base/base_issues.h"
#include "formats/base/checked_math.h"
#include "formats/base/status.h"
#include "formats/base/text.h"
#include "formats/gguf/gguf.h"
#include "libconvert/inspect/checkpoint.h"

namespace q4 {
namespace {

// An embedded file as a file.
class EmbeddedBytes final : public RandomAccessFile {
 public:
  explicit EmbeddedBytes(std::string_view bytes) : bytes_(bytes) {}
  absl::Status ReadAt(std::uint64_t offset, std::span<std::uint8_t> out) const override {
    if (!RangeFits(offset, out.size(), bytes_.size())) return Fail(kFileEndsEarly, path(), AtOffset(offset));
    std::copy_n(bytes_.begin() + static_cast<std::ptrdiff_t>(offset), out.size(), out.begin());
    return absl::OkStatus();
  }
  void Prefetch(std::uint64_t, std::uint64_t) const override {}
  FileVersion version() const override { return {}; }
  absl::StatusOr<FileVersion> VersionNow() const override { return FileVersion(); }
  std::uint64_t size() const override { return bytes_.size(); }
  const std::string& path() const override { return path_; }
  FileIdentity identity() const override { return {}; }

 private:
  const std::string_view bytes_;
  const std::string path_ = "an embedded file";
};

// The reader keeps the first bytes of a text, and may have cut a character.
std::string WholeCharacters(std::string text) {
  for (int cut = 0; cut < 3 && !IsUtf8(text); ++cut) text.pop_back();
  return IsUtf8(text) ? text : std::string();
}

}  // namespace

void SetGgufNames(const RandomAccessFile& file, InspectReport* report) {
  absl::StatusOr<GgufHeader> header = ReadGgufHeader(file);
  if (!header.ok()) return;
  report->architecture = WholeCharacters(std::move(header->architecture));
  report->model_name = WholeCharacters(std::move(header->name));
}

void SetGgufNames(std::string_view embedded, InspectReport* report) { SetGgufNames(EmbeddedBytes(embedded), report); }

}  // namespace q4
