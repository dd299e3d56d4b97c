// The weights files of a checkpoint as they are, whatever is wrong with them. Internal to libconvert/lint/.
//
// formats/source/checkpoint.h opens a checkpoint or says why not. A lint wants to go on after a fault, so this class
// opens each file on its own with the same parsers: what is a finding here is an error there.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "formats/base/file.h"
#include "formats/source/checkpoint.h"
#include "formats/tensor/source_tensor.h"
#include "libconvert/lint/findings.h"

namespace q4 {

class LintFiles {
 public:
  // Opens what can be opened at `path`, a directory, an index or a weights file, and reports what cannot and what
  // index and files say differently. `path` itself may be a symbolic link; `links` says what to do with links that are
  // found through it, where a refused link is an unreadable file, hence a finding.
  //
  // Reads headers alone. Errors: I/O errors (exit code 2), and those of OpenCheckpoint() if nothing there looks like a
  // checkpoint. `fs` and `findings` are used during the call only.
  static absl::StatusOr<LintFiles> Open(FileSystem& fs, const std::string& path, SymbolicLinks links,
                                        LintFindings* findings);

  // The folders of the model at `path` that hold weights, each to be opened on its own: of a directory its own, "", and
  // module folders (formats/source/modules.h); of anything else "" alone. A list of modules that is malformed is a
  // finding. Errors: I/O (exit code 2).
  static absl::StatusOr<std::vector<std::string>> Folders(FileSystem& fs, const std::string& path, SymbolicLinks links,
                                                          LintFindings* findings);

  // Of all files that could be read, bytewise sorted by name; a name that lies in two files is there twice.
  const std::vector<SourceTensor>& tensors() const { return tensors_; }
  // The tensor called `name`, one of them if there are two; nullptr if there is none. Lives as long as this object.
  const SourceTensor* Find(std::string_view name) const;
  // Where the files hold some tensors otherwise than they are read, such as 8-bit floats with their scales: what they
  // stand for, sorted by name. nullptr where all of tensors() is as it is read, and where anything is wrong with them.
  const std::vector<SourceTensor>* logical() const { return logical_.empty() ? nullptr : &logical_; }
  // The first bytes of the elements of a tensor, of either list, at most `limit`. Errors: those of
  // RandomAccessFile::ReadAt(). Not thread-safe, since it counts.
  absl::StatusOr<std::vector<std::uint8_t>> ReadStart(const SourceTensor& tensor, std::uint64_t limit);
  // The byte that may hold a padding code. REQUIRES: the tensor is not empty. Errors as ReadStart().
  absl::StatusOr<std::uint8_t> ReadLastByte(const SourceTensor& tensor);

  // Whether all of a model was read: no file is missing or malformed, and a lone file is named model.safetensors. Only
  // then is there a config.json to hold against the tensors.
  bool whole_model() const { return whole_model_; }
  // The text of config.json beside the weights, "" if it cannot be one (too large, no regular file); nullopt if there
  // is none or !whole_model().
  const std::optional<std::string>& config() const { return config_; }
  // What the weights are: Checkpoint::format() without what it says of shards.
  const std::string& format() const { return format_; }
  // Payload that was read so far; headers do not count.
  std::uint64_t bytes_read() const { return bytes_read_; }

 private:
  absl::Status OpenFile(FileSystem& fs, const std::string& path, SymbolicLinks links, LintFindings* findings);
  absl::Status OpenIndex(FileSystem& fs, const std::string& path, SymbolicLinks links, LintFindings* findings);
  absl::Status OpenDirectory(FileSystem& fs, const std::string& directory, SymbolicLinks links, LintFindings* findings);
  absl::Status ReadConfig(FileSystem& fs, const std::string& directory, SymbolicLinks links);
  // Of formats for which the rules on indices and usual names are not made: files of them are opened together.
  void TakeCheckpoint(std::unique_ptr<const Checkpoint> checkpoint);
  // Fills in logical(). What is wrong with it is a finding, unless something else is wrong already.
  absl::Status ReadLogical(FileSystem& fs, const std::string& path, SymbolicLinks links, LintFindings* findings);

  std::vector<std::shared_ptr<RandomAccessFile>> files_;  // those whose header could be read; by SourceExtent::file
  std::vector<SourceTensor> tensors_, logical_;
  std::shared_ptr<const Checkpoint> checkpoint_;  // of tensors that are not stored as they are read; else nullptr
  bool whole_model_ = true;
  std::optional<std::string> config_;
  std::string format_ = "safetensors";
  std::uint64_t bytes_read_ = 0;
};

}  // namespace q4
