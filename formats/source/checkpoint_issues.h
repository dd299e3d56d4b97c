// The rules that readers of checkpoints check: safetensors (310x to 312x), what a file really is (313x), the shard
// index (314x), model directories and companions (316x), and what is well-formed but not read (51xx). The message of a
// rule is completed by the file, the tensor or member, and "got X, expected Y" (formats/base/status.h); a comment below
// says when a rule is broken where its wording leaves that open. The limits are in formats/base/limits.h. The writer of
// safetensors refuses by these rules what a reader would refuse.
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
// Of the whole checkpoint, unless OpenOptions::allow_empty. A shard may be empty.
inline constexpr Issue kNoTensors{3122, ExitCode::kInvalidInput, "the checkpoint holds no tensors"};

// What a file is instead of a checkpoint.

// A Git LFS pointer, gzip, zip, HTML, or GGML from before GGUF. Formats that do hold models are 5101.
inline constexpr Issue kNotACheckpoint{3130, ExitCode::kInvalidInput, "not a checkpoint"};

// A shard index.

// For a document that is no object, and for weight_map missing or with values that are no strings.
inline constexpr Issue kIndexForm{3140, ExitCode::kInvalidInput,
                                  "shard index must be an object whose weight_map has a shard's name for each tensor"};
// A path would let a foreign index reach any file of the machine.
inline constexpr Issue kIndexShardName{3141, ExitCode::kInvalidInput, "shard must be a plain file name"};
inline constexpr Issue kTooManyShards{3142, ExitCode::kInvalidInput, "more shards than the limit"};
inline constexpr Issue kShardMissing{3143, ExitCode::kInvalidInput, "shard is missing"};
// It begins like a JSON document: an index that names itself or another index.
inline constexpr Issue kNotAShard{3144, ExitCode::kInvalidInput, "not a checkpoint shard"};
// It is in another shard, or in none.
inline constexpr Issue kIndexMismatch{3145, ExitCode::kInvalidInput, "tensor is not in the shard that the index names"};

// Files in parts that name each other (split_files.h).

// The names of the others follow from it, so a part that was renamed cannot stand for them.
inline constexpr Issue kPartName{3150, ExitCode::kInvalidInput, "part of a split file must keep its name"};
inline constexpr Issue kPartMismatch{3151, ExitCode::kInvalidInput, "parts of a split file do not belong together"};

// A model directory and its companions.

// And no weights of another format, which would be 5101.
inline constexpr Issue kNoCheckpointFound{3160, ExitCode::kInvalidInput, "no checkpoint in the directory"};
// The rule that chooses is that of OpenCheckpoint().
inline constexpr Issue kAmbiguousDirectory{3161, ExitCode::kInvalidInput,
                                           "more than one checkpoint in the directory; name one of the files"};
// transformers loads the file that config.json names in place of the usual ones (named_weights.h).
inline constexpr Issue kNamedWeights{3640, ExitCode::kInvalidInput,
                                     "transformers_weights of config.json must be a .safetensors file, or an index of "
                                     "such, beside it; or give the weights as input and remove the member"};
inline constexpr Issue kTooManyCompanions{3162, ExitCode::kInvalidInput, "more companion files than the limit"};
inline constexpr Issue kCompanionTooLarge{3163, ExitCode::kInvalidInput, "companion file larger than the limit"};
// modules.json of sentence-transformers names the folders that are read, so its paths must not leave the model
// directory.
inline constexpr Issue kModulesForm{3164, ExitCode::kInvalidInput,
                                    "modules.json must list objects whose path is a folder inside the model"};
// The same of a Router's list, whose folders lie in that of the Router.
inline constexpr Issue kRouterForm{3530, ExitCode::kInvalidInput,
                                   "router_config.json must have types, named by folders of the Router, and structure"};
inline constexpr Issue kTooManyModules{3531, ExitCode::kInvalidInput, "more module folders than the limit"};

// The tensors of a module folder are named by it, and this one lies in another file. An export could not tell where it
// belongs.
inline constexpr Issue kModuleNameClash{3532, ExitCode::kInvalidInput,
                                        "tensor name begins with the name of a module folder that it does not lie in"};

// Well-formed, but not read.

// Of a file by its first bytes, of a directory by names: PyTorch, pickle, .q4; of a GGUF file by its general.type.
inline constexpr Issue kUnsupportedFormat{5101, ExitCode::kUnsupported, "checkpoint format is not supported"};
// model_index.json lies in the directory, or was given.
inline constexpr Issue kPipeline{5150, ExitCode::kUnsupported,
                                 "a diffusers pipeline is no single checkpoint here; name one of its components"};
// Sub-byte types and the FNUZ variants of 8-bit floats.
inline constexpr Issue kUnsupportedDType{5102, ExitCode::kUnsupported, "dtype is not supported"};
// What was found is named, and where it was read: a member of a configuration, or a tensor (quant_methods.h).
inline constexpr Issue kAlreadyQuantized{5510, ExitCode::kUnsupported,
                                         "the weights are already quantized, by a method that has no reader"};
// And no model beside it.
inline constexpr Issue kIsAdapter{5511, ExitCode::kUnsupported, "an adapter is no model"};

// Misuse by our own code.

// Checkpoint::Read() beyond the extent: its callers derive ranges from the tensor, so no file can cause it.
inline constexpr Issue kReadOutsideTensor{9102, ExitCode::kInternal, "read outside the tensor"};

}  // namespace q4
