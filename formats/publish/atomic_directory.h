// A directory of files that appears only when it is complete: filled as a partial directory, synced, renamed. q4export
// writes models for other software this way. atomic_file.h is the counterpart for a single file.
//
// Two ways of publishing. Whole: the partial directory lies beside the destination, `path`.partial, and takes its name
// in one instant; an old directory changes places with it, or where the file system cannot do that, steps aside for a
// moment. File by file: the destination is a directory that stays (a mount point, ".", one whose parent cannot be
// written, one that holds other people's files, any where directories cannot be renamed); the partial directory
// mostly lies in it, as `path`/.q4.partial, and each file is renamed into its place. No file is ever half written under
// its final name in either way, but the second passes through states in which only some files are there.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "formats/base/file.h"

namespace q4 {

// What may lie at the destination already. Names are relative to it, with '/' between components.
struct DirectoryUse {
  bool may_exist = false;         // as a directory; in it may lie what follows
  std::vector<std::string> ours;  // files of an earlier output: replaced, or removed if the new one lacks them
  // Anything else may lie there too, and stays as it is: the directory is published file by file.
  bool keep_others = false;
  // The file of an output that lists the others, if some of `ours` are known only by such a file that a dead run left
  // (Leftovers()). It is kept until they are replaced: without it the run after next would not know them.
  std::string kept_record = {};
  // The files that a dead run left in the partial directory stay, for Adopt(), where there are locks.
  bool resumes = false;
};

// Life: Create -> CreateFile / WriteFile -> Publish(). If it is destroyed before Publish() succeeded, the partial
// directory is removed and the destination is as it was. Not thread-safe, but the files that CreateFile() returns are
// independent of each other and may be written on several threads.
class AtomicDirectory {
 public:
  // Makes and locks the partial directory; what a dead run left there is removed. Where the file system has no locks it
  // is a new one of a random name, `path`.XXXX.partial. Then tries on empty files and directories how the output can be
  // published, so that it is known before the work. `fs` must outlive the result.
  //
  // Errors, all with exit code 2: kOutputExists if `path` exists and may not; kOutputNotADirectory if a file, device or
  // symbolic link lies there; kForeignPartial if something of a name that is needed here is none that a run of ours
  // made; kForeignOwner if another user made it or may write to it; kOutputInUse if another process fills the partial
  // directory; kCannotPublish if nothing can get its final name in either way; and those of the file system.
  static absl::StatusOr<std::unique_ptr<AtomicDirectory>> Create(FileSystem& fs, const std::string& path,
                                                                 const DirectoryUse& use);
  ~AtomicDirectory();
  AtomicDirectory(const AtomicDirectory&) = delete;
  AtomicDirectory& operator=(const AtomicDirectory&) = delete;

  // Where an old directory steps aside to where two directories cannot change places. If a run dies in that moment, the
  // next one calls Restore() first. Does nothing unless `path` is absent and the other bears the mark of such a run.
  static std::string AsidePath(const std::string& path) { return path + ".q4-replaced"; }
  static absl::Status Restore(FileSystem& fs, const std::string& path);
  // The partial directories that a dead run may have left, with or without locks, and directories in them where records
  // of runs before it are kept. They hold, under final names, what those runs had not yet published.
  static absl::StatusOr<std::vector<std::string>> Leftovers(FileSystem& fs, const std::string& path);
  // All directories that publishing at `path` may clear or rename: no input may lie in one of them.
  static absl::StatusOr<std::vector<std::string>> Cleared(FileSystem& fs, const std::string& path);
  // Whether an entry directly in a destination is a leftover of ours: a lock, a probe, or a partial directory.
  static bool IsOwnName(std::string_view name);
  // The file that locks a partial directory.
  static constexpr char kLockName[] = ".q4-lock";

