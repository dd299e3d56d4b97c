// A checkpoint: named tensors in one or more files, and the configuration and tokenizer files that travel with them.
//
// OpenCheckpoint() is the one way in, for a file, a shard index or a model directory. source_formats.h lists the
// formats, source_tensor.h describes a tensor. Elements are read through SourceReader (libconvert/source).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "formats/base/file.h"
#include "formats/base/note.h"
#include "formats/folder/left_out.h"
#include "formats/source/companions.h"
#include "formats/source/foreign.h"
#include "formats/source/modules.h"
#include "formats/tensor/source_tensor.h"

namespace q4 {

// One file that holds tensor payload.
struct CheckpointFile {
  // As in the shard index; in a module folder with that before it: "2_Dense/model.safetensors".
  std::string name;
  std::shared_ptr<RandomAccessFile> file;  // open as long as anybody holds it
  // By offset, disjoint; FileHasher (libconvert/source) compares them.
  std::vector<SourceChecksum> checksums = {};
};

// What a shard index says of its model in numbers. Nothing goes by them.
struct IndexTotals {
  std::optional<std::uint64_t> size, parameters;  // total_size, in bytes, and total_parameters
};

// Any file that a checkpoint consists of, weights or not.
struct InputFile {
  std::string path;
  FileIdentity identity;
};

// All that a checkpoint consists of, as its makers fill it in.
struct CheckpointContent {
  std::string path;                         // as given on the command line
  MainFile main_file;                       // the weight file or shard index that `path` led to
  std::string format;                       // Checkpoint::format()
  std::vector<CheckpointFile> files;        // Checkpoint::files()
  std::vector<std::string> module_folders;  // Checkpoint::module_folders()
  std::vector<SourceTensor> tensors;        // Checkpoint::tensors()
  std::vector<CompanionFile> companions;    // Checkpoint::companions()
  std::vector<LeftOutFile> left_out;        // Checkpoint::left_out()
  std::vector<Note> notes;                  // Checkpoint::notes()
  std::optional<Foreign> foreign;           // Checkpoint::foreign()
  std::optional<Foreign> taken_over;        // Checkpoint::taken_over()
  std::size_t adapter_files = 0;            // Checkpoint::adapter_files()
  std::string four_bits;                    // Checkpoint::four_bits()
  Json parent;                              // Checkpoint::parent()
  std::optional<IndexTotals> index_totals;  // Checkpoint::index_totals()
  std::string names_format;                 // the format whose names its tensors have, where it is another; else ""
  std::uint64_t read_bytes = 0;             // Checkpoint::read_bytes()
};

// A validated checkpoint. Opening reads and validates every header and touches no payload byte. Immutable and
// thread-safe.
class Checkpoint {
 public:
  // For OpenCheckpoint() and tests: takes what was validated and checks nothing. REQUIRES: the orders that the
  // functions below promise, and extents whose files are in `content.files`.
  explicit Checkpoint(CheckpointContent content);

  // The path as given on the command line.
  const std::string& path() const { return content_.path; }
  // The weight file or shard index that `path` led to; in a directory, the one that was found. Of a model whose weights
  // all lie in module folders, modules.json, as an index.
  const MainFile& main_file() const { return content_.main_file; }
  // A name of source_formats.h, with "-sharded" where an index, or one part, named the files: "safetensors",
  // "torch-sharded".
  const std::string& format() const { return content_.format; }
  // Bytewise sorted by name; only a lone file's is not among others. The digests of the provenance have this order.
  const std::vector<CheckpointFile>& files() const { return content_.files; }
  // How many of files(), its last ones, are no files of the model but of an adapter that is merged into it; sorted by
  // name among themselves. The configuration is one of them.
  std::size_t adapter_files() const { return content_.adapter_files; }
  // The module folders that hold tensors (modules.h), bytewise sorted. Names of their tensors and files begin with the
  // folder and a '/', and no other tensor's name does.
  const std::vector<std::string>& module_folders() const { return content_.module_folders; }
  // In payload order: by file, then by offset of the first extent. Names are unique. Tensors need not fill their files.
  const std::vector<SourceTensor>& tensors() const { return content_.tensors; }
  // Bytewise sorted by name.
  const std::vector<CompanionFile>& companions() const { return content_.companions; }
  // What the model's folder holds besides, bytewise sorted by name. Nothing is dropped in silence: converters tell it
  // and put it on record.
  const std::vector<LeftOutFile>& left_out() const { return content_.left_out; }
  // What was odd and is accepted as the loaders of the field accept it. In the order in which it was met.
  const std::vector<Note>& notes() const { return content_.notes; }
  // What it holds instead of plain weights: it can be looked at, but not converted. nullopt for a model.
  const std::optional<Foreign>& foreign() const { return content_.foreign; }
  // Where OpenOptions::take_over found weights to take over: what they are, as foreign() says it without the option.
  // Some tensors are kBnbCodes then, and the others are kept. nullopt for all other checkpoints.
  const std::optional<Foreign>& taken_over() const { return content_.taken_over; }
  // Where weights are read that somebody has quantized to 4 bits: the formats, for people, "NVFP4" or "MXFP4, NVFP4".
  // "" for all others, and for what is taken over, which nobody quantizes again. Who quantizes them adds an error to
  // theirs, and is asked for leave (ConvertOptions::from_quantized).
  const std::string& four_bits() const { return content_.four_bits; }
  // Of a container that is read as a checkpoint: what the provenance of its result says of it (docs/format.md F8.5).
  // null for all others.
  const Json& parent() const { return content_.parent; }
  // What a read of elements takes at most beside them, in bytes; 0 where that is next to nothing.
  std::uint64_t read_bytes() const { return content_.read_bytes; }
  // All that the checkpoint consists of: shard index, weight files, companions, as they were opened or found. None of
  // them may be overwritten while the checkpoint is read. A lone file comes twice.
  std::vector<InputFile> inputs() const;
  // Of a model with a shard index whose metadata is these numbers alone, as transformers writes it; else nullopt.
  const std::optional<IndexTotals>& index_totals() const { return content_.index_totals; }
  // All of it, to make another checkpoint of.
  const CheckpointContent& content() const { return content_; }
  // nullptr when there is no such tensor. Names are compared as bytes. A binary search; the pointer lives as long as
  // the checkpoint.
  const SourceTensor* Find(std::string_view name) const;

