// Weights that are stored quantized and have a reader (formats/logical), put into a checkpoint as what they stand for.
// Internal to this wing.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/base/file.h"
#include "formats/source/checkpoint.h"

namespace q4 {

// For a checkpoint that is complete but for foreign(): in each folder whose weights are floats of 8 or 4 bits, by a
// method that is read (QuantMethod::reads_fp8, reads_f4), they and their scales become plain tensors, and the sections
// that describe how they
// are stored leave config.json and params.json (CompanionFile::range). What goes is added to `left_out`, what was done
// to `notes`. Returns the folders, "" for the model's own. Errors: those of ReadFp8Tensors() and ReadFp8Section(); I/O.
absl::StatusOr<std::vector<std::string>> ReadDequantized(FileSystem& fs, CheckpointContent* content);

}  // namespace q4
