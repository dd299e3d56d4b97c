// Open files of the operating system. Internal to formats/posix/.
#pragma once

#include <sys/stat.h>

#include <memory>
#include <string>

#include "formats/base/file.h"
#include "formats/posix/posix.h"

namespace q4 {

// Over a regular file that was opened as `path`; `info`: what fstat said of it then.
std::unique_ptr<RandomAccessFile> ReadFileOf(Descriptor fd, std::string path, const struct stat& info);
std::unique_ptr<WritableFile> WriteFileOf(Descriptor fd, std::string path, bool locked);

}  // namespace q4
