#include "libconvert/source/checksum_check.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "formats/base/crc32.h"
#include "formats/base/status.h"
#include "formats/torch/torch_issues.h"

namespace q4 {

absl::Status ChecksumCheck::SkipTo(std::uint64_t at) {
  const auto& checksums = file_->checksums;
  while (next_ < checksums.size() && checksums[next_].end() <= at) ++next_;
  at_ = at;
  if (next_ == checksums.size() || checksums[next_].offset >= at) return absl::OkStatus();
  at_ = checksums[next_].offset;
  std::vector<std::uint8_t> piece;
  while (at_ < at) {
    piece.resize(static_cast<std::size_t>(std::min<std::uint64_t>(at - at_, std::uint64_t{1} << 20)));
    Q4_RETURN_IF_ERROR(file_->file->ReadAt(at_, piece));
    Update(piece);
  }
  return absl::OkStatus();
}

void ChecksumCheck::Update(std::span<const std::uint8_t> bytes) {
  const auto& checksums = file_->checksums;
  const std::uint64_t end = at_ + bytes.size();
  for (; next_ < checksums.size(); ++next_) {
    const SourceChecksum& range = checksums[next_];
    const std::uint64_t from = std::max(at_, range.offset), to = std::min(end, range.end());
    if (from < to) {
      crc_ = Crc32(crc_, bytes.subspan(static_cast<std::size_t>(from - at_), static_cast<std::size_t>(to - from)));
    }
    if (range.end() > end) break;
    if (crc_ != range.crc32 && status_.ok()) {
      status_ =
          Fail(kZipCrc, file_->file->path(), range.name,
               GotExpected(fmt::format("{:08x}", crc_), fmt::format("{:08x}; copy or download it again", range.crc32)));
    }
    crc_ = 0;
  }
  at_ = end;
}

}  // namespace q4
