// The side of InspectModel() that reads checkpoints, and what it shares with the side that reads containers
// (inspect.cc). Internal to this wing.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "formats/base/file.h"
#include "formats/source/checkpoint.h"
#include "libconvert/inspect/inspect.h"

namespace q4 {

// Describes a checkpoint from its headers. Of one without bitsandbytes weights: its tensors as they are. Of one with
// such weights: each weight as one quantized tensor, with the bytes of all tensors that belong to it, which are not
// listed themselves. `fs` is where config.json is read from; one that cannot be read leaves the names empty. The
// report's `path` is left to the caller. Error: a quant_state text that cannot be read.
absl::StatusOr<InspectReport> InspectCheckpoint(FileSystem& fs, const Checkpoint& checkpoint);

// Sorts the report's tensors by name and computes what follows from their list: totals and treatments. REQUIRES: these
// fields are empty before.
void SumUpTensors(InspectReport* report);

// Sets architecture and model type from the text of a config.json (model/names.h), which is not trusted.
void SetModelNames(std::string_view config_json, InspectReport* report);

// Sets architecture and name from the key-values of a GGUF file, or of what a container carries of one. Leaves them
// alone where that is none.
void SetGgufNames(const RandomAccessFile& file, InspectReport* report);
void SetGgufNames(std::string_view embedded, InspectReport* report);

}  // namespace q4
