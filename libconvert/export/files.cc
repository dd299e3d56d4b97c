// The layout is complete before a byte is written: every piece then has one place, so pieces may be made in any order
// and by any thread, and the files are the same. Steps: check that names are unique, sort the targets by folder, cut
// each folder's into files at group ends, let formats/exchange lay out each file, then write heads and pieces.
#include "libconvert/export/files.h"

#include <algorithm>
#include <map>
#include <string_view>
#include <utility>

#include "fmt/format.h"
#include "formats/base/json_value.h"
#include "formats/base/limits.h"
#include "formats/exchange/safetensors_writer.h"
#include "formats/source/modules.h"
#include "libconvert/export/export_issues.h"

namespace q4 {
namespace {

// Over all files: PlanSafetensors() sees the tensors of one file only, and calls a repeated name invalid input. Here
// the input is right, and the format cannot hold it.
absl::Status CheckNamesAreUnique(const std::vector<ExportTensor>& targets) {
  std::vector<std::string_view> names;
  names.reserve(targets.size());
  for (const ExportTensor& target : targets) names.push_back(target.name);
  std::sort(names.begin(), names.end());
  const auto twice = std::adjacent_find(names.begin(), names.end());
  return twice == names.end() ? absl::OkStatus() : Fail(kExportNameCollision, {}, *twice);
}

// Targets of one folder, as indices into those of the layout, in order.
using Numbers = std::vector<std::uint32_t>;

// The index after the last of `numbers` whose target has the group of the one at `first`.
// A loader wants the parts of a weight in one file, so files are cut between groups only.
std::size_t GroupEnd(const std::vector<ExportTensor>& targets, const Numbers& numbers, std::size_t first) {
  std::size_t end = first;
  while (end < numbers.size() && targets[numbers[end]].group == targets[numbers[first]].group) ++end;
  return end;
}

// The targets of each file. Greedy: a group goes into the open file if it fits.
std::vector<Numbers> CutIntoFiles(const std::vector<ExportTensor>& targets, const Numbers& numbers,
                                  std::uint64_t shard_bytes) {
  std::vector<Numbers> files(1);
  // Of the tensors in the file that is being filled.
  std::uint64_t open_bytes = 0;
  for (std::size_t first = 0; first < numbers.size();) {
    const std::size_t end = GroupEnd(targets, numbers, first);
    std::uint64_t group_bytes = 0;
    for (std::size_t i = first; i < end; ++i) group_bytes += targets[numbers[i]].bytes;
    // The second condition: a group that is larger than the limit still needs a file. It has one of its own.
    if (shard_bytes != 0 && open_bytes != 0 && open_bytes + group_bytes > shard_bytes) {
      files.emplace_back();
      open_bytes = 0;
    }
    open_bytes += group_bytes;
    for (; first < end; ++first) files.back().push_back(numbers[first]);
  }
  return files;
}

// The same where it is known in which file each target lies.
std::vector<Numbers> PutIntoFiles(std::span<const std::uint32_t> file_of, const Numbers& numbers) {
  std::map<std::uint32_t, Numbers> by_file;
  for (const std::uint32_t target : numbers) by_file[file_of[target]].push_back(target);
  std::vector<Numbers> files;
  for (auto& [file, in_it] : by_file) files.push_back(std::move(in_it));
  return files;
}

std::string PrefixOf(std::string_view folder) { return folder.empty() ? std::string() : std::string(folder) + "/"; }

std::string WeightFileName(std::size_t file, std::size_t count, std::string_view stem = "model") {
  return count == 1 ? fmt::format("{}.safetensors", stem)
                    : fmt::format("{}-{:05}-of-{:05}.safetensors", stem, file + 1, count);
}

}  // namespace

absl::StatusOr<WeightLayout> LayOutWeights(const std::vector<ExportTensor>& targets,
                                           std::span<const std::string> folders, std::uint64_t shard_bytes,
                                           std::string_view more_metadata, std::span<const std::uint32_t> files) {
  Q4_RETURN_IF_ERROR(CheckNamesAreUnique(targets));
  std::map<std::string_view, Numbers> by_folder;
  for (std::uint32_t i = 0; i < targets.size(); ++i) {
    by_folder[ModuleFolderOf(folders, targets[i].name)].push_back(i);
  }
  // A checkpoint without tensors is a file too.
  if (targets.empty()) by_folder.try_emplace("");
  WeightLayout layout;
  layout.places.resize(targets.size());
  for (const auto& [folder, numbers] : by_folder) {
    const std::string prefix = PrefixOf(folder);
    const std::vector<Numbers> parts =
        files.empty() ? CutIntoFiles(targets, numbers, shard_bytes) : PutIntoFiles(files, numbers);
    if (layout.files.size() + parts.size() > limits::kShards) {
      return Fail(
          kExportShards, {}, "--shard-size",
          GotExpected(fmt::to_string(layout.files.size() + parts.size()), fmt::format("at most {}", limits::kShards)));
    }
    if (parts.size() > 1) layout.indexed_folders.emplace_back(folder);
    for (std::size_t part = 0; part < parts.size(); ++part) {
      std::vector<SafetensorsTensor> tensors;
      for (const std::uint32_t number : parts[part]) {
        const ExportTensor& target = targets[number];
        tensors.push_back({target.name.substr(prefix.size()), target.dtype, target.shape});
      }
      // Inside a file tensors lie in the order that save_pretrained gives them, not in that of the targets; hence a
      // place per target.
      Q4_ASSIGN_OR_RETURN(SafetensorsLayout planned, PlanSafetensors(tensors, more_metadata));
      for (std::size_t i = 0; i < parts[part].size(); ++i) {
        const std::uint32_t number = parts[part][i];
        layout.places[number] = {static_cast<std::uint32_t>(layout.files.size()), planned.offsets[i]};
        layout.tensor_bytes += targets[number].bytes;
      }
      layout.files.push_back(
          {prefix + WeightFileName(part, parts.size()), std::move(planned.header), planned.file_bytes});
    }
  }
  return layout;
}

void NameAsComponent(WeightLayout* layout) {
  constexpr std::string_view kStem = "diffusion_pytorch_model";
  for (std::size_t i = 0; i < layout->files.size(); ++i) {
    layout->files[i].name = WeightFileName(i, layout->files.size(), kStem);
  }
  layout->index_name = fmt::format("{}.safetensors.index.json", kStem);
}

std::string WeightIndexText(const WeightLayout& layout, const std::vector<ExportTensor>& targets,
                            std::string_view folder, std::uint64_t parameters, const std::optional<IndexTotals>& said) {
  const std::string prefix = PrefixOf(folder);
  Json json;
  Json map = Json::object();
  // Names are known to differ; the object's own insertion would search all of them each time.
  Json::object_t& members = map.items();
  std::uint64_t bytes = 0;
  for (std::size_t i = 0; i < targets.size(); ++i) {
    const std::string& file = layout.files[layout.places[i].file].name;
    // The file decides what lies in the folder: a longer folder begins with this one, too.
    if (file.rfind('/') + 1 != prefix.size() || !file.starts_with(prefix)) continue;
    members.emplace_back(targets[i].name.substr(prefix.size()), file.substr(prefix.size()));
    bytes += targets[i].bytes;
  }
  // The two totals that save_pretrained writes. total_size counts tensor bytes, without headers.
  const IndexTotals totals = said.value_or(IndexTotals{bytes, parameters});
  Json& metadata = json["metadata"] = Json::object();
  if (totals.parameters) metadata["total_parameters"] = *totals.parameters;
  if (totals.size) metadata["total_size"] = *totals.size;
  json["weight_map"] = std::move(map);
  return DumpSorted(json) + "\n";
}

WeightWriter::WeightWriter(const WeightLayout* layout, const std::vector<WritableFile*>& files) : layout_(*layout) {
  for (WritableFile* file : files) {
    outputs_.push_back(std::make_unique<Output>());
    outputs_.back()->file = file;
  }
}

absl::Status WeightWriter::Begin() {
  for (std::size_t i = 0; i < outputs_.size(); ++i) {
    WritableFile& file = *outputs_[i]->file;
    const std::string& head = layout_.files[i].head;
    // A disk that is too small is noticed now, before the long work.
    Q4_RETURN_IF_ERROR(file.Reserve(layout_.files[i].bytes));
    Q4_RETURN_IF_ERROR(file.WriteAt(0, {reinterpret_cast<const std::uint8_t*>(head.data()), head.size()}));
  }
  return absl::OkStatus();
}

// The lock is per file: with one file, threads take turns in writing but still make their pieces side by side.
absl::Status WeightWriter::Write(std::uint32_t target, std::uint64_t offset, std::span<const std::uint8_t> bytes) {
  const WeightLayout::Place& place = layout_.places[target];
  Output& output = *outputs_[place.file];
  const std::scoped_lock lock(output.mutex);
  Q4_RETURN_IF_ERROR(output.file->WriteAt(place.offset + offset, bytes));
  // Otherwise all dirty pages wait for the final Sync(), and the disk idles until then.
  output.file->StartWriteback(place.offset + offset, bytes.size());
  return absl::OkStatus();
}

}  // namespace q4