  // The file in which the tensor begins, for reading and for messages. REQUIRES: `tensor` is one of this checkpoint and
  // has an extent.
  const RandomAccessFile& FileOf(const SourceTensor& tensor) const { return *content_.files[tensor.place().file].file; }

  // Reads bytes [begin, begin + out.size()) of the first extent as they are stored. Whoever wants elements, whatever
  // the recipe, asks SourceReader (libconvert/source/source_reader.h). kReadOutsideTensor when the extent does not hold
  // them (exit code 4), else the errors of RandomAccessFile::ReadAt(). REQUIRES: as FileOf().
  absl::Status Read(const SourceTensor& tensor, std::uint64_t begin, std::span<std::uint8_t> out) const;
  // The same of extent number `extent`. REQUIRES: it is there.
  absl::Status ReadExtent(const SourceTensor& tensor, std::size_t extent, std::uint64_t begin,
                          std::span<std::uint8_t> out) const;
  // The companion config.json as it is carried, as text, unparsed, or "" when there is none. Reads the file each time.
  // `fs`: the one that the checkpoint was opened with. Errors: those of ReadWholeFile(), with kFileTooLarge beyond
  // limits::kConfigJsonBytes.
  absl::StatusOr<std::string> ConfigJson(FileSystem& fs) const;
  // The same with those of module_folders(). The limit is also one of all folders together.
  absl::StatusOr<ModelConfigs> Configs(FileSystem& fs) const;
  // kFileChanged if any payload file changed since it was opened. Companions are not looked at.
  absl::Status CheckUnchanged() const;

 private:
  CheckpointContent content_;
  std::vector<std::uint32_t> by_name_;  // indices into tensors(), bytewise sorted by name
};

// Whether a file of this name would be read as a checkpoint, by any reader: "a.safetensors", "pytorch_model.bin".
bool IsCheckpointName(std::string_view name);

// What OpenCheckpoint() accepts beyond the strict default.
struct OpenOptions {
  // The path given to OpenCheckpoint() may always be a symbolic link. Files found through it (shards that an index
  // names, the checkpoint in a directory, companions) are refused when they are links, unless this is true: a foreign
  // directory could link to any file of this machine. Hugging Face caches consist of such links.
  bool follow_symlinks = false;
  bool allow_empty = false;  // false: a checkpoint without tensors is an error
  // 4-bit weights of bitsandbytes are joined to logical tensors (formats/bnb/taken_over.h), and are not foreign() then.
  // Without it each of their tensors is listed as the files have it, whatever is wrong with them.
  bool take_over = false;
};

// Opens a .safetensors file, a PyTorch checkpoint (.bin, .pt, .pth), a *.safetensors.index.json or *.bin.index.json, a
// .gguf file (of several any one), or a Hugging Face model directory. The content decides what a file is, never its
// extension; one of another known kind is named in the error: Git LFS pointer, gzip, zip, HTML, GGML, .q4.
//
// A directory must hold exactly one checkpoint: model.safetensors or its .index.json (both only if the index names the
// file), else the same of diffusion_pytorch_model.safetensors, else one shard index, else one .safetensors file; else
// the same of PyTorch checkpoints with pytorch_model.bin and diffusion_pytorch_model.bin; else model.gguf, else one
// .gguf file or the parts of one, a projector (mmproj) not counted beside another.
//
// Weights in module folders of a model directory (modules.h) belong to it, found in each by the same rule; the
// directory itself may then be without. It may also be given by its main file.
//
// Companions and what is left out are those of ClassifyFolder() (companions.h). A checkpoint that is quantized already,
// or an adapter's, opens as well, with Checkpoint::foreign(): config.json and the files of quantizers are read for
// that. A folder that holds an adapter and no model does not open (kIsAdapter).
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
