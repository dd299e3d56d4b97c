// Folder by folder, as its loader would: which method, by configuration and tensors; then the tensors; then the texts.
#include "formats/source/dequantized.h"

#include <algorithm>
#include <iterator>
#include <map>
#include <optional>
#include <set>
#include <tuple>
#include <utility>

#include "fmt/format.h"
#include "formats/base/counted.h"
#include "formats/base/json_edit.h"
#include "formats/base/json_value.h"
#include "formats/base/limits.h"
#include "formats/base/status.h"
#include "formats/base/text.h"
#include "formats/folder/quant_methods.h"
#include "formats/logical/fp4.h"
#include "formats/logical/fp8.h"
#include "formats/source/foreign_files.h"

namespace q4 {
namespace {

bool HoldsFp8(const std::vector<SourceTensor>& tensors) {
  return std::any_of(tensors.begin(), tensors.end(), [](const SourceTensor& t) { return IsFp8(t.dtype); });
}

bool MayBeRead(const std::vector<SourceTensor>& tensors) { return HoldsFp8(tensors) || MayHoldF4(tensors); }

// `part` of a configuration without its member `key`.
Json Without(const Json& part, std::string_view key) {
  Json rest = Json::object();
  for (const auto& [name, value] : part.items()) {
    if (name != key) rest.items().emplace_back(name, value);
  }
  return rest;
}

// What describes how weights are stored leaves the text. At the top every other byte stays; a part that holds such a
// member is written anew.
std::vector<JsonEdit> EditsOf(const Json& config) {
  std::vector<JsonEdit> edits;
  std::map<std::string, Json> parts;
  for (const QuantSection& section : QuantSections(config)) {
    if (section.part.empty()) {
      edits.push_back({section.key, std::nullopt});
      continue;
    }
    const auto at = parts.try_emplace(section.part, *FindMember(config, section.part.c_str())).first;
    at->second = Without(at->second, section.key);
  }
  for (auto& [name, value] : parts) edits.push_back({name, std::move(value)});
  return edits;
}

// Mistral's own configuration: how its weights are quantized.
std::vector<JsonEdit> EditsOfParams(const Json& params) {
  const Json* section = FindMember(params, "quantization");
  if (section == nullptr || FindMember(*section, "qformat_weight") == nullptr) return {};
  return {{"quantization", std::nullopt}};
}

class Dequantizing {
 public:
  Dequantizing(FileSystem& fs, CheckpointContent* content) : fs_(fs), content_(*content) {}

  absl::StatusOr<std::vector<std::string>> Run() {
    if (!MayBeRead(content_.tensors)) return std::move(read_);
    if (content_.module_folders.empty()) {
      Q4_RETURN_IF_ERROR(ReadFolder("", &content_.tensors));
    } else {
      Q4_RETURN_IF_ERROR(ReadFolders());
    }
    for (const std::string& format : four_bits_)
      content_.four_bits += (content_.four_bits.empty() ? "" : ", ") + format;
    std::vector<LeftOutFile> gone = left_out_.Take();
    std::move(gone.begin(), gone.end(), std::back_inserter(content_.left_out));
    return std::move(read_);
  }

 private:
  absl::Status ReadFolders() {
    std::map<std::string, std::vector<SourceTensor>> folders;
    for (SourceTensor& tensor : content_.tensors) {
      folders[std::string(ModuleFolderOf(content_.module_folders, tensor.name))].push_back(std::move(tensor));
    }
    content_.tensors.clear();
    for (auto& [folder, tensors] : folders) {
      Q4_RETURN_IF_ERROR(ReadFolder(folder, &tensors));
      std::move(tensors.begin(), tensors.end(), std::back_inserter(content_.tensors));
    }
    const auto place = [](const SourceTensor& tensor) { return std::pair(tensor.place().file, tensor.place().offset); };
    std::stable_sort(content_.tensors.begin(), content_.tensors.end(),
                     [&](const SourceTensor& a, const SourceTensor& b) { return place(a) < place(b); });
    return absl::OkStatus();
  }

  absl::Status ReadFolder(const std::string& folder, std::vector<SourceTensor>* tensors) {
    if (!MayBeRead(*tensors)) return absl::OkStatus();
    Q4_ASSIGN_OR_RETURN(const std::vector<SideText> texts, TextsInFolder(fs_, content_, folder));
    const QuantMethod* method = ClaimedMethod(texts);
    Fp8Section section;
    section.claimed = method != nullptr;
    section.rounds_to_scale = method == &QuantMethodNamed("compressed-tensors");
    std::vector<JsonEdit> edits;
    std::vector<Claimed> claimed;
    std::optional<Json> config;
    for (const SideText& text : texts) {
      if (text.name != "config.json") continue;
      absl::StatusOr<Json> json = ParseModelJson(text.text, text.path);
      if (!json.ok()) continue;  // who needs it says so
      config = *std::move(json);
      section.dtype = ModelDType(*config);
      if (method == nullptr) break;
      for (const QuantSection& found : QuantSections(*config)) {
        claimed.push_back({found.value, text.path, found.part.empty() ? found.key : found.part + "." + found.key});
      }
      edits = EditsOf(*config);
      break;
    }
    const std::string where = folder.empty() ? "" : Printable(folder) + ": ";
    bool any = false;
    if (method == nullptr || method->reads_f4) Q4_RETURN_IF_ERROR(ReadF4(where, section.dtype, claimed, tensors, &any));
    if (method == nullptr || method->reads_fp8) Q4_RETURN_IF_ERROR(ReadFp8(where, claimed, &section, tensors, &any));
    if (!any) return absl::OkStatus();  // FindForeign() names the method
    const std::string prefix = folder.empty() ? std::string() : folder + "/";
    Q4_RETURN_IF_ERROR(Edit(prefix + "config.json", [&](const Json&) { return edits; }));
    Q4_RETURN_IF_ERROR(Edit(prefix + "params.json", EditsOfParams));
    read_.push_back(folder);
    return absl::OkStatus();
  }

