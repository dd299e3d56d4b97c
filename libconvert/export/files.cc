// The layout is complete before a byte is written: every piece then has one place, so pieces may be made in any order
// and by any thread, and the files are the same. Steps: check that names are unique, cut the targets into files at
// group ends, let formats/exchange lay out each file, then write heads and pieces.
#include "libconvert/export/files.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "fmt/format.h"
#include "formats/base/json_value.h"
#include "formats/base/limits.h"
#include "formats/exchange/safetensors_writer.h"
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

// The index after the last target of the group that `first` belongs to.
// A loader wants the parts of a weight in one file, so files are cut between groups only.
std::size_t GroupEnd(const std::vector<ExportTensor>& targets, std::size_t first) {
  std::size_t end = first;
  while (end < targets.size() && targets[end].group == targets[first].group) ++end;
  return end;
}

// Where each file's targets end. Greedy: a group goes into the open file if it fits.
std::vector<std::size_t> CutIntoFiles(const std::vector<ExportTensor>& targets, std::uint64_t shard_bytes) {
  std::vector<std::size_t> ends;
  // Of the tensors in the file that is being filled.
  std::uint64_t open_bytes = 0;
  for (std::size_t first = 0; first < targets.size();) {
    const std::size_t end = GroupEnd(targets, first);
    std::uint64_t group_bytes = 0;
    for (std::size_t i = first; i < end; ++i) group_bytes += targets[i].bytes;
    // The second condition: a group that is larger than the limit still needs a file. It has one of its own.
    if (shard_bytes != 0 && open_bytes != 0 && open_bytes + group_bytes > shard_bytes) {
      ends.push_back(first);
      open_bytes = 0;
    }
    open_bytes += group_bytes;
    first = end;
  }
  ends.push_back(targets.size());
  return ends;
}

std::string WeightFileName(std::size_t file, std::size_t count, std::string_view stem = "model") {
  return count == 1 ? fmt::format("{}.safetensors", stem)
                    : fmt::format("{}-{:05}-of-{:05}.safetensors", stem, file + 1, count);
}

}  // namespace

absl::StatusOr<WeightLayout> LayOutWeights(const std::vector<ExportTensor>& targets, std::uint64_t shard_bytes,
                                           std::string_view more_metadata) {
  Q4_RETURN_IF_ERROR(CheckNamesAreUnique(targets));
  const std::vector<std::size_t> ends = CutIntoFiles(targets, shard_bytes);
  if (ends.size() > limits::kShards) {
    return Fail(kExportShards, {}, "--shard-size",
                GotExpected(fmt::to_string(ends.size()), fmt::format("at most {}", limits::kShards)));
  }
  WeightLayout layout;
  layout.places.resize(targets.size());
  std::size_t first = 0;
  for (std::size_t file = 0; file < ends.size(); ++file) {
    std::vector<SafetensorsTensor> tensors;
    for (std::size_t i = first; i < ends[file]; ++i) {
      tensors.push_back({targets[i].name, targets[i].dtype, targets[i].shape});
    }
    // Inside a file tensors lie in the order that save_pretrained gives them, not in that of the targets; hence a place
    // per target.
    Q4_ASSIGN_OR_RETURN(SafetensorsLayout planned, PlanSafetensors(tensors, more_metadata));
    for (std::size_t i = first; i < ends[file]; ++i) {
      layout.places[i] = {static_cast<std::uint32_t>(file), planned.offsets[i - first]};
      layout.tensor_bytes += targets[i].bytes;
    }
    layout.files.push_back({WeightFileName(file, ends.size()), std::move(planned.header), planned.file_bytes});
    first = ends[file];
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
                            std::uint64_t parameters) {
  Json json;
  // The two totals that save_pretrained writes. total_size counts tensor bytes, without headers.
  json["metadata"] = {{"total_parameters", parameters}, {"total_size", layout.tensor_bytes}};
  Json& map = json["weight_map"] = Json::object();
  // Names are known to differ; the object's own insertion would search all of them each time.
  Json::object_t::Container& members = map.get_ref<Json::object_t&>();
  for (std::size_t i = 0; i < targets.size(); ++i) {
    members.emplace_back(targets[i].name, layout.files[layout.places[i].file].name);
  }
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
