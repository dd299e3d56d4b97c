// A checkpoint: named tensors in one or more files, and the configuration and tokenizer files that travel with them.
//
// OpenCheckpoint() is the one way in, for a file, a shard index or a model directory. source_formats.h lists the
// formats, source_tensor.h describes a tensor. Elements are read through SourceReader (libconvert/source).
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "formats/base/file.h"
#include "formats/source/companions.h"
#include "formats/source/source_tensor.h"

namespace q4 {

// One file that holds tensor payload.
struct CheckpointFile {
  std::string name;                        // plain file name, as in the shard index
  std::shared_ptr<RandomAccessFile> file;  // open as long as anybody holds it
};

// Any file that a checkpoint consists of, weights or not.
struct InputFile {
  std::string path;
  FileIdentity identity;
};

// A validated checkpoint. Opening reads and validates every header and touches no payload byte. Immutable and
// thread-safe.
class Checkpoint {
 public:
  // For OpenCheckpoint() and tests: takes what was validated and checks nothing. REQUIRES: the orders that the
  // functions below promise, and extents whose files are in `files`.
  Checkpoint(std::string path, MainFile main_file, std::string format, std::vector<CheckpointFile> files,
             std::vector<SourceTensor> tensors, std::vector<CompanionFile> companions);

  // The path as given on the command line.
  const std::string& path() const { return path_; }
  // The weight file or shard index that `path` led to; in a directory, the one that was found.
  const MainFile& main_file() const { return main_file_; }
  // A name of source_formats.h, with "-sharded" where an index named the files: "safetensors", "safetensors-sharded".
  const std::string& format() const { return format_; }
  // Bytewise sorted by name where an index named them; without an index there is one. The digests of the provenance
  // have this order.
  const std::vector<CheckpointFile>& files() const { return files_; }
  // In payload order: by file, then by offset of the first extent. Names are unique. Tensors need not fill their files.
  const std::vector<SourceTensor>& tensors() const { return tensors_; }
  // Bytewise sorted by name.
  const std::vector<CompanionFile>& companions() const { return companions_; }
  // All that the checkpoint consists of: shard index, weight files, companions, as they were opened or found. None of
  // them may be overwritten while the checkpoint is read. A lone file comes twice.
  std::vector<InputFile> inputs() const;
  // nullptr when there is no such tensor. Names are compared as bytes. A binary search; the pointer lives as long as
  // the checkpoint.
  const SourceTensor* Find(std::string_view name) const;

  // The file in which the tensor begins, for reading and for messages. REQUIRES: `tensor` is one of this checkpoint and
  // has an extent.
  const RandomAccessFile& FileOf(const SourceTensor& tensor) const { return *files_[tensor.place().file].file; }

  // Reads bytes [begin, begin + out.size()) of the first extent as they are stored. Whoever wants elements, whatever
  // the recipe, asks SourceReader (libconvert/source/source_reader.h). kReadOutsideTensor when the extent does not hold
  // them (exit code 4), else the errors of RandomAccessFile::ReadAt(). REQUIRES: as FileOf().
  absl::Status Read(const SourceTensor& tensor, std::uint64_t begin, std::span<std::uint8_t> out) const;
  // The companion config.json as text, unparsed, or "" when there is none. Reads the file each time. `fs`: the one that
  // the checkpoint was opened with. Errors: those of ReadWholeFile(), with kFileTooLarge beyond
  // limits::kConfigJsonBytes.
  absl::StatusOr<std::string> ConfigJson(FileSystem& fs) const;
  // kFileChanged if any payload file changed since it was opened. Companions are not looked at.
  absl::Status CheckUnchanged() const;

 private:
  std::string path_;
  MainFile main_file_;
  std::string format_;
  std::vector<CheckpointFile> files_;
  std::vector<SourceTensor> tensors_;
  std::vector<CompanionFile> companions_;
  std::vector<std::uint32_t> by_name_;  // indices into tensors_, bytewise sorted by name
};

// What OpenCheckpoint() accepts beyond the strict default.
struct OpenOptions {
  // The path given to OpenCheckpoint() may always be a symbolic link. Files found through it (shards that an index
  // names, the checkpoint in a directory, companions) are refused when they are links, unless this is true: a foreign
  // directory could link to any file of this machine. Hugging Face caches consist of such links.
  bool follow_symlinks = false;
  bool allow_empty = false;  // false: a checkpoint without tensors is an error
};

// Opens a .safetensors file, a *.safetensors.index.json, or a Hugging Face model directory. The content decides what a
// file is, never its extension; one of another known kind is named in the error: Git LFS pointer, gzip, zip, HTML,
// PyTorch, GGUF, .q4.
//
// A directory must hold exactly one checkpoint: model.safetensors, or model.safetensors.index.json (both only if the
// index names model.safetensors), or otherwise a single shard index, or otherwise a single .safetensors file.
//
// Companions are those of CompanionsOf() (companions.h).
//
// `fs` must outlive the checkpoint, whose files it opened. At most limits::kShards files stay open. Takes time and
// memory by the number of tensors, not by their bytes.
//
// Errors: exit code 3 for whatever is malformed or inconsistent, 5 for other formats and for sub-byte types, 2 for I/O.
// checkpoint_issues.h lists the rules; beside them come those of JSON text and of files (formats/base/base_issues.h).
// The first broken rule ends the opening; companions are looked at last.
absl::StatusOr<std::unique_ptr<Checkpoint>> OpenCheckpoint(FileSystem& fs, const std::string& path,
                                                           const OpenOptions& options = {});

}  // namespace q4
