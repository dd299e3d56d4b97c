// The files of a model's folder: every one is weights that are read, a companion, or left out with a reason. Companions
// are the small files that belong to a model: configuration, tokenizer, templates, licence. A container embeds them, so
// that it can be exported without the source. companion_kinds.h has the table of kinds.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/base/file.h"
#include "formats/base/note.h"
#include "formats/folder/companion_kinds.h"
#include "formats/folder/left_out.h"

namespace q4 {

// A companion that is no file of its own but lies in one, as what a weight file says beside its tensors; or one whose
// text is another than the file's, and then all head: a configuration that describes weights as they are stored, where
// q4 reads others (dequantized.h).
struct CompanionRange {
  std::string head;          // bytes that come first and stand in no file
  std::uint64_t offset = 0;  // of the rest, in the file
  std::uint64_t bytes = 0;   // of the rest
  // The file that it lies in, where opening the path shows other bytes; else nullptr.
  std::shared_ptr<const RandomAccessFile> file = nullptr;
};

// A small file to be carried inside the output: config.json, tokenizer.json, 1_Pooling/config.json, ...
struct CompanionFile {
  std::string name;        // relative to the model directory, '/' separated, plain components only
  std::string path;        // where it can be opened
  std::uint64_t size = 0;  // bytes of the companion, when it was found
  FileIdentity identity;   // of the file itself where links are followed
  FileVersion version;     // when it was found
  std::optional<CompanionRange> range = std::nullopt;  // nullopt for a whole file
};

// What is carried of a companion, as if it were a file of its own: offsets count from its first byte, and size() is
// CompanionFile::size unless a whole file has another by now. Path, version and identity are those of the file that it
// lies in. Whoever embeds or compares companions opens them here. Errors: those of FileSystem::OpenForRead().
absl::StatusOr<std::unique_ptr<RandomAccessFile>> OpenCarried(FileSystem& fs, const CompanionFile& companion);

// The file that a checkpoint was opened by: itself a weight file, or an index that names them.
struct MainFile {
  std::string path;
  FileIdentity identity;
  bool is_index = false;
  bool from_folder = false;  // found in a folder that was given, not given itself
};

// What lies in a model's folder beside the weights that are read.
struct ModelFolder {
  std::vector<CompanionFile> companions;  // bytewise sorted by name
  std::vector<LeftOutFile> left_out;      // bytewise sorted by name
  std::vector<Note> notes;                // what the user must know of it: code that is needed, a folder not looked at
};

// Whether the directory of `main` is taken for a model's, with all that lies in it: `main` is an index, was found in
// the directory, or is called model*, or config.json or params.json lies beside it. A lone file of another name may lie
// in a directory with files of all kinds. A broken link counts as a configuration, to be reported. Errors: I/O.
absl::StatusOr<bool> IsModelDirectory(FileSystem& fs, const MainFile& main);

// Classifies every file of the folder of `main`: by its name (KindOfFile()), and whether it is a regular file, has a
// name that a container can hold (Q4FileNameProblem(), PortableNames), and is small enough. `weights`: names of the
// weight files and further indices that are read, relative to the folder; they and `main` are neither companions nor
// left out.
//
// Subfolders are searched to limits::kFolderDepth if modules.json or a Router names them (modules.h) or KindOfFolder()
// says so: templates, further tokenizers and processors. Every other folder is one entry of `left_out`.
//
// A folder that is no model's (IsModelDirectory()) is not looked at; a note says so if a tokenizer lies in it.
//
// Errors: a symbolic link among the companions or on the way to them, with SymbolicLinks::kRefuse (exit code 3); more
// or larger companions than limits.h allows (3), but not of documents, which are left out then; those of
// ModuleFolders(); I/O for what is carried (2). What is left out is no error, whatever it is.
absl::StatusOr<ModelFolder> ClassifyFolder(FileSystem& fs, const MainFile& main, std::span<const std::string> weights,
                                           SymbolicLinks links);

// Whether a file of this name could be a companion, or be taken for the checkpoint itself, if it lay in the right
// folder.
bool MayBelongToModel(std::string_view name);

// Whether a regular file at `path`, which need not exist yet, would be among the companions of `main`. For files that
// are written beside a model and must not become a part of it. Also true for what would be taken for the checkpoint
// itself: weights and indices in its folder. A modules.json that is malformed lists no directory here. Errors: I/O
// (exit code 2).
absl::StatusOr<bool> WouldBeCompanion(FileSystem& fs, const MainFile& main, const std::string& path);

}  // namespace q4
