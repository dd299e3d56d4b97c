// A range is shown as a file whose first bytes are the head; all else is passed on.
#include <utility>

#include "formats/base/base_issues.h"
#include "formats/base/checked_math.h"
#include "formats/base/status.h"
#include "formats/base/text.h"
#include "formats/source/companions.h"

namespace q4 {
namespace {

class RangeFile final : public RandomAccessFile {
 public:
  RangeFile(std::shared_ptr<const RandomAccessFile> file, CompanionRange range)
      : file_(std::move(file)), range_(std::move(range)) {}

  absl::Status ReadAt(std::uint64_t offset, std::span<std::uint8_t> out) const override {
    if (!RangeFits(offset, out.size(), size())) return Fail(kFileEndsEarly, path(), AtOffset(offset));
    if (offset < range_.head.size()) {
      const std::size_t copied = range_.head.copy(reinterpret_cast<char*>(out.data()), out.size(), offset);
      out = out.subspan(copied);
      offset += copied;
    }
    return out.empty() ? absl::OkStatus() : file_->ReadAt(range_.offset + (offset - range_.head.size()), out);
  }
  void Prefetch(std::uint64_t, std::uint64_t) const override { file_->Prefetch(range_.offset, range_.bytes); }
  FileVersion version() const override { return file_->version(); }
  absl::StatusOr<FileVersion> VersionNow() const override { return file_->VersionNow(); }
  std::uint64_t size() const override { return range_.head.size() + range_.bytes; }
  const std::string& path() const override { return file_->path(); }
  FileIdentity identity() const override { return file_->identity(); }

 private:
  const std::shared_ptr<const RandomAccessFile> file_;
  const CompanionRange range_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<RandomAccessFile>> OpenCarried(FileSystem& fs, const CompanionFile& companion) {
  if (companion.range && companion.range->file != nullptr) {
    return std::make_unique<RangeFile>(companion.range->file, *companion.range);
  }
  Q4_ASSIGN_OR_RETURN(std::unique_ptr<RandomAccessFile> file, fs.OpenForRead(companion.path));
  if (!companion.range) return file;
  return std::make_unique<RangeFile>(std::move(file), *companion.range);
}

}  // namespace q4
