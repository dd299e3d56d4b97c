#include "formats/posix/path_hints.h"

#include <sys/stat.h>

#include <cerrno>
#include <cstddef>

#include "fmt/format.h"
#include "formats/base/file.h"

namespace q4 {

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
  const std::string folder = DirectoryOf(path);
  if (error == ENOENT) return fmt::format("; the folder {} does not exist, make it first", folder);
  if (error == ENOTDIR) return fmt::format("; {} is no folder", folder);
  const bool no_right = error == EACCES || error == EPERM || error == EROFS;
  return no_right ? fmt::format("; this user has no right to the folder {}", folder) : std::string();
}

}  // namespace q4
