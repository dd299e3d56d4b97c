#include "formats/tensor/source_tensor.h"

namespace q4 {

StoredParts StoredPartsOf(const SourceTensor& tensor) {
  StoredParts parts;
  if (const MergedAdapter* merged = tensor.merged.get()) {
    parts = StoredPartsOf(*merged->base);
    if (parts.names.empty()) {
      parts.names.push_back(merged->base->name);
      parts.dtype = merged->base->dtype;
    }
    parts.merged = true;
    for (const auto* part : {&merged->a, &merged->b, &merged->magnitude}) {
      if (*part != nullptr) parts.names.push_back((*part)->name);
    }
    return parts;
  }
  if (const PackedF4* packed = tensor.packed.get()) {
    parts.names = {packed->code_name, packed->scale_name};
    if (!packed->global_name.empty()) parts.names.push_back(packed->global_name);
    parts.dtype = DType::kU8;
  }
  if (tensor.scaled == nullptr) return parts;
  parts.names.push_back(tensor.name);
  if (!tensor.scaled->scale_name.empty()) parts.names.push_back(tensor.scaled->scale_name);
  parts.dtype = tensor.scaled->code;
  return parts;
}

}  // namespace q4
