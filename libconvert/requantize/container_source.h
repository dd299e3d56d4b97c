// A container as a source: its quantized tensors decoded to the type that they had before, kept ones and embedded files
// as they are. What is quantized of it has the errors of both quantizations, for which the user is asked for leave
// (ConvertOptions::from_quantized); without it a container is packed anew (libconvert/repack).
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "formats/base/file.h"
#include "formats/q4/reader.h"
#include "formats/source/checkpoint.h"

namespace q4 {

// `model` as a checkpoint, of format "q4" or "q4-sharded": files() are the container's, elements are decoded as they
// are read, companions are its embedded files; of weights that were taken over from bitsandbytes config.json loses its
// quantization_config. parent() names the container, and the first document of provenance in its line. Configurations
// are those of ReadModelConfigs(*model). `fs` must outlive the result, which holds `model`.
//
// Errors: those of ReadModelConfigs() and ParseModelJson(), and of opening the files once more. Reading elements: those
// of Q4Reader::ReadChunk(), kQ4ScaleValue (exit code 6).
absl::StatusOr<std::unique_ptr<Checkpoint>> OpenContainerSource(FileSystem& fs, std::shared_ptr<const Q4Model> model);

// Whether `model` was made of a container so, and not of a checkpoint or by packing one anew alone: then a container is
// what it is verified against. Errors: those of ReadProvenance().
absl::StatusOr<bool> IsRequantized(const Q4Model& model);

}  // namespace q4
