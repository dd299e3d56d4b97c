#include "formats/tensor/source_tensor.h"

namespace q4 {

StoredParts StoredPartsOf(const SourceTensor& tensor) {
  StoredParts parts;
  if (tensor.scaled == nullptr) return parts;
  parts.names.push_back(tensor.name);
  if (!tensor.scaled->scale_name.empty()) parts.names.push_back(tensor.scaled->scale_name);
  parts.dtype = tensor.scaled->code;
  return parts;
}

}  // namespace q4
