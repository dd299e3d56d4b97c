// The rules that an adapter must keep to be merged into its model (383x), and what is well-formed but not merged
// (583x).
#pragma once

#include "formats/base/status.h"

namespace q4 {

// The member is named. Also for a configuration that is no object.
inline constexpr Issue kAdapterConfig{3830, ExitCode::kInvalidInput, "not what a LoRA configuration of PEFT says"};
// lora_A without lora_B, a magnitude without use_dora, two tensors for one place.
inline constexpr Issue kAdapterParts{3831, ExitCode::kInvalidInput,
                                     "the tensors of an adapted module are not those that its merge needs"};
inline constexpr Issue kAdapterNoBase{3832, ExitCode::kInvalidInput, "the model has no tensor for this of the adapter"};
// Several names of the model are as near.
inline constexpr Issue kAdapterAmbiguous{3833, ExitCode::kInvalidInput,
                                         "the model has several tensors for this of the adapter"};
inline constexpr Issue kAdapterShape{3834, ExitCode::kInvalidInput,
                                     "shape of an adapter's tensor does not fit the model's"};
// r, or what rank_pattern says instead.
inline constexpr Issue kAdapterRank{3835, ExitCode::kInvalidInput,
                                    "rank of an adapter's tensor is not that of its configuration"};
// Met while the weights are read.
inline constexpr Issue kAdapterNotFinite{3836, ExitCode::kInvalidInput, "an adapter's tensor holds NaN or infinity"};
// Factors, and weights that they change, are F32, F16 or BF16.
inline constexpr Issue kAdapterDType{3837, ExitCode::kInvalidInput, "dtype that nothing can be merged of or into"};
// No adapter_config.json, or no adapter_model.safetensors or .bin beside it.
inline constexpr Issue kNoAdapter{3838, ExitCode::kInvalidInput, "no adapter of PEFT is there"};
// A method of PEFT, or an option of LoRA, that changes more than the weights, or that its own merge refuses.
inline constexpr Issue kAdapterMethod{5830, ExitCode::kUnsupported, "an adapter that is not merged while converting"};
inline constexpr Issue kAdapterTensor{5831, ExitCode::kUnsupported, "a tensor that no LoRA of PEFT has"};
// Quantized weights that are taken over; a GGUF file, whose names and order of rows are llama.cpp's.
inline constexpr Issue kAdapterBase{5832, ExitCode::kUnsupported, "no adapter is merged into a model of this kind"};
// Split, joined or transposed while transformers loads it: the adapter is for the result.
inline constexpr Issue kAdapterConverted{5833, ExitCode::kUnsupported,
                                         "the model's code loads this weight in another form than its file has"};

}  // namespace q4
