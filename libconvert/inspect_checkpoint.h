// The part of InspectModel() that reads checkpoints. Internal to libconvert/inspect*.cc.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "formats/base/file.h"
#include "formats/checkpoint.h"
#include "libconvert/inspect.h"

namespace q4 {

// Of a safetensors checkpoint: its tensors. Of one in the bitsandbytes layout: its weights, each with the bytes of the
// tensors that belong to it, which are not listed themselves.
absl::StatusOr<InspectReport> InspectCheckpoint(FileSystem& fs, const std::string& path, const OpenOptions& options);

// What follows from the list of tensors: order, totals, treatments.
void SumUpTensors(InspectReport* report);

// Architecture and model type from the text of a config.json; does nothing if they are not there.
void ReadModelNames(const std::string& config_text, const std::string& path, InspectReport* report);

}  // namespace q4