  // A new file `name`, empty. REQUIRES: `name` is relative, with plain components separated by '/'; the caller has
  // checked names that come from a file. Directories on the way are made. kOutputExists if this object made that file
  // before. The caller syncs and closes the result before Publish().
  absl::StatusOr<std::unique_ptr<WritableFile>> CreateFile(const std::string& name);
  // A small file with this content: written, synced and closed. Errors as CreateFile(), and those of WritableFile.
  absl::Status WriteFile(const std::string& name, std::string_view content);
  // For files that somebody else writes here, as RunConversion() does: the path of `name`, whose directories are made.
  // Adopt() makes a file that is complete and synced one of those that are published.
  absl::StatusOr<std::string> PathFor(const std::string& name);
  absl::Status Adopt(const std::string& name);
  // The partial directory stays where it is when this object goes, for a later run that resumes.
  void LeavePartial() { keep_partial_ = true; }
  // Opens a file that was made here before.
  absl::StatusOr<std::unique_ptr<RandomAccessFile>> OpenFile(const std::string& name) const;

  // Whether it will be published in one instant, as far as it is known yet, and whether it is locked.
  bool whole() const { return whole_; }
  // Where files lie until then.
  const std::string& partial_path() const { return partial_path_; }
  bool locked() const { return locked_; }

  // Removes what a run left that was resumed and that is not among the files of this one, syncs the directories and
  // publishes. `use`: looked up again by the caller. `last`: the names of files that make the
  // others a model or a part of one (configuration, index, record), in any folder. File by file, old ones of these
  // names are taken away before any other file changes, the last one first, so that no reader takes a mixture for a
  // model, and the new ones come last, in this order; where publishing fails, every step is undone. The last of `last`
  // is replaced rather than taken away.
  //
  // Call once; after an error destroy the object. kOutputExists if somebody made `path`, or a file where one of these
  // belongs, in the meantime. kForeignPartial if the old directory holds files that are not among use.ours: the new
  // one is in place then, and they are in the partial directory, which no later run clears.
  absl::Status Publish(const DirectoryUse& use, const std::vector<std::string>& last);

 private:
  AtomicDirectory(FileSystem& fs, std::string path, bool exists) : fs_(fs), path_(std::move(path)), exists_(exists) {}
  absl::Status MakePartial(const std::string& base, const std::string& kept_record);
  absl::Status RemoveOthers(const std::string& inside);
  absl::Status KeepRecord(const std::string& name);
  absl::Status TryFiles();
  absl::Status TryDirectories();
  void MovePartialTo(const std::string& path);
  absl::Status GoInside(const std::string& kept_record);
  absl::Status RemoveOwnPartial();
  absl::Status RemoveLeftovers();
  absl::Status MakeParents(const std::string& root, const std::string& name, std::vector<std::string>* made,
                           std::vector<std::string>* created);
  absl::Status SyncTree(const std::string& root) const;
  // OK with false: the file system cannot publish it whole, and nothing was changed.
  absl::StatusOr<bool> PublishWhole(const std::vector<std::string>& ours);
  absl::StatusOr<bool> Published(bool exchanged);
  absl::Status PublishFiles(const std::vector<std::string>& ours, const std::vector<std::string>& last);
  absl::Status Move(const std::string& from, const std::string& to, bool replace);
  void TakeBack();

  FileSystem& fs_;
  const std::string path_;
  bool exists_;  // the destination, when Create() looked
  std::string partial_path_;
  std::unique_ptr<HeldDirectory> destination_, partial_;  // worked in by these, whatever comes to their names
  bool whole_ = true;
  bool locked_ = true;
  bool resumes_ = false;    // DirectoryUse
  bool made_path_ = false;  // `path_` was made here, for files to be moved into
  bool published_ = false;
  bool keep_partial_ = false;                // a later run resumes, or old files are in it that could not be put back
  bool keeps_records_ = false;               // of dead runs, in it: as long as this one has not published
  std::vector<std::string> subdirectories_;  // relative, parents first
  std::vector<std::string> files_;           // relative, as they were made
  std::vector<std::pair<std::string, std::string>> moves_;  // done, to be undone
  std::unique_ptr<WritableFile> lock_;                      // open, and so locked, as long as this object lives
};

}  // namespace q4
