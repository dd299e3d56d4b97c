// The parts of file.h that hold for every file system: the fallback of ReadUncached(), paths as texts, small files read
// whole.
#include "formats/base/file.h"

#include <algorithm>

#include "formats/base/base_issues.h"
#include "formats/base/status.h"

namespace q4 {

// The fallback of file systems that cannot pass the cache by: an ordinary read of what lies inside the file.
absl::Status RandomAccessFile::ReadUncached(std::uint64_t offset, std::span<std::uint8_t> out) const {
  return ReadAt(offset, InsideFile(offset, out));
}

// Of file systems that cannot tell.
bool RandomAccessFile::ReadCached(std::uint64_t /*offset*/, std::span<std::uint8_t> /*out*/) const { return false; }

absl::Status RandomAccessFile::CheckUnchanged() const {
  Q4_ASSIGN_OR_RETURN(const FileVersion now, VersionNow());
  const FileVersion then = version();
  if (now == then) return absl::OkStatus();
  if (now.size == then.size) return Fail(kFileChanged, path(), "time of modification or change");
  return Fail(kFileChanged, path(), "size", GotExpected(std::to_string(now.size), std::to_string(then.size)));
}

std::span<std::uint8_t> RandomAccessFile::InsideFile(std::uint64_t offset, std::span<std::uint8_t> out) const {
  // A read that begins behind the end is passed on whole, so that ReadAt() refuses it: no bytes at all would be OK.
  if (offset >= size()) return out;
  return out.first(static_cast<std::size_t>(std::min<std::uint64_t>(out.size(), size() - offset)));
}

absl::StatusOr<std::string> FileSystem::ReadLink(const std::string& path) {
  return Fail(kCannotStat, path, {}, "no symbolic link");
}

namespace {

// Of file systems that go by path.
class PathOnly final : public HeldDirectory {
 public:
  explicit PathOnly(FileIdentity identity) : identity_(identity) {}
  void MovedTo(const std::string& /*path*/) override {}
  FileIdentity identity() const override { return identity_; }

 private:
  const FileIdentity identity_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<HeldDirectory>> FileSystem::Hold(const std::string& path) {
  Q4_ASSIGN_OR_RETURN(const PathInfo info, Stat(path));
  if (!info.is_directory || info.is_symlink) return Fail(kCannotStat, path, {}, "not a directory");
  return std::make_unique<PathOnly>(info.identity);
}

absl::Status FileSystem::CheckOurs(const std::string& /*path*/, bool /*shared*/) { return absl::OkStatus(); }

absl::StatusOr<std::string> FileSystem::RealPath(const std::string& directory) { return directory; }

std::string DirectoryOf(const std::string& path) {
  const std::size_t slash = path.find_last_of('/');
  if (slash == std::string::npos) return ".";
  // The root's own slash stays: "/a" lies in "/", not in "".
  return slash == 0 ? "/" : path.substr(0, slash);
}

std::string BaseNameOf(const std::string& path) {
  const std::size_t slash = path.find_last_of('/');
  return slash == std::string::npos ? path : path.substr(slash + 1);
}

std::string JoinPath(const std::string& directory, const std::string& name) {
  if (directory.empty() || directory == ".") return name;
  return directory.back() == '/' ? directory + name : directory + "/" + name;
}

absl::StatusOr<bool> SamePlace(FileSystem& fs, const std::string& a, const std::string& b) {
  if (BaseNameOf(a) != BaseNameOf(b)) return false;
  Q4_ASSIGN_OR_RETURN(const PathInfo directory_a, fs.Stat(DirectoryOf(a)));
  Q4_ASSIGN_OR_RETURN(const PathInfo directory_b, fs.Stat(DirectoryOf(b)));
  return directory_a.exists && directory_b.exists && directory_a.identity == directory_b.identity;
}

absl::StatusOr<std::string> ReadWholeFile(FileSystem& fs, const std::string& path, std::uint64_t limit,
                                          SymbolicLinks links) {
  Q4_ASSIGN_OR_RETURN(const auto file, fs.OpenForRead(path, links));
  if (file->size() > limit) {
    return Fail(kFileTooLarge, path, {},
                GotExpected(std::to_string(file->size()) + " bytes", "at most " + std::to_string(limit)));
  }
  // Its size was checked against the limit first, so no more is allocated than the caller allows.
  std::string content(static_cast<std::size_t>(file->size()), '\0');
  Q4_RETURN_IF_ERROR(file->ReadAt(0, {reinterpret_cast<std::uint8_t*>(content.data()), content.size()}));
  return content;
}

}  // namespace q4
