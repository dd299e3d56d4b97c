// A model that is read back, of either kind: what a path names, opened.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/base/file.h"
#include "formats/q4/reader.h"
#include "formats/source/checkpoint.h"
#include "libconvert/model/stored_tensor.h"

namespace q4 {

// Whether `path` is a .q4 container or the list of a sharded one, by its first bytes; anything else is left to the
// checkpoint readers. Error: the path cannot be read.
absl::StatusOr<bool> IsQ4Container(FileSystem& fs, const std::string& path);

// Exactly one of the two is set.
struct OpenedModel {
  std::string path;  // as it was given
  std::unique_ptr<Q4Model> container;
  std::unique_ptr<Checkpoint> checkpoint;
};

// Opens whatever `path` is. The content decides, never the extension. `options` are about checkpoints. Errors: those of
// Q4Model::Open() and OpenCheckpoint().
absl::StatusOr<OpenedModel> OpenModel(FileSystem& fs, const std::string& path, const OpenOptions& options = {});

// Its tensors, bytewise sorted by name, those of bitsandbytes weights joined (stored_tensor.h). `model` must outlive
// the result.
absl::StatusOr<std::vector<ReadableTensor>> TensorsOf(const OpenedModel& model);

// The one of that name, if there is one. Errors: those of TensorsOf().
absl::StatusOr<std::optional<ReadableTensor>> FindTensor(const OpenedModel& model, std::string_view name);

}  // namespace q4
