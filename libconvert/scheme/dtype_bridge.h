// Between the two vocabularies for element types: DType of files, FloatType of kernels.
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
    default:
      return FloatType::kF32;
  }
}

}  // namespace q4
