// The rules that readers of checkpoints check: safetensors (310x to 312x), what a file really is (313x), the shard
// index (314x), model directories and companions (316x), and what is well-formed but not read (51xx).
#pragma once

#include "formats/base/status.h"

namespace q4 {

// A safetensors file.
inline constexpr Issue kStHeaderTooSmall{3101, ExitCode::kInvalidInput, "header too small"};
inline constexpr Issue kStHeaderEmpty{3102, ExitCode::kInvalidInput, "header empty"};
inline constexpr Issue kStHeaderExceedsFile{3103, ExitCode::kInvalidInput, "header length exceeds the file"};
inline constexpr Issue kStHeaderTooLarge{3104, ExitCode::kInvalidInput, "header length above the limit"};
inline constexpr Issue kTooManyTensors{3105, ExitCode::kInvalidInput, "more tensors than the limit"};
inline constexpr Issue kStNotAnObject{3106, ExitCode::kInvalidInput, "header must be a JSON object"};
inline constexpr Issue kStEntry{3107, ExitCode::kInvalidInput,
                                "tensor entry must be an object of dtype, shape and data_offsets"};
inline constexpr Issue kTensorName{3108, ExitCode::kInvalidInput, "tensor name must be 1 to 4096 bytes without NUL"};
inline constexpr Issue kDuplicateTensor{3109, ExitCode::kInvalidInput, "duplicate tensor name"};
inline constexpr Issue kStDType{3110, ExitCode::kInvalidInput, "unknown dtype"};
inline constexpr Issue kStShape{3111, ExitCode::kInvalidInput, "shape must be a list of unsigned integers"};
inline constexpr Issue kTooManyDimensions{3112, ExitCode::kInvalidInput, "more dimensions than the limit"};
inline constexpr Issue kTensorTooLarge{3113, ExitCode::kInvalidInput, "size overflow: more elements than the limit"};
inline constexpr Issue kStOffsets{3114, ExitCode::kInvalidInput,
                                  "bad data_offsets: must be two unsigned integers, begin and end"};
inline constexpr Issue kStSizeMismatch{3115, ExitCode::kInvalidInput, "byte size differs from shape and dtype"};
inline constexpr Issue kStOverlap{3116, ExitCode::kInvalidInput, "data overlaps that of another tensor"};
inline constexpr Issue kStHole{3117, ExitCode::kInvalidInput, "hole in the data before the tensor"};
inline constexpr Issue kStTrailingData{3118, ExitCode::kInvalidInput, "trailing data after the last tensor"};
inline constexpr Issue kStDataEndsEarly{3119, ExitCode::kInvalidInput, "data ends early"};
inline constexpr Issue kStMetadata{3120, ExitCode::kInvalidInput, "__metadata__ must be one object of strings"};
inline constexpr Issue kStMetadataTooLarge{3121, ExitCode::kInvalidInput, "__metadata__ larger than the limit"};
inline constexpr Issue kNoTensors{3122, ExitCode::kInvalidInput, "the checkpoint holds no tensors"};

// What a file is instead of a checkpoint.
inline constexpr Issue kNotACheckpoint{3130, ExitCode::kInvalidInput, "not a checkpoint"};

// A shard index.
inline constexpr Issue kIndexForm{3140, ExitCode::kInvalidInput,
                                  "shard index must be an object of weight_map and, optionally, metadata"};
inline constexpr Issue kIndexShardName{3141, ExitCode::kInvalidInput, "shard must be a plain file name"};
inline constexpr Issue kTooManyShards{3142, ExitCode::kInvalidInput, "more shards than the limit"};
inline constexpr Issue kShardMissing{3143, ExitCode::kInvalidInput, "shard is missing"};
inline constexpr Issue kNotAShard{3144, ExitCode::kInvalidInput, "not a checkpoint shard"};
inline constexpr Issue kIndexMismatch{3145, ExitCode::kInvalidInput, "tensor is not in the shard that the index names"};
inline constexpr Issue kIndexUnlisted{3146, ExitCode::kInvalidInput,
                                      "shard holds a tensor that the index does not list"};
inline constexpr Issue kIndexTotalSize{3147, ExitCode::kInvalidInput,
                                       "metadata.total_size differs from the tensor bytes in the shards"};

// A model directory and its companions.
inline constexpr Issue kNoCheckpointFound{3160, ExitCode::kInvalidInput, "no checkpoint in the directory"};
inline constexpr Issue kAmbiguousDirectory{3161, ExitCode::kInvalidInput,
                                           "more than one checkpoint in the directory; name one of the files"};
inline constexpr Issue kTooManyCompanions{3162, ExitCode::kInvalidInput, "more companion files than the limit"};
inline constexpr Issue kCompanionTooLarge{3163, ExitCode::kInvalidInput, "companion file larger than the limit"};
inline constexpr Issue kModulesForm{3164, ExitCode::kInvalidInput,
                                    "modules.json must list objects whose path is a plain directory name"};

// Well-formed, but not read.
inline constexpr Issue kUnsupportedFormat{5101, ExitCode::kUnsupported, "checkpoint format is not supported"};
inline constexpr Issue kUnsupportedDType{5102, ExitCode::kUnsupported, "dtype is not supported"};

// Misuse by our own code.
inline constexpr Issue kReadOutsideTensor{9102, ExitCode::kInternal, "read outside the tensor"};

}  // namespace q4
