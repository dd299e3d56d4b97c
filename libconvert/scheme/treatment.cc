#include "libconvert/scheme/treatment.h"

#include <fmt/format.h>

#include "formats/tensor/tensor.h"

namespace q4 {

std::string TreatmentName(const Q4Tensor& tensor) {
  if (tensor.scheme == Q4Scheme::kRaw) return std::string(DTypeName(tensor.dtype));
  return fmt::format("{} b{}{}{}", tensor.scheme == Q4Scheme::kNf4 ? "nf4" : "fp4", tensor.block_size,
                     tensor.nested ? " dq" : "", tensor.encoder == Q4Encoder::kMse ? " mse" : "");
}

}  // namespace q4
