// The scales of a quantized tensor, between the form they are stored in and the numbers that code values are multiplied
// with. What tells the two forms apart and decodes them stands here and nowhere else on the host; CUDA kernels read
// stored scales as they are.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/kernels.h"

namespace q4 {

// The scales of consecutive blocks as they are stored (F3.4), in one of two forms. Points into memory of somebody else.
struct StoredScales {
  bool nested = false;
  const float* scales = nullptr;              // [blocks], fp32; unless nested, which has
  const std::uint8_t* scale_codes = nullptr;  // [blocks]
  const float* group_scales = nullptr;        // [GroupCount(blocks)]
  float offset = 0;

  // All but the first `blocks`: a multiple of kScaleGroup, unless only what is left of one group is decoded.
  StoredScales Skip(std::uint64_t blocks) const;
};

// The decoded scales of the first `blocks` blocks (Q5.5): fp32 scales are that already and are returned as they lie;
// nested ones are decoded into *memory, which is resized to them. Nothing is checked: whatever is infinite or NaN stays
// so. Wants the canonical float environment.
const float* DecodedScales(const KernelTable& kernels, const StoredScales& stored, std::uint64_t blocks,
                           std::vector<float>* memory);

}  // namespace q4
