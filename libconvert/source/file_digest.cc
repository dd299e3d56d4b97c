// One loop over the file for both kinds of digest. One buffer is read into again and again, so a file of any size takes
// 1 MiB. Reading does not overlap with digesting within a file; q4verify, which has many files, gives each a thread.
#include "libconvert/source/file_digest.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "fmt/format.h"
#include "formats/base/digest.h"

namespace q4 {
namespace {

// Calls update(bytes) over the whole file, in order. The size is that at open: a file that has become shorter since
// gives the error of ReadAt(). `cancel` is looked at before each piece.
template <typename Update>
absl::Status ForEachPiece(const RandomAccessFile& file, CancelFlag* cancel, const Issue& interrupted,
                          const Update& update) {
  std::vector<std::uint8_t> piece(std::size_t{1} << 20);
  for (std::uint64_t offset = 0; offset < file.size(); offset += piece.size()) {
    if (cancel != nullptr && cancel->load()) return Fail(interrupted, file.path(), {});
    // Shrinks for the last piece only, so the steps of the loop end at the size exactly.
    piece.resize(std::min<std::uint64_t>(piece.size(), file.size() - offset));
    Q4_RETURN_IF_ERROR(file.ReadAt(offset, piece));
    update(std::span<const std::uint8_t>(piece));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::string> FileDigest(const RandomAccessFile& file, const std::string& kind, CancelFlag* cancel,
                                       const Issue& interrupted) {
  if (kind == "xxh3") {
    Xxh3Stream digest(0);
    Q4_RETURN_IF_ERROR(ForEachPiece(file, cancel, interrupted, [&](auto bytes) { digest.Update(bytes); }));
    // As xxhsum prints it: the number with all its digits, most significant first.
    return fmt::format("{:016x}", digest.Digest());
  }
  Sha256Stream digest;
  Q4_RETURN_IF_ERROR(ForEachPiece(file, cancel, interrupted, [&](auto bytes) { digest.Update(bytes); }));
  return HexOf(digest.Finish());
}

}  // namespace q4
