#include "libconvert/model/open_model.h"

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "formats/base/status.h"
#include "formats/q4/layout.h"
#include "formats/q4/shards.h"

namespace q4 {

absl::StatusOr<bool> IsQ4Container(FileSystem& fs, const std::string& path) {
  Q4_ASSIGN_OR_RETURN(const PathInfo info, fs.Stat(path));
  if (info.is_directory) return false;
  Q4_ASSIGN_OR_RETURN(const std::unique_ptr<RandomAccessFile> file, fs.OpenForRead(path));
  std::vector<std::uint8_t> head(std::min<std::uint64_t>(file->size(), kQ4Magic.size()));
  Q4_RETURN_IF_ERROR(file->ReadAt(0, head));
  if (std::equal(kQ4Magic.begin(), kQ4Magic.end(), head.begin(), head.end())) return true;
  head.resize(std::min<std::uint64_t>(file->size(), kQ4ShardListHeadBytes));
  Q4_RETURN_IF_ERROR(file->ReadAt(0, head));
  return IsQ4ShardListHead({reinterpret_cast<const char*>(head.data()), head.size()});
}

}  // namespace q4
