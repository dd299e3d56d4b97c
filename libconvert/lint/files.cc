// OpenCheckpoint() stops at the first rule that is broken; here every file is looked at, so that one report names all
// that is wrong with a download.
//
// Most of these faults come from downloads that were interrupted, and from directories into which two versions of a
// model were written: a new version may have another number of shards, and then files of the old one stay behind. A
// directory is read by its index if it has one, else by model.safetensors, else all its weights files are.
#include "libconvert/lint/files.h"

#include <algorithm>
#include <set>
#include <utility>

#include "fmt/format.h"
#include "formats/base/json_value.h"
#include "formats/base/limits.h"
#include "formats/base/status.h"
#include "formats/base/strict_json.h"
#include "formats/safetensors/safetensors.h"
#include "formats/safetensors/sniff.h"
#include "formats/source/modules.h"
#include "formats/source/named_weights.h"
#include "formats/source/shard_index.h"
#include "libconvert/source/source_reader.h"

namespace q4 {
namespace {

// Cut off, or no safetensors at all: clones without Git LFS have a pointer of three lines in place of the file.
constexpr LintRule kLintFileMalformed{
    {6501, ExitCode::kCheckFailed, "weights file cannot be read"},
    "file-malformed",
    "No loader can read this file.",
    "Download it again; compare its size with the publisher's.",
};
// Downloads that were interrupted, and scripts that fetch a fixed number of files.
constexpr LintRule kLintShardMissing{
    {6502, ExitCode::kCheckFailed, "index names a shard that is not there"},
    "shard-missing",
    "Loading stops at the first tensor of that shard.",
    "Download the shard, or write the index again.",
};
// transformers initializes a weight that it does not find and goes on with a warning, so the model runs and answers
// nonsense.
constexpr LintRule kLintTensorNotInShard{
    {6503, ExitCode::kCheckFailed, "tensor is not in the shard that the index names"},
    "tensor-not-in-shard",
    "Loading stops, or the weight stays random.",
    "Index and shards are of different versions: download both again.",
};
// Some loaders open the shards that the index names and take whatever is in them, others ask the index for each tensor.
// The former load this one and the latter do not.
constexpr LintRule kLintTensorUnlisted{
    {6504, ExitCode::kCheckFailed, "shard holds a tensor that the index does not list"},
    "tensor-unlisted",
    "Loaders that go by the index never see the tensor.",
    "Index and shards are of different versions: download both again.",
};
// A download of a new version over an old one with another number of shards.
constexpr LintRule kLintTensorTwice{
    {6505, ExitCode::kCheckFailed, "tensor is in two shards"},
    "tensor-twice",
    "Which of the two is loaded depends on the loader.",
    "Remove the shard that does not belong to the model.",
};
// A tool that merges or prunes and copies the old index leaves the old sum in it. Loaders do not refuse it.
constexpr LintRule kLintTotalSize{
    {6506, ExitCode::kOk, "total_size of the index differs from the tensors"},
    "total-size",
    "Loaders plan memory with a wrong number.",
    "Write the index again.",
};
// A warning: publishers put a second copy beside the first on purpose, such as consolidated.safetensors for their own
// loader.
constexpr LintRule kLintUnusedFile{
    {6507, ExitCode::kOk, "weights file that no index and no loader uses"},
    "unused-file",
    "A loader that takes every file mixes two models.",
    "Remove the file if it belongs to an older version.",
};
// Not asked for when one of the files is model.safetensors, which loaders take without an index.
constexpr LintRule kLintIndexMissing{
    {6508, ExitCode::kCheckFailed, "several weights files and no index"},
    "index-missing",
    "Loaders do not know which files belong to the model.",
    "Download model.safetensors.index.json.",
};

// Names that Hugging Face's libraries give and look for. Their index is "model.safetensors.index.json", that of
// diffusers has another stem, hence a suffix.
constexpr std::string_view kModelFile = "model.safetensors";
constexpr std::string_view kComponentFile = "diffusion_pytorch_model.safetensors";
constexpr std::string_view kWeightsSuffix = ".safetensors";
constexpr std::string_view kIndexSuffix = ".safetensors.index.json";
constexpr std::string_view kTorchModelFile = "pytorch_model.bin";
constexpr std::string_view kTorchIndexSuffix = ".bin.index.json";

void SortByName(std::vector<SourceTensor>* tensors) {
  std::sort(tensors->begin(), tensors->end(),
            [](const SourceTensor& a, const SourceTensor& b) { return a.name < b.name; });
}

// Whether files with such a tensor may stand for others: floats of 8 bits, and bytes that hold two of 4.
bool MayBePart(const SourceTensor& tensor) {
  return tensor.dtype == DType::kF8E4M3 || tensor.dtype == DType::kF8E5M2 || tensor.dtype == DType::kF8E8M0 ||
         (tensor.dtype == DType::kU8 && (tensor.name.ends_with("_blocks") || tensor.name.ends_with(".weight_packed")));
}

// Whether a failure says that the file is bad, which is a finding, and not that it cannot be read at all. A disk that
// fails must not be reported as a fault of the model.
bool IsFinding(const absl::Status& status) {
  const ExitCode code = ExitCodeOf(status);
  return code == ExitCode::kInvalidInput || code == ExitCode::kUnsupported;
}

}  // namespace

absl::StatusOr<LintFiles> LintFiles::Open(FileSystem& fs, const std::string& path, SymbolicLinks links,
                                          LintFindings* findings) {
  LintFiles files;
  Q4_ASSIGN_OR_RETURN(const PathInfo info, fs.Stat(path));
  const std::string directory = info.is_directory ? path : DirectoryOf(path);
  if (info.is_directory) {
    Q4_RETURN_IF_ERROR(files.OpenDirectory(fs, path, links, findings));
  } else {
    // The content decides what the file is, as in OpenCheckpoint(): an index may have any name.
    Q4_ASSIGN_OR_RETURN(const auto file, fs.OpenForRead(path));
    std::vector<std::uint8_t> head(std::min<std::uint64_t>(file->size(), kSniffBytes));
    Q4_RETURN_IF_ERROR(file->ReadAt(0, head));
    const FileKind kind = SniffKind(head);
    if (kind == FileKind::kJson && !BaseNameOf(path).ends_with(kTorchIndexSuffix)) {
      Q4_RETURN_IF_ERROR(files.OpenIndex(fs, path, links, findings));
    } else if (kind == FileKind::kJson || kind == FileKind::kPyTorchZip || kind == FileKind::kGguf) {
      auto checkpoint = OpenCheckpoint(fs, path, {.follow_symlinks = links == SymbolicLinks::kFollow});
      // What is right and not read, such as GGUF's tensors quantized in blocks, is no fault of the file.
      const bool fault = kind == FileKind::kGguf ? ExitCodeOf(checkpoint.status()) == ExitCode::kInvalidInput
                                                 : IsFinding(checkpoint.status());
      if (!checkpoint.ok() && !fault) return checkpoint.status();
      // Beside GGUF a config.json describes modules under other names.
      files.whole_model_ = checkpoint.ok() && (kind == FileKind::kJson || BaseNameOf(path) == kTorchModelFile);
      if (checkpoint.ok()) {
        files.TakeCheckpoint(*std::move(checkpoint));
      } else {
        findings->Add(kLintFileMalformed, BaseNameOf(path), Shown{MessageOf(checkpoint.status())});
      }
    } else {
      // A lone file under another name may lie in a download folder, beside the config.json of another model.
      files.whole_model_ = BaseNameOf(path) == kModelFile || BaseNameOf(path) == kComponentFile;
      Q4_RETURN_IF_ERROR(files.OpenFile(fs, path, SymbolicLinks::kFollow, findings));
    }
  }
  SortByName(&files.tensors_);
  // From here on it is known whether the rules on config.json may be asked.
  if (files.whole_model_) Q4_RETURN_IF_ERROR(files.ReadConfig(fs, directory, links));
  Q4_RETURN_IF_ERROR(files.ReadLogical(fs, path, links, findings));
  return files;
}

absl::Status LintFiles::ReadConfig(FileSystem& fs, const std::string& directory, SymbolicLinks links) {
  const std::string config = JoinPath(directory, "config.json");
  Q4_ASSIGN_OR_RETURN(const PathInfo config_info, fs.Stat(config));
  if (!config_info.exists) return absl::OkStatus();
  absl::StatusOr<std::string> text = ReadWholeFile(fs, config, limits::kConfigJsonBytes, links);
  if (!text.ok() && !IsFinding(text.status())) return text.status();
  config_ = text.ok() ? *std::move(text) : std::string();  // "" is no JSON, and LintConfig() says so
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> LintFiles::Folders(FileSystem& fs, const std::string& path,
                                                            SymbolicLinks links, LintFindings* findings) {
  std::vector<std::string> folders = {""};
  Q4_ASSIGN_OR_RETURN(const PathInfo info, fs.Stat(path));
  if (!info.is_directory) return folders;
  const auto modules = ModuleFolders(fs, path, links);
  if (!modules.ok() && !IsFinding(modules.status())) return modules.status();
  if (!modules.ok()) {
    findings->Add(kLintFileMalformed, kModulesName, Shown{MessageOf(modules.status())});
    return folders;
  }
  folders.insert(folders.end(), modules->begin(), modules->end());
  std::vector<std::string> holding;
  for (const std::string& folder : folders) {
    Q4_ASSIGN_OR_RETURN(const std::vector<std::string> names, fs.ListDirectory(JoinPath(path, folder)));
    const bool holds = std::any_of(names.begin(), names.end(), [](const std::string& name) {
      return name.front() != '.' && (name.ends_with(kWeightsSuffix) || name.ends_with(kIndexSuffix));
    });
    if (holds) holding.push_back(folder);
  }
  // Where there is nothing at all, opening the directory says what is there instead.
  if (holding.empty()) holding.emplace_back();
  return holding;
}

absl::Status LintFiles::OpenFile(FileSystem& fs, const std::string& path, SymbolicLinks links, LintFindings* findings) {
  // A file that does not open and one whose header does not parse are the same finding, with different messages.
  auto file = fs.OpenForRead(path, links);
  if (file.ok()) {
    auto header = ReadSafetensorsHeader(**file);
    if (header.ok()) {
      for (SourceTensor& tensor : header->tensors) {
        // The parser knows one file only and numbers it 0.
        tensor.extents.front().file = static_cast<std::uint32_t>(files_.size());
        tensors_.push_back(std::move(tensor));
      }
      files_.push_back(*std::move(file));
      return absl::OkStatus();
    }
    file = header.status();
  }
  if (!IsFinding(file.status())) return file.status();
  findings->Add(kLintFileMalformed, BaseNameOf(path), Shown{MessageOf(file.status())});
  whole_model_ = false;
  return absl::OkStatus();
}

absl::Status LintFiles::OpenIndex(FileSystem& fs, const std::string& path, SymbolicLinks links,
                                  LintFindings* findings) {
  Q4_ASSIGN_OR_RETURN(const std::string text, ReadWholeFile(fs, path, limits::kShardIndexBytes));
  JsonText source(text);
  const absl::StatusOr<ShardIndex> index = ParseShardIndex(source, path);
  if (!index.ok()) {
    findings->Add(kLintFileMalformed, BaseNameOf(path), Shown{MessageOf(index.status())});
    whole_model_ = false;
    return absl::OkStatus();
  }
  std::vector<std::string> shard_of_file;  // by SourceExtent::file
  for (const std::string& shard : index->shards) {
    const std::string shard_path = JoinPath(DirectoryOf(path), shard);
    Q4_ASSIGN_OR_RETURN(const PathInfo info, fs.Stat(shard_path));
    if (!info.exists) {
      findings->Add(kLintShardMissing, shard);
      whole_model_ = false;
      continue;
    }
    Q4_RETURN_IF_ERROR(OpenFile(fs, shard_path, links, findings));
    // A malformed shard was reported and has no number.
    if (files_.size() > shard_of_file.size()) shard_of_file.push_back(shard);
  }
  // First from the tensors to the index, then back: a tensor that is listed and lies nowhere is seen from the index
  // alone. A tensor gets the first of the three findings that fits, since a second place is also a wrong place.
  std::set<std::string_view> seen;
  std::uint64_t total_bytes = 0;
  for (const SourceTensor& tensor : tensors_) {
    total_bytes += tensor.bytes;
    const auto listed = index->shard_of.find(tensor.name);
    if (!seen.insert(tensor.name).second) {
      findings->Add(kLintTensorTwice, tensor.name, "also in " + shard_of_file[tensor.place().file]);
    } else if (listed == index->shard_of.end()) {
      findings->Add(kLintTensorUnlisted, tensor.name, "in " + shard_of_file[tensor.place().file]);
    } else if (index->shards[listed->second] != shard_of_file[tensor.place().file]) {
      findings->Add(kLintTensorNotInShard, tensor.name,
                    GotExpected(shard_of_file[tensor.place().file], index->shards[listed->second]));
    }
  }
  // Tensors of a shard that is missing or unreadable are reported with the shard, not one by one.
  std::set<std::string_view> lost;
  for (const auto& [name, shard] : index->shard_of) {
    const std::string& file = index->shards[shard];
    const bool opened = std::find(shard_of_file.begin(), shard_of_file.end(), file) != shard_of_file.end();
    if (opened && !seen.contains(name)) lost.insert(name);
  }
  for (const std::string_view name : lost) {
    findings->Add(kLintTensorNotInShard, name,
                  GotExpected("no shard", index->shards[index->shard_of.at(std::string(name))]));
  }
  // Without all shards the sum cannot be right.
  const bool all_opened = files_.size() == index->shards.size();
  if (all_opened && index->total_size && *index->total_size != total_bytes) {
    findings->Add(kLintTotalSize, BaseNameOf(path),
                  GotExpected(fmt::to_string(*index->total_size), fmt::to_string(total_bytes)));
  }
  // What else lies there. Other files, such as PyTorch's, are no business of the index.
  Q4_ASSIGN_OR_RETURN(const std::vector<std::string> names, fs.ListDirectory(DirectoryOf(path)));
  for (const std::string& name : names) {
    if (name.ends_with(kWeightsSuffix) && !std::binary_search(index->shards.begin(), index->shards.end(), name)) {
      findings->Add(kLintUnusedFile, name);
    }
  }
  return absl::OkStatus();
}

absl::Status LintFiles::OpenDirectory(FileSystem& fs, const std::string& directory, SymbolicLinks links,
                                      LintFindings* findings) {
  Q4_ASSIGN_OR_RETURN(const std::vector<std::string> names, fs.ListDirectory(directory));
  std::vector<std::string> weights;
  std::string index;
  // Before the usual names, as transformers does.
  const absl::StatusOr<std::string> named = NamedWeightsIn(fs, directory, links);
  if (!named.ok()) {
    if (!IsFinding(named.status())) return named.status();
    findings->Add(kLintFileMalformed, "config.json", Shown{MessageOf(named.status())});
    whole_model_ = false;
    return absl::OkStatus();
  }
  for (const std::string& name : names) {
    // Hidden files are those of download tools and of file managers.
    if (name.front() == '.') continue;
    if (name.ends_with(kWeightsSuffix)) weights.push_back(name);
    // "model.safetensors.index.json" before any other.
    if (name.ends_with(kIndexSuffix) && (index.empty() || name.starts_with(kModelFile))) index = name;
  }
  if (named->ends_with(kIndexSuffix)) index = *named;
  if (!index.empty() && (named->empty() || index == *named)) {
    return OpenIndex(fs, JoinPath(directory, index), links, findings);
  }
  if (weights.empty()) {
    // Of another format, or the error says what is there instead.
    Q4_ASSIGN_OR_RETURN(auto checkpoint,
                        OpenCheckpoint(fs, directory, {.follow_symlinks = links == SymbolicLinks::kFollow}));
    TakeCheckpoint(std::move(checkpoint));
    return absl::OkStatus();
  }
  // Sorted, as ListDirectory() returns names.
  const bool is_component = !std::binary_search(weights.begin(), weights.end(), kModelFile);
  const std::string_view usual = !named->empty() ? std::string_view(*named)
                                 : is_component  ? kComponentFile
                                                 : kModelFile;
  const bool has_model = std::binary_search(weights.begin(), weights.end(), usual);
  if (!has_model && weights.size() > 1) {
    findings->Add(kLintIndexMissing, {}, fmt::format("{} files", weights.size()));
  }
  for (const std::string& name : weights) {
    if (has_model && name != usual) {
      findings->Add(kLintUnusedFile, name);
      continue;
    }
    Q4_RETURN_IF_ERROR(OpenFile(fs, JoinPath(directory, name), links, findings));
  }
  return absl::OkStatus();
}

void LintFiles::TakeCheckpoint(std::unique_ptr<const Checkpoint> checkpoint) {
  for (const CheckpointFile& file : checkpoint->files()) files_.push_back(file.file);
  tensors_ = checkpoint->tensors();
  format_ = checkpoint->format().substr(0, checkpoint->format().find('-'));
  checkpoint_ = std::move(checkpoint);
}

absl::Status LintFiles::ReadLogical(FileSystem& fs, const std::string& path, SymbolicLinks links,
                                    LintFindings* findings) {
  // 4-bit weights of bitsandbytes have rules of their own, and are not joined.
  if (checkpoint_ != nullptr || std::none_of(tensors_.begin(), tensors_.end(), MayBePart)) return absl::OkStatus();
  auto checkpoint = OpenCheckpoint(fs, path, {.follow_symlinks = links == SymbolicLinks::kFollow});
  if (!checkpoint.ok()) {
    if (!IsFinding(checkpoint.status())) return checkpoint.status();
    // LintConfig() says what is wrong with a configuration that is no JSON.
    const bool other = !findings->empty() || (config_ && !ParseModelJson(*config_, {}).ok());
    if (!other) findings->Add(kLintFileMalformed, BaseNameOf(path), Shown{MessageOf(checkpoint.status())});
    return absl::OkStatus();
  }
  const std::vector<SourceTensor>& read = (*checkpoint)->tensors();
  if (std::all_of(read.begin(), read.end(), [](const SourceTensor& tensor) { return tensor.is_stored(); })) {
    return absl::OkStatus();
  }
  logical_ = read;
  SortByName(&logical_);
  checkpoint_ = *std::move(checkpoint);
  return absl::OkStatus();
}

const SourceTensor* LintFiles::Find(std::string_view name) const {
  const auto at = std::lower_bound(tensors_.begin(), tensors_.end(), name,
                                   [](const SourceTensor& tensor, std::string_view key) { return tensor.name < key; });
  return at != tensors_.end() && at->name == name ? &*at : nullptr;
}

absl::StatusOr<std::vector<std::uint8_t>> LintFiles::ReadStart(const SourceTensor& tensor, std::uint64_t limit) {
  std::vector<std::uint8_t> bytes(std::min(tensor.bytes, limit));
  if (tensor.is_stored()) {
    Q4_RETURN_IF_ERROR(files_[tensor.place().file]->ReadAt(tensor.place().offset, bytes));
  } else {
    Q4_RETURN_IF_ERROR(SourceReader(*checkpoint_).Read(tensor, 0, bytes));
  }
  bytes_read_ += bytes.size();
  return bytes;
}

absl::StatusOr<std::uint8_t> LintFiles::ReadLastByte(const SourceTensor& tensor) {
  std::uint8_t byte = 0;
  Q4_RETURN_IF_ERROR(files_[tensor.place().file]->ReadAt(tensor.place().end() - 1, {&byte, 1}));
  ++bytes_read_;
  return byte;
}

}  // namespace q4
