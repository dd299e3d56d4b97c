// Reads the few small texts that tell a foreign checkpoint; foreign.cc judges them.
#include "formats/source/foreign_files.h"

#include <algorithm>
#include <array>
#include <map>
#include <string_view>
#include <utility>

#include "formats/base/json_value.h"
#include "formats/base/limits.h"
#include "formats/base/status.h"
#include "formats/folder/adapters.h"
#include "formats/folder/quant_methods.h"

namespace q4 {
namespace {

// How the weights of a model are called by those who save models.
bool IsModelWeights(const std::string& name) {
  constexpr std::array<std::string_view, 5> kBegins = {"model", "pytorch_model", "diffusion_pytorch_model",
                                                       "consolidated", "open_clip"};
  constexpr std::array<std::string_view, 6> kEnds = {".safetensors", ".index.json", ".bin", ".pt", ".pth", ".gguf"};
  return std::any_of(kBegins.begin(), kBegins.end(), [&](std::string_view begin) { return name.starts_with(begin); }) &&
         std::any_of(kEnds.begin(), kEnds.end(), [&](std::string_view end) { return name.ends_with(end); });
}

}  // namespace

absl::StatusOr<std::vector<SideText>> TextsInFolder(FileSystem& fs, const CheckpointContent& content,
                                                    std::string_view folder) {
  // The file's name if it lies in the folder itself, else "".
  const auto name_in = [folder](const std::string& name) {
    const std::string above = name.find('/') == std::string::npos ? std::string() : DirectoryOf(name);
    return above == folder ? BaseNameOf(name) : std::string();
  };
  std::vector<SideText> texts;
  // Of a companion it is known that its link may be followed. What is no file of that kind says nothing; a disk that
  // fails must not pass for a model that is not quantized.
  const auto add = [&](const std::string& name, const std::string& path, SymbolicLinks links) -> absl::Status {
    if (name != "config.json" && !IsQuantizationFile(name)) return absl::OkStatus();
    auto text = ReadWholeFile(fs, path, limits::kConfigJsonBytes, links);
    if (ExitCodeOf(text.status()) == ExitCode::kIo) return text.status();
    if (text.ok()) texts.push_back({name, path, *std::move(text)});
    return absl::OkStatus();
  };
  for (const CompanionFile& file : content.companions) {
    const std::string name = name_in(file.name);
    if (name == "config.json") Q4_RETURN_IF_ERROR(add(name, file.path, SymbolicLinks::kFollow));
  }
  // Settings of quantizers are never carried (companion_kinds.h).
  for (const LeftOutFile& file : content.left_out) {
    Q4_RETURN_IF_ERROR(
        add(name_in(file.name), JoinPath(DirectoryOf(content.main_file.path), file.name), SymbolicLinks::kRefuse));
  }
  return texts;
}

absl::StatusOr<std::optional<AdapterFolder>> FindAdapterFolder(FileSystem& fs, const std::string& directory) {
  Q4_ASSIGN_OR_RETURN(const std::vector<std::string> names, fs.ListDirectory(directory));
  const auto adapter = std::find_if(names.begin(), names.end(), IsAdapterFile);
  if (adapter == names.end() || std::any_of(names.begin(), names.end(), IsModelWeights)) return std::nullopt;
  AdapterFolder folder;
  Foreign& foreign = folder.foreign;
  foreign.kind = Foreign::Kind::kAdapter;
  foreign.name = AdapterKindOfType("");
  foreign.file = JoinPath(directory, *adapter);
  foreign.way_out = kAdapterWayOut;
  // The configuration is small and optional; what cannot be read leaves the kind unsaid.
  const std::string config = JoinPath(directory, std::string(kAdapterConfigName));
  if (const auto text = ReadWholeFile(fs, config, limits::kConfigJsonBytes); text.ok()) {
    const auto json = ParseModelJson(*text, config);
    const Json* type = json.ok() ? FindMember(*json, "peft_type") : nullptr;
    if (type != nullptr && type->is_string()) {
      foreign.name = AdapterKindOfType(type->get<std::string>());
      foreign.where = "peft_type " + type->get<std::string>();
    }
  }
  for (const std::string& name : names) {
    if (IsAdapterFile(name) && name.ends_with(".safetensors")) folder.weights = JoinPath(directory, name);
  }
  return folder;
}

absl::StatusOr<std::optional<Foreign>> FindForeign(FileSystem& fs, const CheckpointContent& content,
                                                   const std::vector<std::string>& dequantized,
                                                   std::vector<Note>* notes) {
  // `tensors`: those in the folder, by their names there.
  const auto in_folder = [&](std::string_view folder, const std::vector<SourceTensor>& tensors,
                             const std::string& weights) -> absl::StatusOr<std::optional<Foreign>> {
    if (auto adapter = FindAdapter(tensors, weights)) return adapter;
    std::vector<SideText> texts;
    if (std::find(dequantized.begin(), dequantized.end(), folder) == dequantized.end()) {
      Q4_ASSIGN_OR_RETURN(texts, TextsInFolder(fs, content, folder));
    }
    return FindQuantization(tensors, texts, weights, notes);
  };
  const std::string& weights = content.files.empty() ? content.path : content.files.front().file->path();
  if (content.module_folders.empty()) return in_folder("", content.tensors, weights);
  // A module is loaded from its folder alone, whatever the others say.
  std::map<std::string_view, std::vector<SourceTensor>> folders;
  for (const SourceTensor& tensor : content.tensors) {
    const std::string_view folder = ModuleFolderOf(content.module_folders, tensor.name);
    folders[folder].push_back(tensor);
    if (!folder.empty()) folders[folder].back().name.erase(0, folder.size() + 1);
  }
  for (const auto& [folder, tensors] : folders) {
    const std::string& file = content.files[tensors.front().place().file].file->path();
    Q4_ASSIGN_OR_RETURN(auto foreign, in_folder(folder, tensors, file));
    if (foreign) return foreign;
  }
  return std::nullopt;
}

}  // namespace q4
