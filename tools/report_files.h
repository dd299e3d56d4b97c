// The files that q4verify writes beside its result: --junit, --markdown and --html.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "formats/base/atomic_file.h"
#include "formats/base/file.h"
#include "libconvert/judge/verify_report.h"
#include "tools/options.h"

namespace q4 {

// Opened before the work begins, so that a directory that cannot be written is noticed at once; written when it has
// ended, each on its own. An older report is replaced atomically. What is not written leaves nothing behind.
class ReportFiles {
 public:
  // Opens the reports that the flags ask for. An error if one is an input (the container, the source, a gate file) by
  // path, link or inode, if two are one file, or if one cannot be created. `fs` must outlive this object.
  absl::Status Open(FileSystem& fs, const VerifyFlags& flags);

  // Writes them all, also after one has failed. The errors of those that failed.
  std::vector<absl::Status> Write(const VerifyReport& report);

 private:
  using Renderer = std::string (*)(const VerifyReport&);
  std::vector<std::pair<std::unique_ptr<AtomicFile>, Renderer>> files_;
};

}  // namespace q4
