// Order of things: Create looks for what must not be replaced, opens the partial file and locks it; Publish syncs,
// renames, syncs the directory and closes.
//
// The partial file stays open, and so locked, until it is published or removed. Were the lock given up first, another
// writer could take the partial file over, and its unfinished bytes would be renamed or its file removed.
#include "formats/publish/atomic_file.h"

#include <cstdio>
#include <random>
#include <utility>

#include "formats/base/base_issues.h"
#include "formats/base/status.h"

namespace q4 {
namespace {

// Of names that no other writer has.
constexpr std::size_t kRandomDigits = 16;

// Removes what a killed run left at the name of a probe.
absl::Status ClearProbe(FileSystem& fs, const std::string& probe) {
  Q4_ASSIGN_OR_RETURN(const PathInfo info, fs.Stat(probe));
  if (!info.exists && !info.is_symlink) return absl::OkStatus();
  if (info.is_symlink || !info.is_regular || info.size != 0) return Fail(kForeignPartial, probe, {});
  Q4_RETURN_IF_ERROR(fs.CheckOurs(probe, /*shared=*/true));
  return fs.Remove(probe);
}

}  // namespace

std::string UniquePartialPath(const std::string& path) {
  // Not a number of the process: several machines may write to one network file system.
  std::random_device random;
  char digits[20];
  std::snprintf(digits, sizeof digits, ".%08x%08x", random(), random());
  return AtomicFile::PartialPath(path + digits);
}

AtomicFile::AtomicFile(FileSystem& fs, std::string path, bool replace)
    : fs_(fs), path_(std::move(path)), partial_path_(PartialPath(path_)), replace_(replace) {}

std::vector<std::string> AtomicFile::Names(const std::string& path) {
  const std::string partial = PartialPath(path);
  return {path, partial, ProbePath(partial), ProbePath(partial) + "2"};
}

absl::StatusOr<std::unique_ptr<AtomicFile>> AtomicFile::Create(FileSystem& fs, const std::string& path, bool replace,
                                                               Leftover leftover) {
  // An early answer for the user; what decides is the rename, which fails where a file has appeared since. The kind is
  // checked first: for a directory --force is no remedy, so the message must not suggest it.
  Q4_ASSIGN_OR_RETURN(const PathInfo info, fs.Stat(path));
  if (info.exists && !info.is_regular) {
    return Fail(kOutputNotARegularFile, path, {}, info.is_directory ? "a folder; name a file in it" : "");
  }
  if ((info.exists || info.is_symlink) && !replace) return Fail(kOutputExists, path, {});

  std::unique_ptr<AtomicFile> file(new AtomicFile(fs, path, replace));
  absl::StatusOr<std::unique_ptr<WritableFile>> locked = fs.OpenLocked(file->partial_path_);
  if (IssueNumberOf(locked.status()) == kCannotLock.number) {
    // A name that exists may be a living run's, and nobody could tell: so a name that nobody has.
    file->partial_path_ = UniquePartialPath(path);
    Q4_ASSIGN_OR_RETURN(file->file_, fs.CreateExclusive(file->partial_path_));
    return file;
  }
  Q4_ASSIGN_OR_RETURN(file->file_, std::move(locked));
  // A writer on a file system without RENAME_NOREPLACE that died between link() and unlink() has left its finished
  // output under both names. What was opened is then that output, so its second name is taken away and a new file
  // opened. Only under the lock: to a writer that is alive the same two names are a step on its way.
  Q4_ASSIGN_OR_RETURN(const PathInfo output, fs.Stat(path));
  Q4_ASSIGN_OR_RETURN(const PathInfo partial, fs.Stat(file->partial_path_));
  if (output.exists && output.identity == partial.identity) {
    Q4_RETURN_IF_ERROR(fs.Remove(file->partial_path_));
    file->file_.reset();  // the destructor removes nothing where the next line fails
    Q4_ASSIGN_OR_RETURN(file->file_, fs.OpenLocked(file->partial_path_));
  }
  // Any other second name is somebody's, and writing here would change what lies there. The file stays where it is.
  if (const absl::Status ours = fs.CheckOurs(file->partial_path_, /*shared=*/false); !ours.ok()) {
    file->LeavePartial();
    return ours;
  }
  // After the lock is held, or the bytes of a run that is alive would be lost.
  if (leftover == Leftover::kTruncate) Q4_RETURN_IF_ERROR(file->file_->Truncate(0));
  return file;
}

absl::StatusOr<std::unique_ptr<AtomicFile>> AtomicFile::CreateUnique(FileSystem& fs, const std::string& path) {
  std::unique_ptr<AtomicFile> file(new AtomicFile(fs, path, /*replace=*/false));
  file->partial_path_ = JoinPath(DirectoryOf(path), "." + BaseNameOf(UniquePartialPath(path)));
  Q4_ASSIGN_OR_RETURN(file->file_, fs.CreateExclusive(file->partial_path_));
  return file;
}

AtomicFile::~AtomicFile() {
  // Without file_ the partial file belongs to somebody else. A partial file that cannot be removed is truncated by the
  // next run.
  if (file_ != nullptr && !published_ && !leave_partial_) fs_.Remove(partial_path_).IgnoreError();
}

absl::Status AtomicFile::TryPublishing() const {
  const std::string from = ProbePath(partial_path_);
  const std::string to = from + "2";
  Q4_RETURN_IF_ERROR(ClearProbe(fs_, from));
  Q4_RETURN_IF_ERROR(ClearProbe(fs_, to));
  {
    Q4_ASSIGN_OR_RETURN(const std::unique_ptr<WritableFile> file, fs_.CreateExclusive(from));
    absl::Status tried = file->Sync();
    if (tried.ok()) tried = fs_.Rename(from, to, replace_);
    if (tried.ok()) tried = fs_.SyncDirectory(DirectoryOf(path_));
    if (tried.ok()) tried = file->Close();
    if (!tried.ok()) {
      fs_.Remove(from).IgnoreError();
      fs_.Remove(to).IgnoreError();
      // A full disk is told as such; what a file system cannot do is told with the way out.
      return IssueNumberOf(tried) == kCannotRename.number ? Fail(kCannotPublish, path_, {}, MessageOf(tried)) : tried;
    }
  }
  // Durable, or a power cut later on would bring the probe back, beside an output that nobody probes for again.
  Q4_RETURN_IF_ERROR(fs_.Remove(to));
  return fs_.SyncDirectory(DirectoryOf(path_));
}

absl::Status AtomicFile::Publish(bool replace) {
  Q4_RETURN_IF_ERROR(file_->Sync());
  Q4_RETURN_IF_ERROR(fs_.Rename(partial_path_, path_, replace));
  // The name is taken: from here on the destructor removes nothing, whatever fails.
  published_ = true;
  Q4_RETURN_IF_ERROR(fs_.SyncDirectory(DirectoryOf(path_)));
  return file_->Close();
}

absl::Status WriteFileAtomically(FileSystem& fs, const std::string& path, std::string_view content, bool replace) {
  Q4_ASSIGN_OR_RETURN(const auto output, AtomicFile::Create(fs, path, replace));
  Q4_RETURN_IF_ERROR(
      output->file().WriteAt(0, {reinterpret_cast<const std::uint8_t*>(content.data()), content.size()}));
  return output->Publish();
}

absl::Status WriteFileUniquely(FileSystem& fs, const std::string& path, std::string_view content, bool replace) {
  Q4_ASSIGN_OR_RETURN(const auto output, AtomicFile::CreateUnique(fs, path));
  Q4_RETURN_IF_ERROR(
      output->file().WriteAt(0, {reinterpret_cast<const std::uint8_t*>(content.data()), content.size()}));
  return output->Publish(replace);
}

bool IsUniquePartial(std::string_view name, std::string_view of) {
  const std::string begin = "." + std::string(of) + ".";
  if (!name.starts_with(begin)) return false;
  name.remove_prefix(begin.size());
  const std::size_t digits = name.find_first_not_of("0123456789abcdef");
  if (digits != kRandomDigits) return false;
  name.remove_prefix(digits);
  return name == ".partial" || name == AtomicFile::ProbePath(".partial") ||
         name == AtomicFile::ProbePath(".partial") + "2";
}

}  // namespace q4
