// OpenCheckpoint(): finds the checkpoint that a path means, opens it as one file or as shards, adds the weights of
// module folders, which are found and opened in the same way, and its companions.
//
// Two questions are kept apart. Which file a directory means goes by names (FindFormat()), format by format in the
// order of the table of source_formats.h. What a file is goes by its first bytes: JSON is a shard index, everything
// else is for the reader that recognises it. All errors of a reader come before those of companions: weights that
// cannot be read are what the user must hear of first.
#include <algorithm>
#include <iterator>
#include <memory>
#include <numeric>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "formats/base/base_issues.h"
#include "formats/base/limits.h"
#include "formats/base/status.h"
#include "formats/base/strict_json.h"
#include "formats/base/text.h"
#include "formats/bnb/taken_over.h"
#include "formats/folder/adapters.h"
#include "formats/folder/companion_kinds.h"
#include "formats/folder/pipeline_index.h"
#include "formats/folder/quant_methods.h"
#include "formats/safetensors/sniff.h"
#include "formats/source/checkpoint.h"
#include "formats/source/checkpoint_issues.h"
#include "formats/source/companions.h"
#include "formats/source/dequantized.h"
#include "formats/source/foreign_files.h"
#include "formats/source/modules.h"
#include "formats/source/named_weights.h"
#include "formats/source/pipeline.h"
#include "formats/source/shard_index.h"
#include "formats/source/source_formats.h"
#include "formats/source/split_files.h"

