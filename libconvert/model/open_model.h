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

// Opens a container, for tools that take nothing else. An error about another kind of file says what it is and which
// tool reads it: kQ4NotAContainer (exit code 3), else the errors of Q4Model::Open(), and of RequireRoot() where a root
// is pinned. `fs` must outlive the result.
absl::StatusOr<std::unique_ptr<Q4Model>> OpenContainer(FileSystem& fs, const std::string& path,
                                                       const std::optional<Sha256>& root = {});

// A model of either kind. Exactly one of `container` and `checkpoint` is set. It owns all open files; tensors that are
// read from it point into it.
struct OpenedModel {
  // As the user gave it, for messages.
  std::string path;
  std::unique_ptr<Q4Model> container;
  std::unique_ptr<Checkpoint> checkpoint;
};

// Opens whatever `path` names: a container, the list of a sharded one, a checkpoint file, a shard index or a model
// directory. The content decides, never the extension. Reads headers and indices alone, no payload. `options` are about
// checkpoints; a container ignores them. Errors: those of Q4Model::Open() and OpenCheckpoint(). `fs` must outlive the
// result.
absl::StatusOr<OpenedModel> OpenModel(FileSystem& fs, const std::string& path, const OpenOptions& options = {});

// What a tool keeps of the model beside its tensors' elements, in bytes, as far as --max-memory counts it: the index,
// and `tensor_bytes` and the name for each tensor.
std::uint64_t IndexMemory(const Q4Model& model, std::uint64_t tensor_bytes);

// All tensors of the model, bytewise sorted by name; those of a bitsandbytes weight are joined to one
// (stored_tensor.h). Of a container nothing is read; of a checkpoint the quant_state texts and tables are. Errors:
// those of TensorsOf(const Checkpoint&). `model` must outlive the result.
absl::StatusOr<std::vector<ReadableTensor>> TensorsOf(const OpenedModel& model);

// The tensor of that name; nullopt if there is none. A binary search in a container, but a checkpoint is listed whole.
// Errors: those of TensorsOf(). `model` must outlive the result.
absl::StatusOr<std::optional<ReadableTensor>> FindTensor(const OpenedModel& model, std::string_view name);

}  // namespace q4
