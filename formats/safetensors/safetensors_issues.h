// The rules that a safetensors file has to keep (310x to 312x), and what a file is instead of a checkpoint (313x,
// 510x). The message of a rule is completed by the file, the tensor or member, and "got X, expected Y"
// (formats/base/status.h); a comment below says when a rule is broken where its wording leaves that open. The limits
// are in formats/base/limits.h. The writer of safetensors refuses by these rules what a reader would refuse.
#pragma once

#include "formats/base/status.h"

namespace q4 {

// A safetensors file.

// The file has fewer than the 8 bytes of the header length.
inline constexpr Issue kStHeaderTooSmall{3101, ExitCode::kInvalidInput, "header too small"};
// A length of 0. The shortest header is "{}".
inline constexpr Issue kStHeaderEmpty{3102, ExitCode::kInvalidInput, "header empty"};
// Often a file of another kind or a download that was cut; a kind that is known is named instead (3130, 5101).
inline constexpr Issue kStHeaderExceedsFile{3103, ExitCode::kInvalidInput, "header length exceeds the file"};
inline constexpr Issue kStHeaderTooLarge{3104, ExitCode::kInvalidInput, "header length above the limit"};
// In one file, in a shard index, or in all shards together.
inline constexpr Issue kTooManyTensors{3105, ExitCode::kInvalidInput, "more tensors than the limit"};
inline constexpr Issue kStNotAnObject{3106, ExitCode::kInvalidInput, "header must be a JSON object"};
// Also for a member that is missing, and for one that the format does not know.
inline constexpr Issue kStEntry{3107, ExitCode::kInvalidInput,
                                "tensor entry must be an object of dtype, shape and data_offsets"};
// The name may be any text otherwise. Also for keys of weight_map.
inline constexpr Issue kTensorName{3108, ExitCode::kInvalidInput, "tensor name must be 1 to 4096 bytes without NUL"};
// In one file or in two shards: readers would disagree on which one counts.
inline constexpr Issue kDuplicateTensor{3109, ExitCode::kInvalidInput, "duplicate tensor name"};
// No name of the format. One that q4 merely does not carry is 5102.
inline constexpr Issue kStDType{3110, ExitCode::kInvalidInput, "unknown dtype"};
inline constexpr Issue kStShape{3111, ExitCode::kInvalidInput, "shape must be a list of unsigned integers"};
inline constexpr Issue kTooManyDimensions{3112, ExitCode::kInvalidInput, "more dimensions than the limit"};
// 2^48 elements or more, of the dimensions other than 0; so no product of sizes wraps afterwards.
inline constexpr Issue kTensorTooLarge{3113, ExitCode::kInvalidInput, "size overflow: more elements than the limit"};
// Also for a begin behind the end.
inline constexpr Issue kStOffsets{3114, ExitCode::kInvalidInput,
                                  "bad data_offsets: must be two unsigned integers, begin and end"};
inline constexpr Issue kStSizeMismatch{3115, ExitCode::kInvalidInput, "byte size differs from shape and dtype"};
// The tensors must cover the payload without gaps and overlaps (3116 to 3119): bytes that belong to no tensor could
// hide anything, and a byte that belongs to two would have two meanings.
inline constexpr Issue kStOverlap{3116, ExitCode::kInvalidInput, "data overlaps that of another tensor"};
inline constexpr Issue kStHole{3117, ExitCode::kInvalidInput, "hole in the data before the tensor"};
inline constexpr Issue kStTrailingData{3118, ExitCode::kInvalidInput, "trailing data after the last tensor"};
// The last tensors reach behind the end of the file: mostly a download that was cut.
inline constexpr Issue kStDataEndsEarly{3119, ExitCode::kInvalidInput, "data ends early"};
// Or null. Also when it is given twice.
inline constexpr Issue kStMetadata{3120, ExitCode::kInvalidInput, "__metadata__ must be one object of strings"};
// What a file is instead of a checkpoint.

// A Git LFS pointer, gzip, zip, HTML, or GGML from before GGUF. Formats that do hold models are 5101.
inline constexpr Issue kNotACheckpoint{3130, ExitCode::kInvalidInput, "not a checkpoint"};

// Well-formed, but not read.

// Of a file by its first bytes, of a directory by names: PyTorch, pickle, .q4; of a GGUF file by its general.type.
inline constexpr Issue kUnsupportedFormat{5101, ExitCode::kUnsupported, "checkpoint format is not supported"};
// Sub-byte types and the FNUZ variants of 8-bit floats.
inline constexpr Issue kUnsupportedDType{5102, ExitCode::kUnsupported, "dtype is not supported"};

}  // namespace q4
