// Between the two vocabularies for element types: DType of files, FloatType of kernels.
//
// formats/ and kernels/ do not know each other; this is the only place that knows both. DType has every dtype that a
// checkpoint may hold, FloatType the three that can be quantized and decoded to (numerics Q1.2).
#pragma once

#include "formats/tensor/tensor.h"
#include "kernels/kernels.h"

namespace q4 {

// REQUIRES: IsQuantizable(dtype), that is F32, F16 or BF16.
constexpr FloatType FloatTypeOf(DType dtype) {
  switch (dtype) {
    case DType::kF16:
      return FloatType::kF16;
    case DType::kBF16:
      return FloatType::kBF16;
    // kF32, as the caller promises.
    default:
      return FloatType::kF32;
  }
}

}  // namespace q4
