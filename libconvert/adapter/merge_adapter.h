// --adapter: a LoRA of PEFT merged into a model's weights while they are read, as merge_and_unload() would. What comes
// out is a checkpoint like any other, whose changed tensors are SourceRecipe::kMerged.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "formats/base/file.h"
#include "formats/source/checkpoint.h"

namespace q4 {

// `base` with the adapter of `directory` (adapter_config.json, and adapter_model.safetensors or else
// adapter_model.bin), whose files become the last of files(). Every tensor of the adapter finds its place, or there is
// an error: none is passed over. Reads configurations and headers, no payload. Of `options` only follow_symlinks is
// asked, as for a model's folder. `base` may end before the result does; `fs` must outlive both.
//
// Names are those that modules have in memory, where transformers puts the base's tensors (ModuleNames); a base model
// saved without its prefix ("model.", "transformer."), or an adapter, is met by the only name that differs by it. What
// is added to an output head that shares the embedding's weight is added to that, as PEFT does; one that the adapter
// brings whole becomes a tensor of its own, and config.json no longer says that they are shared.
//
// Errors: those of adapter_issues.h; kAlreadyQuantized and kIsAdapter for a base that is foreign(); those of the
// readers of its files; I/O.
absl::StatusOr<std::unique_ptr<Checkpoint>> MergeAdapter(FileSystem& fs, const Checkpoint& base,
                                                         const std::string& directory, const OpenOptions& options);

}  // namespace q4
