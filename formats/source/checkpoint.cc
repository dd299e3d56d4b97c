// What an opened checkpoint answers; open_checkpoint.cc makes one. Everything was validated then, so only the range of
// a read is checked here: it comes from a caller. The tensors keep their payload order, in which a conversion reads
// them; a second list orders their numbers by name for Find().
#include "formats/source/checkpoint.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "formats/base/base_issues.h"
#include "formats/base/checked_math.h"
#include "formats/base/limits.h"
#include "formats/base/status.h"
#include "formats/base/text.h"
#include "formats/source/checkpoint_issues.h"

namespace q4 {
namespace {

constexpr char kConfigName[] = "config.json";

absl::StatusOr<std::string> ReadConfig(FileSystem& fs, const CompanionFile& companion, std::uint64_t limit) {
  // All of what replaces a text is its head.
  if (companion.range && companion.range->head.size() <= limit) return companion.range->head;
  Q4_ASSIGN_OR_RETURN(std::string text, ReadWholeFile(fs, companion.path, limit));
  // It would pass for a model without one; no loader takes it.
  if (text.empty()) return Fail(kJsonSyntax, companion.path, AtOffset(0), "the file is empty");
  return text;
}

}  // namespace

Checkpoint::Checkpoint(CheckpointContent content) : content_(std::move(content)), by_name_(content_.tensors.size()) {
  std::iota(by_name_.begin(), by_name_.end(), 0u);
  std::sort(by_name_.begin(), by_name_.end(),
            [this](std::uint32_t a, std::uint32_t b) { return content_.tensors[a].name < content_.tensors[b].name; });
}

std::vector<InputFile> Checkpoint::inputs() const {
  std::vector<InputFile> inputs = {{content_.main_file.path, content_.main_file.identity}};
  for (const CheckpointFile& file : content_.files) inputs.push_back({file.file->path(), file.file->identity()});
  for (const CompanionFile& companion : content_.companions) inputs.push_back({companion.path, companion.identity});
  return inputs;
}

const SourceTensor* Checkpoint::Find(std::string_view name) const {
  // Names are unique, so the first that is not smaller is the tensor or there is none.
  const auto at = std::lower_bound(by_name_.begin(), by_name_.end(), name, [this](std::uint32_t i, std::string_view n) {
    return content_.tensors[i].name < n;
  });
  return at != by_name_.end() && content_.tensors[*at].name == name ? &content_.tensors[*at] : nullptr;
}

absl::Status Checkpoint::Read(const SourceTensor& tensor, std::uint64_t begin, std::span<std::uint8_t> out) const {
  return ReadExtent(tensor, 0, begin, out);
}

absl::Status Checkpoint::ReadExtent(const SourceTensor& tensor, std::size_t extent, std::uint64_t begin,
                                    std::span<std::uint8_t> out) const {
  const SourceExtent& stored = tensor.extents[extent];
  // Without the check a read would go on into the next tensor of the file, unnoticed.
  if (!RangeFits(begin, out.size(), stored.bytes)) return Fail(kReadOutsideTensor, content_.path, tensor.name);
  return content_.files[stored.file].file->ReadAt(stored.offset + begin, out);
}

absl::StatusOr<std::string> Checkpoint::ConfigJson(FileSystem& fs) const {
  for (const CompanionFile& companion : content_.companions) {
    // The limit is that of JSON which is parsed into a value; as a companion the file could be larger.
    if (companion.name == kConfigName) return ReadConfig(fs, companion, limits::kConfigJsonBytes);
  }
  return std::string();
}

absl::StatusOr<ModelConfigs> Checkpoint::Configs(FileSystem& fs) const {
  ModelConfigs configs;
  Q4_ASSIGN_OR_RETURN(configs.root, ConfigJson(fs));
  configs.format = content_.names_format.empty() ? content_.format : content_.names_format;
  configs.folders = content_.module_folders;
  std::uint64_t left = limits::kConfigJsonBytes;
  for (const std::string& folder : configs.folders) {
    std::string& text = configs.texts.emplace_back();
    for (const CompanionFile& companion : content_.companions) {
      if (companion.name != folder + "/" + kConfigName) continue;
      Q4_ASSIGN_OR_RETURN(text, ReadConfig(fs, companion, left));
      left -= text.size();
    }
  }
  return configs;
}

absl::Status Checkpoint::CheckUnchanged() const {
  for (const CheckpointFile& file : content_.files) Q4_RETURN_IF_ERROR(file.file->CheckUnchanged());
  return absl::OkStatus();
}

}  // namespace q4
