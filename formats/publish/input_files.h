// What a run reads must not be what it writes. A file has many names (hard links, symbolic links, other spellings of a
// path), so it is known by device and inode; and a run writes under more names than its user thinks of: partial files,
// journals, probes, directories that a dead run left and that are cleared. Every tool asks here before its first byte.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "formats/base/file.h"
#include "formats/base/status.h"

namespace q4 {

class InputFiles {
 public:
  void Add(const std::string& path, const FileIdentity& identity) {
    paths_.emplace(std::pair(identity.device, identity.inode), path);
  }
  // What lies at `path` now, links followed. "" is no file; what cannot be looked at is passed over: the one who reads
  // it will say so.
  void Add(FileSystem& fs, const std::string& path);

  // Whether no input lies at one of `names`, as itself or by a link: `issue` with the name and the input. Errors: those
  // of Stat().
  absl::Status CheckNames(FileSystem& fs, const std::vector<std::string>& names, const Issue& issue) const;
  // The same of everything below `directories`, which the run may clear. Links are not followed: what they lead to
  // stays.
  absl::Status CheckTrees(FileSystem& fs, const std::vector<std::string>& directories, const Issue& issue) const;

 private:
  absl::Status CheckTree(FileSystem& fs, const std::string& directory, const Issue& issue) const;

  std::map<std::pair<std::uint64_t, std::uint64_t>, std::string> paths_;  // by device and inode
};

}  // namespace q4
