#include "formats/publish/input_files.h"

#include "formats/base/status.h"

namespace q4 {

void InputFiles::Add(FileSystem& fs, const std::string& path) {
  if (path.empty()) return;
  const absl::StatusOr<PathInfo> info = fs.Stat(path);
  if (info.ok() && info->exists) Add(path, info->identity);
}

absl::Status InputFiles::CheckNames(FileSystem& fs, const std::vector<std::string>& names, const Issue& issue) const {
  for (const std::string& name : names) {
    Q4_ASSIGN_OR_RETURN(const PathInfo info, fs.Stat(name));
    if (!info.exists) continue;
    const auto input = paths_.find({info.identity.device, info.identity.inode});
    if (input != paths_.end()) return Fail(issue, name, {}, input->second);
  }
  return absl::OkStatus();
}

absl::Status InputFiles::CheckTrees(FileSystem& fs, const std::vector<std::string>& directories,
                                    const Issue& issue) const {
  for (const std::string& directory : directories) {
    Q4_ASSIGN_OR_RETURN(const PathInfo info, fs.Stat(directory));
    if (info.is_directory && !info.is_symlink) Q4_RETURN_IF_ERROR(CheckTree(fs, directory, issue));
  }
  return absl::OkStatus();
}

absl::Status InputFiles::CheckTree(FileSystem& fs, const std::string& directory, const Issue& issue) const {
  const absl::StatusOr<std::vector<std::string>> names = fs.ListDirectory(directory);
  if (!names.ok()) return absl::OkStatus();  // what cannot be listed cannot be cleared
  for (const std::string& name : *names) {
    const std::string path = JoinPath(directory, name);
    Q4_ASSIGN_OR_RETURN(const PathInfo info, fs.Stat(path));
    if (info.is_symlink) continue;
    Q4_RETURN_IF_ERROR(info.is_directory ? CheckTree(fs, path, issue) : CheckNames(fs, {path}, issue));
  }
  return absl::OkStatus();
}

}  // namespace q4
