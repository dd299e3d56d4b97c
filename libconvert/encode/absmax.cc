// Both functions hand the slab to the kernel that does the whole step: `absmax` finds the scales alone (Q4.1, Q4.3,
// Q4.4), `quantize` the scales and the codes under them (Q4 whole). Nothing is computed here. The CUDA engine does not
// use this object: it calls its own kernels for the same sections (engine/cuda_slab_engine.cc).
#include "libconvert/encode/absmax.h"

namespace q4 {
namespace {

class Absmax : public Encoder {
 public:
  Q4Encoder id() const override { return Q4Encoder::kAbsmax; }
  bool has_cuda_kernels() const override { return true; }

  std::uint64_t ChooseScales(const KernelTable& kernels, const SlabShape& shape, const std::uint8_t* x,
                             float* scales) const override {
    return kernels.absmax(shape.type, x, shape.elems, shape.block_size, scales);
  }
  std::uint64_t ChooseCodes(const KernelTable& kernels, const SlabShape& shape, const std::uint8_t* x, float* scales,
                            std::uint8_t* codes) const override {
    return kernels.quantize(shape.type, shape.book(), x, shape.elems, shape.block_size, codes, scales);
  }
};

}  // namespace

const Encoder& AbsmaxEncoder() {
  static const Absmax encoder;
  return encoder;
}

}  // namespace q4