namespace q4 {
namespace {

constexpr std::string_view kIndexEnding = ".index.json";
// Of Checkpoint::format(), where an index named files.
constexpr std::string_view kShardedEnding = "-sharded";

// Weights that no row of source_formats.h claims by name, or by content where the name is a common one. Used when
// nothing else was found, so that a user reads that the format is not supported, and not that the directory is empty.
bool IsUnsupportedWeights(std::string_view name) {
  return name.ends_with(".bin") || name.ends_with(".pt") || name.ends_with(".pth") || name.ends_with(".ckpt");
}

// "a, b, c and 5 more"
std::string ListNames(const std::vector<std::string>& names) {
  constexpr std::size_t kShown = 3;
  std::string out;
  for (std::size_t i = 0; i < std::min(names.size(), kShown); ++i) out += (i == 0 ? "" : ", ") + names[i];
  if (names.size() > kShown) out += " and " + std::to_string(names.size() - kShown) + " more";
  return out;
}

absl::StatusOr<ShardIndex> ReadShardIndex(const RandomAccessFile& file) {
  // The parser reads as a stream and has no limit of its own for the whole text.
  if (file.size() > limits::kShardIndexBytes) {
    return Fail(
        kJsonTooLarge, file.path(), {},
        GotExpected(std::to_string(file.size()) + " bytes", "at most " + std::to_string(limits::kShardIndexBytes)));
  }
  JsonFile text(file, 0, file.size());
  return ParseShardIndex(text, file.path());
}

// Whether the shard index at `path` names `shard`.
absl::StatusOr<bool> IndexNames(FileSystem& fs, const std::string& path, std::string_view shard, SymbolicLinks links) {
  Q4_ASSIGN_OR_RETURN(const auto file, fs.OpenForRead(path, links));
  Q4_ASSIGN_OR_RETURN(const ShardIndex index, ReadShardIndex(*file));
  return std::binary_search(index.shards.begin(), index.shards.end(), shard);
}

// The checkpoint of the usual name `model_file` or its index, "" when there is none. `names` are sorted.
absl::StatusOr<std::string> FindUsual(FileSystem& fs, const std::string& directory,
                                      const std::vector<std::string>& names, std::string_view model_file,
                                      SymbolicLinks links) {
  const std::string index = std::string(model_file) + std::string(kIndexEnding);
  const bool has_file = std::binary_search(names.begin(), names.end(), model_file);
  const bool has_index = std::binary_search(names.begin(), names.end(), index);
  const auto path_of = [&](std::string_view name) { return JoinPath(directory, std::string(name)); };
  if (has_file && has_index) {
    // Both lie there. That is one checkpoint if the file is one of the shards; otherwise it would be a guess which one
    // the user means, and a wrong one converts the wrong weights.
    Q4_ASSIGN_OR_RETURN(const bool names_it, IndexNames(fs, path_of(index), model_file, links));
    if (names_it) return path_of(index);
    return Fail(kAmbiguousDirectory, directory, {}, ListNames({std::string(model_file), index}));
  }
  if (has_index) return path_of(index);
  return has_file ? path_of(model_file) : std::string();
}

// Whether `name` is that of a shard index of files with `ending`: "model.safetensors.index.json", or of a variant as
// diffusers calls it, "model.safetensors.index.fp16.json".
bool IsIndexName(std::string_view name, const SourceFormat& format) {
  if (HasEnding(format, name, kIndexEnding)) return true;
  return name.ends_with(".json") && AnyItem(format.ending, " ", [name](std::string_view ending) {
           return name.find(std::string(ending) + ".index.") != std::string_view::npos;
         });
}

// Whether a file with the ending of `format` is one of its weights. Safetensors are by their name; ".bin" and ".pt" are
// names for anything, and some are what a training leaves behind. What cannot be read is taken, for the message.
bool MayBeWeights(FileSystem& fs, const std::string& path, const SourceFormat& format, SymbolicLinks links) {
  if (&format == &SourceFormats().front()) return true;
  if (KindOfFile(BaseNameOf(path)).fate == FileFate::kLeftOut || IsAdapterFile(BaseNameOf(path))) return false;
  const auto file = fs.OpenForRead(path, links);
  if (!file.ok()) return true;
  std::vector<std::uint8_t> head(static_cast<std::size_t>(std::min<std::uint64_t>((*file)->size(), kSniffBytes)));
  return !(*file)->ReadAt(0, head).ok() || format.recognises(SniffKind(head));
}

// The one checkpoint of `format` among the files of a directory, "" when there is none; the rule is in checkpoint.h.
absl::StatusOr<std::string> FindFormat(FileSystem& fs, const std::string& directory,
                                       const std::vector<std::string>& names, const SourceFormat& format,
                                       SymbolicLinks links) {
  for (const std::string_view usual : {format.model_file, format.component_file}) {
    if (usual.empty()) continue;
    // ListDirectory() sorts.
    Q4_ASSIGN_OR_RETURN(std::string found, FindUsual(fs, directory, names, usual, links));
    if (!found.empty()) return found;
  }
  const auto path_of = [&](std::string_view name) { return JoinPath(directory, std::string(name)); };
  std::vector<std::string> files, indices;
  for (const std::string& name : names) {
    if (HasEnding(format, name) && MayBeWeights(fs, path_of(name), format, links)) files.push_back(name);
    if (IsIndexName(name, format)) indices.push_back(name);
  }
  if (!format.lesser.empty()) {
    std::vector<std::string> others = files;
    std::erase_if(others, [&](const std::string& name) {
      const std::string lower = absl::AsciiStrToLower(name);
      return AnyItem(format.lesser, " ", [&](std::string_view item) { return MatchesWildcards(item, lower); });
    });
    if (!others.empty()) files = std::move(others);
  }
  if (format.has_parts) files = OnePartOfEach(std::move(files));
  // Neither has the usual name. An index goes before files, which are probably its shards.
  const std::vector<std::string>& candidates = indices.empty() ? files : indices;
  if (candidates.size() > 1) return Fail(kAmbiguousDirectory, directory, {}, ListNames(candidates));
  return candidates.empty() ? std::string() : path_of(candidates.front());
}

// The weights or the index of a directory, "" when it holds none. `way_out`: what to do about weights of another kind.
absl::StatusOr<std::string> FindInDirectory(FileSystem& fs, const std::string& directory, SymbolicLinks links,
                                            std::string_view way_out) {
  // Whatever else lies there: what its loader loads is the checkpoint.
  Q4_ASSIGN_OR_RETURN(const std::string named, NamedWeightsIn(fs, directory, links));
  if (!named.empty()) return JoinPath(directory, named);
  Q4_ASSIGN_OR_RETURN(std::vector<std::string> names, fs.ListDirectory(directory));
  // Hidden files, such as "._model.safetensors" of macOS, may have the ending but are no checkpoints.
  std::erase_if(names, [](const std::string& name) { return name.front() == '.'; });
  // The first format that is there has the directory. An error in it ends the search: a later format must not be taken
  // instead.
  for (const SourceFormat& format : SourceFormats()) {
    Q4_ASSIGN_OR_RETURN(std::string found, FindFormat(fs, directory, names, format, links));
    if (!found.empty()) return found;
  }
  std::erase_if(names, [](const std::string& name) { return !IsUnsupportedWeights(name); });
  if (names.empty()) return std::string();
  return Fail(kUnsupportedFormat, directory, {}, "found only " + ListNames(names) + "; " + std::string(way_out));
}

// The weights that a file holds, or all shards of the index that it is. `links`: see OpenOptions.
absl::StatusOr<CheckpointPayload> OpenWeights(FileSystem& fs, std::shared_ptr<RandomAccessFile> file, bool* is_index,
                                              SymbolicLinks links) {
  std::vector<std::uint8_t> head(static_cast<std::size_t>(std::min<std::uint64_t>(file->size(), kSniffBytes)));
  Q4_RETURN_IF_ERROR(file->ReadAt(0, head));
  const FileKind kind = SniffKind(head);
  CheckpointPayload payload;
  // Any JSON is taken for an index; ParseShardIndex() refuses what is none.
  *is_index = kind == FileKind::kJson;
  if (*is_index) {
    Q4_ASSIGN_OR_RETURN(const ShardIndex index, ReadShardIndex(*file));
    Q4_ASSIGN_OR_RETURN(payload, OpenShards(fs, file->path(), index, links));
    payload.format += kShardedEnding;
  } else {
    const SourceFormat& format = SourceFormatOf(kind);
    payload.format = format.name;
    Q4_ASSIGN_OR_RETURN(SourceHeader header, format.read_header(*file));
    if (header.part) {
      Q4_ASSIGN_OR_RETURN(payload, OpenParts(fs, std::move(file), std::move(header), format, links));
      payload.format += kShardedEnding;
      return payload;
    }
    if (header.metadata) PlaceCompanion(*file, &*header.metadata);
    payload.tensors = std::move(header.tensors);
    payload.remarks = std::move(header.remarks);
    payload.notes = std::move(header.notes);
    payload.metadata = std::move(header.metadata);
    payload.foreign = std::move(header.foreign);
    payload.files.push_back({BaseNameOf(file->path()), std::move(file), std::move(header.checksums)});
  }
  return payload;
}

// Adds the weights of a module folder, or of the model's own directory ("").
absl::Status AddWeights(CheckpointPayload payload, const std::string& folder, CheckpointContent* content,
                        SourceRemarks* remarks) {
  const std::string prefix = folder.empty() ? std::string() : folder + "/";
  const auto first_file = static_cast<std::uint32_t>(content->files.size());
  if (content->files.size() + payload.files.size() > limits::kShards) {
    return Fail(kTooManyShards, content->path, {}, "at most " + std::to_string(limits::kShards));
  }
  if (content->tensors.size() + payload.tensors.size() > limits::kTensorsPerCheckpoint) {
    return Fail(kTooManyTensors, content->path, {}, "at most " + std::to_string(limits::kTensorsPerCheckpoint));
  }
  for (SourceTensor& tensor : payload.tensors) {
    tensor.name.insert(0, prefix);
    if (tensor.name.size() > limits::kTensorNameBytes) {
      return Fail(kTensorName, payload.files[tensor.place().file].file->path(), tensor.name,
                  "got " + std::to_string(tensor.name.size()) + " bytes with its folder");
    }
    for (SourceExtent& extent : tensor.extents) extent.file += first_file;
    content->tensors.push_back(std::move(tensor));
  }
  for (CheckpointFile& file : payload.files) {
    file.name.insert(0, prefix);
    content->files.push_back(std::move(file));
  }
  // Of a model with a sharded part the whole is called so.
  if (content->format.empty() || payload.format.ends_with(kShardedEnding)) content->format = std::move(payload.format);
  if (folder.empty()) content->index_totals = payload.totals;
  if (!folder.empty()) content->module_folders.push_back(folder);
  content->notes.insert(content->notes.end(), payload.notes.begin(), payload.notes.end());
  if (payload.metadata) {
    payload.metadata->name.insert(0, prefix);
    content->companions.push_back(*std::move(payload.metadata));
  }
  if (!content->foreign) content->foreign = std::move(payload.foreign);
  remarks->Add(payload.remarks);
  return absl::OkStatus();
}

// Weights of a module folder are read by the rule for directories. A module whose weights are of another kind is
// refused and not left out: its loader would miss them.
absl::Status AddModules(FileSystem& fs, const std::string& directory, SymbolicLinks links, CheckpointContent* content,
                        SourceRemarks* remarks) {
  Q4_ASSIGN_OR_RETURN(const std::vector<std::string> folders, ModuleFolders(fs, directory, links));
  for (const std::string& folder : folders) {
    // An adapter of a module changes what the module computes.
    Q4_ASSIGN_OR_RETURN(const auto adapter, FindAdapterFolder(fs, JoinPath(directory, folder)));
    if (adapter) return ForeignStatus(adapter->foreign);
    Q4_ASSIGN_OR_RETURN(const std::string path,
                        FindInDirectory(fs, JoinPath(directory, folder), links,
                                        "save the model as safetensors first: SentenceTransformer(DIRECTORY)"
                                        ".save_pretrained(NEW_DIRECTORY)"));
    if (path.empty()) continue;
    Q4_ASSIGN_OR_RETURN(std::shared_ptr<RandomAccessFile> file, fs.OpenForRead(path, links));
    bool is_index = false;
    Q4_ASSIGN_OR_RETURN(CheckpointPayload payload, OpenWeights(fs, std::move(file), &is_index, links));
    Q4_RETURN_IF_ERROR(AddWeights(std::move(payload), folder, content, remarks));
  }
  // A tensor that only seems to lie in a module folder would be written there by an export, or have the name of one
  // that does.
  for (const SourceTensor& tensor : content->tensors) {
    const std::string& file = content->files[tensor.place().file].name;
    const std::string_view lies_in = ModuleFolderOf(folders, file), seems_in = ModuleFolderOf(folders, tensor.name);
    if (lies_in == seems_in) continue;
    return Fail(kModuleNameClash, content->files[tensor.place().file].file->path(), tensor.name,
                "folder '" + std::string(seems_in) + "'");
  }
  return absl::OkStatus();
}

// Sorts the files by name, and the tensors with them.
void SortByFile(CheckpointContent* content) {
  std::vector<std::uint32_t> order(content->files.size()), number(content->files.size());
  std::iota(order.begin(), order.end(), 0u);
  std::sort(order.begin(), order.end(),
            [&](std::uint32_t a, std::uint32_t b) { return content->files[a].name < content->files[b].name; });
  std::vector<CheckpointFile> files;
  for (const std::uint32_t old : order) {
    number[old] = static_cast<std::uint32_t>(files.size());
    files.push_back(std::move(content->files[old]));
  }
  content->files = std::move(files);
  for (SourceTensor& tensor : content->tensors) {
    for (SourceExtent& extent : tensor.extents) extent.file = number[extent.file];
  }
  // Those of a file are in order already.
  std::stable_sort(content->tensors.begin(), content->tensors.end(),
                   [](const SourceTensor& a, const SourceTensor& b) { return a.place().file < b.place().file; });
}

// Where transformers would load other weights than `given`, from the folder that it lies in.
absl::Status NoteOtherWeights(FileSystem& fs, const std::string& given, SymbolicLinks links,
                              CheckpointContent* content) {
  const absl::StatusOr<std::string> named = NamedWeightsIn(fs, DirectoryOf(given), links);
  if (!named.ok()) return ExitCodeOf(named.status()) == ExitCode::kIo ? named.status() : absl::OkStatus();
  if (named->empty() || *named == BaseNameOf(given)) return absl::OkStatus();
  content->notes.push_back({true, "config.json makes transformers load '" + Printable(*named) + "' in place of '" +
                                      Printable(BaseNameOf(given)) + "', which was given and is converted"});
  return absl::OkStatus();
}

// Adds the companions that lie in the folder to those that weight files hold themselves.
absl::Status AddCompanions(std::vector<CompanionFile> found, CheckpointContent* content) {
  const std::vector<CompanionFile> own = content->companions;
  for (const CompanionFile& companion : own) {
    if (companion.size > limits::kEmbeddedFileBytes) {
      return Fail(kCompanionTooLarge, companion.path, "metadata",
                  GotExpected(std::to_string(companion.size) + " bytes",
                              "at most " + std::to_string(limits::kEmbeddedFileBytes)));
    }
  }
  for (CompanionFile& companion : found) {
    const bool taken =
        std::any_of(own.begin(), own.end(), [&](const CompanionFile& other) { return other.name == companion.name; });
    if (taken) {
      content->left_out.push_back({companion.name, "the weights bring a file of this name themselves", true});
    } else {
      content->companions.push_back(std::move(companion));
    }
  }
  std::sort(content->companions.begin(), content->companions.end(),
            [](const CompanionFile& a, const CompanionFile& b) { return a.name < b.name; });
  return absl::OkStatus();
}

// Joins the 4-bit weights that `content.foreign` speaks of. What else is quantized beside them stays foreign: tensors
// of 8 bits, say, which bitsandbytes saves in other ways.
absl::Status TakeOverWeights(CheckpointContent* content) {
  std::vector<const RandomAccessFile*> files;
  for (const CheckpointFile& file : content->files) files.push_back(file.file.get());
  Q4_RETURN_IF_ERROR(TakeOverBnb(files, &content->tensors));
  const bool any = std::any_of(content->tensors.begin(), content->tensors.end(),
                               [](const SourceTensor& tensor) { return tensor.bnb != nullptr; });
  if (!any) return absl::OkStatus();
  content->taken_over = std::exchange(content->foreign, std::nullopt);
  const QuantTensors others = FindQuantTensors(content->tensors);
  if (others.method == nullptr) return absl::OkStatus();
  content->foreign = content->taken_over;
  content->foreign->name = others.method->name;
  content->foreign->where = "tensor '" + others.tensor->name + "'";
  return absl::OkStatus();
}

absl::Status NoCheckpoint(const std::string& directory) {
  return Fail(kNoCheckpointFound, directory, {}, GotExpected("no such file", "model.safetensors or its index"));
}

// The main file of a directory. One that holds no weights itself may have modules that do; then their list stands for
// it.
absl::StatusOr<std::string> MainFileIn(FileSystem& fs, const std::string& directory, SymbolicLinks links) {
  Q4_ASSIGN_OR_RETURN(std::string found, FindInDirectory(fs, directory, links, "save the model as safetensors first"));
  if (!found.empty()) return found;
  Q4_ASSIGN_OR_RETURN(const std::vector<std::string> folders, ModuleFolders(fs, directory, links));
  if (!folders.empty()) return JoinPath(directory, kModulesName);
  return NoCheckpoint(directory);
}

}  // namespace

bool IsCheckpointName(std::string_view name) {
  const auto formats = SourceFormats();
  return std::any_of(formats.begin(), formats.end(),
                     [name](const SourceFormat& format) { return HasEnding(format, name); });
}

absl::StatusOr<std::unique_ptr<Checkpoint>> OpenCheckpoint(FileSystem& fs, const std::string& path,
                                                           const OpenOptions& options) {
  const SymbolicLinks links = options.follow_symlinks ? SymbolicLinks::kFollow : SymbolicLinks::kRefuse;
  Q4_ASSIGN_OR_RETURN(const PathInfo info, fs.Stat(path));
  std::string file_path = path;
  // modules.json is as good a name for a model as its directory.
  const bool search = info.is_directory || (info.is_regular && BaseNameOf(path) == kModulesName);
  std::optional<AdapterFolder> adapter;
  // Whatever else lies in the folder: files at the top of a pipeline are other ways to save its components.
  if (info.is_directory) Q4_RETURN_IF_ERROR(RefusePipeline(fs, path));
  if (info.is_regular && BaseNameOf(path) == kPipelineIndexName) {
    Q4_RETURN_IF_ERROR(RefusePipeline(fs, DirectoryOf(path)));
  }
  if (search) {
    const std::string directory = info.is_directory ? path : DirectoryOf(path);
    Q4_ASSIGN_OR_RETURN(adapter, FindAdapterFolder(fs, directory));
    if (adapter && adapter->weights.empty()) return ForeignStatus(adapter->foreign);
    if (adapter) {
      file_path = adapter->weights;
    } else {
      Q4_ASSIGN_OR_RETURN(file_path, MainFileIn(fs, directory, links));
    }
  }
  // The user named the path itself, so it may be a link; what was found in a directory may not (OpenOptions).
  Q4_ASSIGN_OR_RETURN(std::shared_ptr<RandomAccessFile> file,
                      fs.OpenForRead(file_path, search ? links : SymbolicLinks::kFollow));
  CheckpointContent content;
  SourceRemarks remarks;
  content.path = path;
  content.main_file = {file_path, file->identity(), true, search};
  const bool modules_only = BaseNameOf(file_path) == kModulesName;
  if (!modules_only) {
    Q4_ASSIGN_OR_RETURN(CheckpointPayload payload, OpenWeights(fs, file, &content.main_file.is_index, links));
    Q4_RETURN_IF_ERROR(AddWeights(std::move(payload), "", &content, &remarks));
  }
  Q4_ASSIGN_OR_RETURN(const bool is_model, IsModelDirectory(fs, content.main_file));
  // A file that was named by hand is what is wanted, whatever the configuration says; but that should be known.
  if (is_model && !search) Q4_RETURN_IF_ERROR(NoteOtherWeights(fs, file_path, links, &content));
  if (is_model) Q4_RETURN_IF_ERROR(AddModules(fs, DirectoryOf(file_path), links, &content, &remarks));
  // Only folders can bring files out of order.
  if (!content.module_folders.empty()) SortByFile(&content);
  // Readers accept a file without tensors, as a shard may be one; a whole checkpoint without any is mostly a mistake.
  if (modules_only && content.files.empty()) return NoCheckpoint(DirectoryOf(file_path));
  if (content.tensors.empty() && !options.allow_empty) {
    return Fail(kNoTensors, file_path, {}, content.companions.empty() ? "" : "metadata alone, as of a vocabulary");
  }
  std::vector<std::string> weights;
  for (const CheckpointFile& part : content.files) weights.push_back(part.name);
  Q4_ASSIGN_OR_RETURN(ModelFolder folder, ClassifyFolder(fs, content.main_file, weights, links));
  content.left_out = std::move(folder.left_out);
  Q4_RETURN_IF_ERROR(AddCompanions(std::move(folder.companions), &content));
  content.notes.insert(content.notes.end(), std::make_move_iterator(folder.notes.begin()),
                       std::make_move_iterator(folder.notes.end()));
  Q4_ASSIGN_OR_RETURN(const std::vector<std::string> dequantized, ReadDequantized(fs, &content));
  // No file of the folder, but as much left out as one: a container has no place for it.
  if (!remarks.empty()) content.left_out.push_back({std::string(remarks.place()), remarks.Text(), false});
  std::sort(content.left_out.begin(), content.left_out.end(),
            [](const LeftOutFile& a, const LeftOutFile& b) { return a.name < b.name; });
  // What a file says of itself goes before what its names suggest.
  if (!content.foreign) {
    Q4_ASSIGN_OR_RETURN(content.foreign, FindForeign(fs, content, dequantized, &content.notes));
  }
  if (adapter && !content.foreign) content.foreign = std::move(adapter->foreign);
  if (options.take_over && content.foreign && content.foreign->name == kBnb4Bit) {
    Q4_RETURN_IF_ERROR(TakeOverWeights(&content));
  }
  return std::make_unique<Checkpoint>(std::move(content));
}

}  // namespace q4
