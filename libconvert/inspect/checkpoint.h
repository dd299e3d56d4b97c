// The part of InspectModel() that reads checkpoints.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "formats/base/file.h"
#include "formats/source/checkpoint.h"
#include "libconvert/inspect/inspect.h"

namespace q4 {

// Of a safetensors checkpoint: its tensors. Of one in the bitsandbytes layout: its weights, each with the bytes of the
// tensors that belong to it, which are not listed themselves.
absl::StatusOr<InspectReport> InspectCheckpoint(FileSystem& fs, const Checkpoint& checkpoint);

// What follows from the list of tensors of a checkpoint: order, totals, treatments.
void SumUpTensors(InspectReport* report);

// Architecture and model type from the text of a config.json (model/names.h).
void SetModelNames(std::string_view config_json, InspectReport* report);

}  // namespace q4
