#include "libconvert/scheme/treatment.h"

#include <fmt/format.h>

#include "formats/tensor/tensor.h"

namespace q4 {

Q4Encoder EncoderInName(const Q4Tensor& tensor) {
  return FindQ4Encoder(tensor.encoder)->implied ? Q4Encoder::kNone : tensor.encoder;
}

std::string TreatmentName(const Q4Tensor& tensor) {
  if (!tensor.quantized()) return std::string(DTypeName(tensor.dtype));
  std::string name =
      fmt::format("{} b{}{}", Q4SchemeName(tensor.scheme), tensor.block_size, tensor.nested ? " dq" : "");
  const Q4Encoder encoder = EncoderInName(tensor);
  if (encoder != Q4Encoder::kNone) name.append(" ").append(Q4EncoderName(encoder));
  return name;
}

}  // namespace q4