  // A section of a configuration that names the method.
  struct Claimed {
    const Json* section = nullptr;
    std::string file, place;
  };

  std::string PathOf(const SourceTensor& tensor) const { return content_.files[tensor.place().file].file->path(); }

  absl::Status ReadF4(const std::string& where, DType dtype, const std::vector<Claimed>& claimed,
                      std::vector<SourceTensor>* tensors, bool* any) {
    if (!MayHoldF4(*tensors)) return absl::OkStatus();
    const auto path_of = [this](const SourceTensor& t) { return PathOf(t); };
    Fp4Result result;
    Q4_RETURN_IF_ERROR(ReadF4Tensors(dtype, path_of, tensors, &left_out_, &result));
    for (const auto& [format, count] : {std::pair("MXFP4", result.mxfp4), std::pair("NVFP4", result.nvfp4)}) {
      if (count == 0) continue;
      for (const Claimed& said : claimed) Q4_RETURN_IF_ERROR(CheckF4Section(*said.section, said.file, said.place));
      content_.notes.push_back({false, fmt::format("{}{} stored as {}, read as {}: each code times its scales", where,
                                                   Counted(count, "tensor"), format, DTypeName(dtype))});
      four_bits_.insert(format);
      *any = true;
    }
    return absl::OkStatus();
  }

  absl::Status ReadFp8(const std::string& where, const std::vector<Claimed>& claimed, Fp8Section* section,
                       std::vector<SourceTensor>* tensors, bool* any) {
    if (!HoldsFp8(*tensors)) return absl::OkStatus();
    const QuantMethod* seen = FindQuantTensors(*tensors).method;
    if (seen != nullptr && !seen->reads_fp8_tensors) return absl::OkStatus();
    for (const Claimed& said : claimed) {
      Q4_RETURN_IF_ERROR(ReadFp8Section(*said.section, said.file, said.place, section));
    }
    const auto path_of = [this](const SourceTensor& t) { return PathOf(t); };
    Fp8Result result;
    Q4_RETURN_IF_ERROR(ReadFp8Tensors(*section, path_of, tensors, &left_out_, &result));
    if (result.scaled + result.unscaled == 0) return absl::OkStatus();
    content_.notes.push_back(
        {false, fmt::format("{}{} stored as 8-bit floats, read as {}: {}", where,
                            Counted(result.scaled + result.unscaled, "tensor"), DTypeName(section->dtype),
                            result.scaled != 0 ? "each times its scale" : "the values that they are")});
    *any = true;
    return absl::OkStatus();
  }

  // Carries a companion, if it is there, with the edits that `edits_of` makes of it.
  template <typename EditsOfJson>
  absl::Status Edit(const std::string& name, EditsOfJson edits_of) {
    for (CompanionFile& companion : content_.companions) {
      if (companion.name != name || companion.size > limits::kConfigJsonBytes) continue;
      Q4_ASSIGN_OR_RETURN(const std::string text, ReadWholeFile(fs_, companion.path, limits::kConfigJsonBytes));
      const absl::StatusOr<Json> json = ParseModelJson(text, companion.path);
      const std::vector<JsonEdit> edits = json.ok() ? edits_of(*json) : std::vector<JsonEdit>();
      if (edits.empty()) continue;
      Q4_ASSIGN_OR_RETURN(std::string edited, EditJson(text, companion.path, edits));
      companion.size = edited.size();
      companion.range = CompanionRange{std::move(edited), 0, 0};
      std::string keys;
      for (const JsonEdit& edit : edits) keys += (keys.empty() ? "" : ", ") + edit.key;
      content_.left_out.push_back(
          {Printable(name) + ": " + keys, "it says how the weights were quantized, which are read dequantized", false});
    }
    return absl::OkStatus();
  }

  FileSystem& fs_;
  CheckpointContent& content_;
  LeftOutList left_out_;
  std::vector<std::string> read_;
  std::set<std::string> four_bits_;  // formats that were read
};

}  // namespace

absl::StatusOr<std::vector<std::string>> ReadDequantized(FileSystem& fs, CheckpointContent* content) {
  return Dequantizing(fs, content).Run();
}

}  // namespace q4
