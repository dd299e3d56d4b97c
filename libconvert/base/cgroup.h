// Where the kernel's control groups keep the limits of this process: what a container, a batch system or a service
// manager allows. Reading is all that happens; machine.h says what is made of it.
//
// Two versions are in use, at times together. In version 1 each controller ("memory", "cpu", "pids") has a tree of its
// own, in version 2 there is one tree. A limit holds for all groups below it, so that the whole chain from the
// process's own group up to the mount point is given. What lies above a mount point, as in most containers, nobody
// inside can see.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "formats/base/system_text.h"

namespace q4 {

// One group that this process is in, as a directory.
struct Cgroup {
  std::string directory;  // "/sys/fs/cgroup/memory/docker/4f..."
  bool is_v2 = false;
};

// The groups of `controller`, the innermost first, of either version. By /proc/self/cgroup and /proc/self/mountinfo;
// where the group's path is not visible below the mount point (a container that shares the host's names), its longest
// visible end counts, and at last the mount point. Empty where there are no control groups.
std::vector<Cgroup> CgroupsOf(std::string_view controller, const SystemReader& read);

// The number in a file, nothing for "max", for a file that is not there or anything else. "-1", which version 1 says
// for no quota, is nothing too.
std::optional<std::uint64_t> SystemNumber(const std::string& path, const SystemReader& read);

// The number behind `key` in a text of lines "key 123" or "key: 123 kB"; kB are made bytes.
std::optional<std::uint64_t> NumberBehind(std::string_view key, std::string_view text);

}  // namespace q4
