#include "libconvert/scheme/stored_scales.h"

namespace q4 {

StoredScales StoredScales::Skip(std::uint64_t blocks) const {
  StoredScales rest = *this;
  if (nested) {
    rest.scale_codes += blocks;
    rest.group_scales += blocks / kScaleGroup;
  } else {
    rest.scales += blocks;
  }
  return rest;
}

const float* DecodedScales(const KernelTable& kernels, const StoredScales& stored, std::uint64_t blocks,
                           std::vector<float>* memory) {
  if (!stored.nested) return stored.scales;
  memory->resize(blocks);
  kernels.dequantize_scales(stored.scale_codes, stored.group_scales, blocks, stored.offset, memory->data());
  return memory->data();
}

}  // namespace q4
