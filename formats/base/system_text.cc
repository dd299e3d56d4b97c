// Read until the end comes, since fstat says 0 of every such file.
#include "formats/base/system_text.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>

namespace q4 {

std::optional<std::string> ReadSystemText(const std::string& path) {
  constexpr std::size_t kMostBytes = std::size_t{1} << 20;
  constexpr std::size_t kPiece = 4096;
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return std::nullopt;
  std::string text;
  ssize_t got = 0;
  do {
    const std::size_t begin = text.size();
    text.resize(begin + kPiece);
    got = ::read(fd, text.data() + begin, kPiece);
    const bool again = got < 0 && errno == EINTR;
    text.resize(begin + (got > 0 ? static_cast<std::size_t>(got) : 0));
    if (again) got = 1;
  } while (got > 0 && text.size() < kMostBytes);
  ::close(fd);
  if (got < 0) return std::nullopt;
  return text;
}

}  // namespace q4
