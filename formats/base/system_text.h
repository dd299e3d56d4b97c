// Files of /proc and /sys: texts that the kernel makes when they are read. Their size is not known before, so that
// RandomAccessFile, which promises one, cannot read them.
#pragma once

#include <functional>
#include <optional>
#include <string>

namespace q4 {

// The text of the file at a path, or nothing where there is none or it cannot be read. A type of its own so that tests
// can show a machine that they are not on.
using SystemReader = std::function<std::optional<std::string>(const std::string& path)>;

// The reader of this machine. Reads at most 1 MiB, which no such file reaches but a list of very many mounts: what lies
// behind it is left out. Never blocks and never fails otherwise: a machine may hide any of these files.
std::optional<std::string> ReadSystemText(const std::string& path);

}  // namespace q4
