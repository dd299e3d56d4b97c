#include "libconvert/scheme/treatment.h"

#include <fmt/format.h>

#include "formats/tensor/tensor.h"

namespace q4 {

std::string TreatmentName(const Q4Tensor& tensor) {
  if (!tensor.quantized()) return std::string(DTypeName(tensor.dtype));
  // Every quantized tensor was made by absmax so far, hence unnamed.
  return fmt::format("{} b{}{}{}", Q4SchemeName(tensor.scheme), tensor.block_size, tensor.nested ? " dq" : "",
                     tensor.encoder == Q4Encoder::kMse ? " mse" : "");
}

}  // namespace q4
