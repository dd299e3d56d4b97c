// The rules that weights of 8-bit and 4-bit floats and their scales must keep to be read as plain ones (372x, 381x),
// and the forms of them that are well-formed but not read (572x, 581x).
#pragma once

#include "formats/base/status.h"

namespace q4 {

// weight_block_size, or block_structure of compressed-tensors.
inline constexpr Issue kFp8BlockSize{3720, ExitCode::kInvalidInput,
                                     "size of quantization blocks must be two positive integers"};
// Others of the checkpoint have one, or its configuration says that weights are quantized.
inline constexpr Issue kFp8NoScale{3721, ExitCode::kInvalidInput, "a weight of 8-bit floats has no scale"};
// There is no such weight, or it is of another type.
inline constexpr Issue kFp8OrphanScale{3722, ExitCode::kInvalidInput, "a scale belongs to no weight of 8-bit floats"};
inline constexpr Issue kFp8ScaleShape{3723, ExitCode::kInvalidInput, "shape of a scale does not fit its weight"};
inline constexpr Issue kFp8ScaleDType{3724, ExitCode::kInvalidInput, "dtype of a scale is none that scales have"};
inline constexpr Issue kFp8ScaleTwice{3725, ExitCode::kInvalidInput, "a weight of 8-bit floats has two scales"};
// Zero points, rotated weights, scales in the order of a GPU kernel.
inline constexpr Issue kFp8Form{5720, ExitCode::kUnsupported, "8-bit floats stored in a form that has no reader"};

// A tensor of codes lacks one of the scales that its format has.
inline constexpr Issue kF4NoScale{3810, ExitCode::kInvalidInput, "a weight of 4-bit floats has no scale"};
inline constexpr Issue kF4OrphanScale{3811, ExitCode::kInvalidInput, "a scale belongs to no weight of 4-bit floats"};
inline constexpr Issue kF4ScaleShape{3812, ExitCode::kInvalidInput, "shape of a scale does not fit its 4-bit codes"};
inline constexpr Issue kF4ScaleDType{3813, ExitCode::kInvalidInput, "dtype of a scale is none that 4-bit codes have"};
inline constexpr Issue kF4ScaleTwice{3814, ExitCode::kInvalidInput, "a weight of 4-bit floats has two scales"};
// Both would be called the same.
inline constexpr Issue kF4NameTaken{3815, ExitCode::kInvalidInput, "a weight is there as 4-bit codes and as a tensor"};
// Both cannot be right, and nobody knows which is.
inline constexpr Issue kF4PartTwice{3670, ExitCode::kInvalidInput,
                                    "a tensor would be a part of two weights of 4-bit floats"};
// Zero points, rotated weights, factors of the inputs, views with gaps.
inline constexpr Issue kF4Form{5811, ExitCode::kUnsupported, "4-bit floats stored in a form that has no reader"};

}  // namespace q4
