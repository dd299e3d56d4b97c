// Pipelines of diffusers: a folder with model_index.json, whose components (transformer, vae, text_encoder, ...) are
// folders with weights of their own. Each component is a checkpoint; the pipeline is none.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "formats/base/file.h"

namespace q4 {

// Whether `path` is a pipeline: a folder in which model_index.json lies, or that file itself. Then it is its folder,
// else "". Errors: I/O.
absl::StatusOr<std::string> PipelineFolder(FileSystem& fs, const std::string& path);

// Whether a file of the folder looks like weights of a format that is read: whether they are is the next question.
absl::StatusOr<bool> HoldsWeights(FileSystem& fs, const std::string& directory);

// Fails with kPipeline (exit code 5) if `directory` holds model_index.json, naming the components that can be opened
// one by one: the folders that it lists in which weights lie. A model_index.json that cannot be read names none. Other
// errors: I/O (2).
absl::Status RefusePipeline(FileSystem& fs, const std::string& directory);

}  // namespace q4
