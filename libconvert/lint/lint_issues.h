// What q4inspect --lint can find wrong (65xx). An Issue with exit code 6 is an error: the checkpoint cannot be loaded,
// or loads as another model. One with exit code 0 is a warning. lint_rules.cc gives each its name and its advice.
#pragma once

#include "formats/base/status.h"

namespace q4 {

// Files and index.
inline constexpr Issue kLintFileMalformed{6501, ExitCode::kCheckFailed, "weights file cannot be read"};
inline constexpr Issue kLintShardMissing{6502, ExitCode::kCheckFailed, "index names a shard that is not there"};
inline constexpr Issue kLintTensorNotInShard{6503, ExitCode::kCheckFailed,
                                             "tensor is not in the shard that the index names"};
inline constexpr Issue kLintTensorUnlisted{6504, ExitCode::kCheckFailed,
                                           "shard holds a tensor that the index does not list"};
inline constexpr Issue kLintTensorTwice{6505, ExitCode::kCheckFailed, "tensor is in two shards"};
inline constexpr Issue kLintTotalSize{6506, ExitCode::kOk, "total_size of the index differs from the tensors"};
inline constexpr Issue kLintUnusedFile{6507, ExitCode::kOk, "weights file that no index and no loader uses"};
inline constexpr Issue kLintIndexMissing{6508, ExitCode::kCheckFailed, "several weights files and no index"};

// Partners: tensors that are of use only together.
inline constexpr Issue kLintQuantStateMissing{6511, ExitCode::kCheckFailed, "quantized weight has no quant_state"};
inline constexpr Issue kLintWeightMissing{6512, ExitCode::kCheckFailed, "scales or quant_state without their weight"};
inline constexpr Issue kLintAbsmaxMissing{6513, ExitCode::kCheckFailed, "quantized weight has no absmax"};
inline constexpr Issue kLintQuantMapMissing{6514, ExitCode::kCheckFailed, "quantized weight has no quant_map"};
inline constexpr Issue kLintNestedMissing{6515, ExitCode::kCheckFailed,
                                          "nested scales lack nested_absmax or nested_quant_map"};
inline constexpr Issue kLintNestedExtra{6516, ExitCode::kOk, "nested parts of a weight that is not nested"};
inline constexpr Issue kLintQuantStateMalformed{6517, ExitCode::kCheckFailed, "quant_state cannot be read"};
inline constexpr Issue kLintQuantStateTwice{6518, ExitCode::kCheckFailed, "quantized weight has two quant_states"};
inline constexpr Issue kLintPartnerMissing{6519, ExitCode::kCheckFailed, "tensor without the one it belongs to"};

// Sizes.
inline constexpr Issue kLintCodeCount{6521, ExitCode::kCheckFailed, "number of codes does not fit the shape"};
inline constexpr Issue kLintScaleCount{6522, ExitCode::kCheckFailed,
                                       "number of scales does not fit shape and block size"};
inline constexpr Issue kLintPartType{6523, ExitCode::kCheckFailed,
                                     "part of a quantized weight has the wrong dtype or size"};

// Values.
inline constexpr Issue kLintScaleNotFinite{6531, ExitCode::kCheckFailed, "scale is NaN or infinite"};
inline constexpr Issue kLintScalesZero{6532, ExitCode::kCheckFailed, "all scales are zero, but not all codes"};
inline constexpr Issue kLintScaleZero{6533, ExitCode::kOk, "zero scale of a block whose codes are not zero"};
inline constexpr Issue kLintScaleNegative{6534, ExitCode::kOk, "negative scale"};
inline constexpr Issue kLintQuantMap{6535, ExitCode::kCheckFailed, "quant_map is not the code book of the stated type"};
inline constexpr Issue kLintNestedMap{6536, ExitCode::kOk, "nested_quant_map is not the dynamic 8-bit map"};
inline constexpr Issue kLintValueNotFinite{6537, ExitCode::kOk, "unquantized weight holds NaN or infinity"};

// Codes, judged by statistics.
inline constexpr Issue kLintCodeType{6541, ExitCode::kCheckFailed, "codes look like those of the other code book"};
inline constexpr Issue kLintBlockWithoutExtreme{6542, ExitCode::kOk,
                                                "blocks without the code of their largest element"};
inline constexpr Issue kLintBlockSmaller{6543, ExitCode::kOk, "codes look like those of a smaller block size"};
inline constexpr Issue kLintNibbleOrder{6544, ExitCode::kOk, "codes look as if the two of a byte were swapped"};
inline constexpr Issue kLintPadding{6545, ExitCode::kOk, "padding code after the last element is unusual"};

// config.json and tensors.
inline constexpr Issue kLintConfigMissing{6551, ExitCode::kCheckFailed, "quantized checkpoint without config.json"};
inline constexpr Issue kLintConfigMalformed{6552, ExitCode::kCheckFailed, "config.json cannot be read"};
inline constexpr Issue kLintConfigNotQuantized{6553, ExitCode::kCheckFailed,
                                               "tensors are quantized, config.json does not say so"};
inline constexpr Issue kLintConfigQuantized{6554, ExitCode::kCheckFailed,
                                            "config.json says 4 bits, but no tensor is quantized"};
inline constexpr Issue kLintConfigType{6555, ExitCode::kOk, "bnb_4bit_quant_type differs from the tensors"};
inline constexpr Issue kLintConfigDoubleQuant{6556, ExitCode::kOk,
                                              "bnb_4bit_use_double_quant differs from the tensors"};
inline constexpr Issue kLintConfigStorage{6557, ExitCode::kOk, "bnb_4bit_quant_storage differs from the tensors"};
inline constexpr Issue kLintSkipNotListed{6558, ExitCode::kCheckFailed,
                                          "weight is unquantized, but llm_int8_skip_modules does not list it"};
inline constexpr Issue kLintSkipButQuantized{6559, ExitCode::kCheckFailed,
                                             "weight is quantized, but llm_int8_skip_modules lists it"};
inline constexpr Issue kLintHeadMissing{6560, ExitCode::kCheckFailed,
                                        "embeddings are not tied, but there is no output embedding"};
inline constexpr Issue kLintTiedTwice{6561, ExitCode::kOk, "embeddings are tied, but stored twice and unequal in size"};
inline constexpr Issue kLintLayerMissing{6562, ExitCode::kCheckFailed,
                                         "config.json counts a layer that has no tensors"};
inline constexpr Issue kLintVocabulary{6563, ExitCode::kCheckFailed, "vocab_size differs from the embedding's rows"};

}  // namespace q4
