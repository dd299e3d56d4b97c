#include "formats/posix/path_hints.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>

#include "fmt/format.h"
#include "formats/base/file.h"
#include "formats/base/limits.h"

namespace q4 {

namespace {

// What lies beside an output while it is written has its name and a longer end, and is looked at before the work.
std::string WhyTooLong(const std::string& path) {
  std::size_t longest = 0;
  for (std::size_t begin = 0, end; begin < path.size(); begin = end + 1) {
    end = std::min(path.find('/', begin), path.size());
    longest = std::max(longest, end - begin);
  }
  if (longest <= limits::kFileNameBytes) {
    return fmt::format("; the path has {} bytes: go to the folder, or name it by a shorter way", path.size());
  }
  return fmt::format(
      "; a name in it has {} bytes, and file systems take {} at the most: choose a shorter one. What is written beside "
      "an output until it is complete counts too, and is named as the output is with up to 50 bytes more",
      longest, std::uint64_t{limits::kFileNameBytes});
}

}  // namespace

std::string WhyMissing(const std::string& path) {
  constexpr char kDownload[] = "hf download ORGANISATION/MODEL --local-dir DIR";
  if (path.find("://") != std::string::npos) {
    return fmt::format("; no URL is read here: download it first, such as with {}", kDownload);
  }
  const std::size_t slash = path.find('/');
  const bool may_be_id = slash != std::string::npos && slash != 0 && path.front() != '.' && path.front() != '~' &&
                         slash + 1 < path.size() && path.find('/', slash + 1) == std::string::npos;
  struct stat info {};
  if (!may_be_id || ::stat(path.substr(0, slash).c_str(), &info) == 0) return {};
  return fmt::format("; if this is a model of the Hugging Face Hub: hf://{}, or download it first, such as with {}",
                     path, kDownload);
}

std::string WhyNot(const std::string& path, int error) {
  if (error == ENAMETOOLONG) return WhyTooLong(path);
  const std::string folder = DirectoryOf(path);
  if (error == ENOENT) return fmt::format("; the folder {} does not exist, make it first", folder);
  if (error == ENOTDIR) return fmt::format("; {} is no folder", folder);
  const bool no_right = error == EACCES || error == EPERM || error == EROFS;
  return no_right ? fmt::format("; this user has no right to the folder {}", folder) : std::string();
}

}  // namespace q4
