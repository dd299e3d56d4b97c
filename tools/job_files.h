// The files of a job: those of this machine, and models on servers (formats/net).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/net/net_file_system.h"
#include "libconvert/base/bound_of.h"
#include "libconvert/base/progress.h"

namespace q4 {

class JobFiles {
 public:
  // `max_memory`: that of the flags, 0 for the default. A quarter of the bound, at most 256 MiB, is for what is fetched
  // of URLs.
  JobFiles(std::uint64_t max_memory, CancelFlag* cancel);

  FileSystem& fs() { return net_; }
  // `*path` may be a URL; it becomes the path that stands for it (NetFileSystem::Adopt()).
  absl::Status Adopt(std::string* path);
  // What the work itself may hold: `max_memory` less what is held for URLs. 0 stays 0: the default leaves room, as what
  // comes from a server needs no page cache.
  std::uint64_t MemoryForWork() const;
  // The reverse, for messages and plans: the bound to give so that the work may hold so much; without URLs the same.
  // This object must outlive what is returned.
  BoundOf Bounds() const {
    return [this](std::uint64_t bytes) { return BoundFor(bytes); };
  }
  // For people. Once the source was opened.
  std::vector<std::string> Notes() const { return net_.Notes(); }

 private:
  std::uint64_t BoundFor(std::uint64_t bytes) const;

  const std::uint64_t max_memory_;
  NetFileSystem net_;
};

}  // namespace q4
