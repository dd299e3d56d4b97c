#include "libconvert/encode/absmax.h"

namespace q4 {
namespace {

class Absmax : public Encoder {
 public:
  Q4Encoder id() const override { return Q4Encoder::kAbsmax; }
  Proof proof() const override { return Proof::kRecompute; }

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
