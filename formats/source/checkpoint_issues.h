// The rules that readers of checkpoints check, beside those of safetensors files (safetensors_issues.h): the shard
// index (314x), model directories and companions (316x), and what is well-formed but not read (51xx). The message of a
// rule is completed by the file, the tensor or member, and "got X, expected Y" (formats/base/status.h); a comment below
// says when a rule is broken where its wording leaves that open. The limits are in formats/base/limits.h.
#pragma once

#include "formats/base/status.h"
#include "formats/safetensors/safetensors_issues.h"

namespace q4 {

// Of the whole checkpoint, unless OpenOptions::allow_empty. A shard may be empty.
inline constexpr Issue kNoTensors{3122, ExitCode::kInvalidInput, "the checkpoint holds no tensors"};

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

// model_index.json lies in the directory, or was given.
inline constexpr Issue kPipeline{5150, ExitCode::kUnsupported,
                                 "a diffusers pipeline is no single checkpoint here; name one of its components"};
// What was found is named, and where it was read: a member of a configuration, or a tensor (quant_methods.h).
inline constexpr Issue kAlreadyQuantized{5510, ExitCode::kUnsupported,
                                         "the weights are already quantized, by a method that has no reader"};
// And no model beside it.
inline constexpr Issue kIsAdapter{5511, ExitCode::kUnsupported, "an adapter is no model"};

// Misuse by our own code.

// Checkpoint::Read() beyond the extent: its callers derive ranges from the tensor, so no file can cause it.
inline constexpr Issue kReadOutsideTensor{9102, ExitCode::kInternal, "read outside the tensor"};

}  // namespace q4
