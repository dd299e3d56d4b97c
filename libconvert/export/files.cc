// The layout is complete before a byte is written: every piece then has one place, so pieces may be made in any order
// and by any thread, and the files are the same.
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

absl::Status CheckNamesAreUnique(const std::vector<ExportTensor>& targets) {
  std::vector<std::string_view> names;
  names.reserve(targets.size());
  for (const ExportTensor& target : targets) names.push_back(target.name);
  std::sort(names.begin(), names.end());
  const auto twice = std::adjacent_find(names.begin(), names.end());
  return twice == names.end() ? absl::OkStatus() : Fail(kExportNameCollision, {}, *twice);
}

// The index after the last target of the group that `first` belongs to.
std::size_t GroupEnd(const std::vector<ExportTensor>& targets, std::size_t first) {
  std::size_t end = first;
  while (end < targets.size() && targets[end].group == targets[first].group) ++end;
  return end;
}

// Where each file's targets end. Greedy: a group goes into the open file if it fits.
std::vector<std::size_t> CutIntoFiles(const std::vector<ExportTensor>& targets, std::uint64_t shard_bytes) {
  std::vector<std::size_t> ends;
  std::uint64_t open_bytes = 0;
  for (std::size_t first = 0; first < targets.size();) {
    const std::size_t end = GroupEnd(targets, first);
    std::uint64_t group_bytes = 0;
    for (std::size_t i = first; i < end; ++i) group_bytes += targets[i].bytes;
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

std::string WeightFileName(std::size_t file, std::size_t count) {
  return count == 1 ? "model.safetensors" : fmt::format("model-{:05}-of-{:05}.safetensors", file + 1, count);
}

}  // namespace

bool IsWeightFileName(std::string_view name) {
  constexpr std::string_view kPattern = "model-#####-of-#####.safetensors";
  if (name == WeightFileName(0, 1)) return true;
  return std::equal(name.begin(), name.end(), kPattern.begin(), kPattern.end(), [](char got, char expected) {
    return expected == '#' ? got >= '0' && got <= '9' : got == expected;
  });
}

absl::StatusOr<WeightLayout> LayOutWeights(const std::vector<ExportTensor>& targets, std::uint64_t shard_bytes) {
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
    Q4_ASSIGN_OR_RETURN(SafetensorsLayout planned, PlanSafetensors(tensors));
    for (std::size_t i = first; i < ends[file]; ++i) {
      layout.places[i] = {static_cast<std::uint32_t>(file), planned.offsets[i - first]};
      layout.tensor_bytes += targets[i].bytes;
    }
    layout.files.push_back({WeightFileName(file, ends.size()), std::move(planned.header), planned.file_bytes});
    first = ends[file];
  }
  return layout;
}

std::string WeightIndexText(const WeightLayout& layout, const std::vector<ExportTensor>& targets,
                            std::uint64_t parameters) {
  Json json;
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
    Q4_RETURN_IF_ERROR(file.Reserve(layout_.files[i].bytes));
    Q4_RETURN_IF_ERROR(file.WriteAt(0, {reinterpret_cast<const std::uint8_t*>(head.data()), head.size()}));
  }
  return absl::OkStatus();
}

absl::Status WeightWriter::Write(std::uint32_t target, std::uint64_t offset, std::span<const std::uint8_t> bytes) {
  const WeightLayout::Place& place = layout_.places[target];
  Output& output = *outputs_[place.file];
  const std::scoped_lock lock(output.mutex);
  Q4_RETURN_IF_ERROR(output.file->WriteAt(place.offset + offset, bytes));
  output.file->StartWriteback(place.offset + offset, bytes.size());
  return absl::OkStatus();
}

}  // namespace q4
