#include "formats/source/checkpoint.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "formats/base/checked_math.h"
#include "formats/base/limits.h"
#include "formats/base/status.h"
#include "formats/source/checkpoint_issues.h"

namespace q4 {

Checkpoint::Checkpoint(std::string path, std::string format, std::vector<CheckpointFile> files,
                       std::vector<SourceTensor> tensors, std::vector<CompanionFile> companions)
    : path_(std::move(path)),
      format_(std::move(format)),
      files_(std::move(files)),
      tensors_(std::move(tensors)),
      companions_(std::move(companions)),
      by_name_(tensors_.size()) {
  std::iota(by_name_.begin(), by_name_.end(), 0u);
  std::sort(by_name_.begin(), by_name_.end(),
            [this](std::uint32_t a, std::uint32_t b) { return tensors_[a].name < tensors_[b].name; });
}

const SourceTensor* Checkpoint::Find(std::string_view name) const {
  const auto at = std::lower_bound(by_name_.begin(), by_name_.end(), name,
                                   [this](std::uint32_t i, std::string_view n) { return tensors_[i].name < n; });
  return at != by_name_.end() && tensors_[*at].name == name ? &tensors_[*at] : nullptr;
}

absl::Status Checkpoint::Read(const SourceTensor& tensor, std::uint64_t begin, std::span<std::uint8_t> out) const {
  const SourceExtent& stored = tensor.place();
  if (!RangeFits(begin, out.size(), stored.bytes)) return Fail(kReadOutsideTensor, path_, tensor.name);
  return files_[stored.file].file->ReadAt(stored.offset + begin, out);
}

absl::StatusOr<std::string> Checkpoint::ConfigJson(FileSystem& fs) const {
  for (const CompanionFile& companion : companions_) {
    if (companion.name == "config.json") return ReadWholeFile(fs, companion.path, limits::kConfigJsonBytes);
  }
  return std::string();
}

absl::Status Checkpoint::CheckUnchanged() const {
  for (const CheckpointFile& file : files_) Q4_RETURN_IF_ERROR(file.file->CheckUnchanged());
  return absl::OkStatus();
}

}  // namespace q4
