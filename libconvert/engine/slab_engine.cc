// The engine over this machine's cores. Each call puts the whole slab through the tensor's encoder on the thread that
// calls, a worker of the pipeline; nothing is started here. What must wait between two passes simply stays in the
// source buffer, which the pipeline's budget counts, and in a vector of codes.
#include "libconvert/engine/slab_engine.h"

#include <utility>

#include "libconvert/engine/device_issues.h"

namespace q4 {

SlabWork::FirstBad SlabWork::ChooseNested(std::shared_ptr<Buffer> /*x*/, bool /*keep*/, const NestedSlab& /*out*/) {
  return Fail(kDeviceEncoder, {}, "nested scales", "an encoder that searches");
}
void SlabWork::GiveWayTo(const Encoder& /*encoder*/) {}

absl::StatusOr<FeedbackResult> SlabEngine::ChooseWhole(const FeedbackRun& run, const Q4Tensor& tensor,
                                                       const WeightInput& calibrated, const std::uint8_t* x,
                                                       const float* decoded, std::uint8_t* codes) {
  return ChooseFeedbackCodes(run, tensor, calibrated, x, decoded, codes);
}
std::uint64_t SlabEngine::WholeMemory(const WeightInput& calibrated, unsigned threads) const {
  return FeedbackMemory(calibrated, threads);
}

namespace {

class CpuSlabWork : public SlabWork {
 public:
  CpuSlabWork(const KernelTable& kernels, const Encoder& encoder, SpareVectors* spare_codes, const SlabShape& shape,
              const SlabPlace& place)
      : kernels_(kernels), encoder_(&encoder), spare_codes_(*spare_codes), weights_(place.weights), shape_(shape) {
    shape_.first = place.first;
    shape_.weights = weights_.get();
  }

  FirstBad ChooseScales(std::shared_ptr<Buffer> x, float* scales) override {
    return encoder_->ChooseScales(kernels_, shape_, x->data(), scales);
  }

  FirstBad Quantize(std::shared_ptr<Buffer> x, const float* decoded, std::vector<std::uint8_t>* codes, float* scales,
                    TiledStats* statistics) override {
    *codes = spare_codes_.Take();
    codes->resize(PackedBytes(shape_.elems));
    return EncodeSlab(*encoder_, kernels_, shape_, x->data(), codes->data(), scales, decoded, statistics);
  }

  // Statistics have to wait: they are about the decoded scales, which depend on all slabs of the tensor (Q5.1). So the
  // elements stay, and the tiles of EncodeSlab() would be of no use.
  FirstBad QuantizeAndKeep(std::shared_ptr<Buffer> x, float* scales) override {
    x_ = std::move(x);
    codes_ = spare_codes_.Take();
    codes_.resize(PackedBytes(shape_.elems));
    return encoder_->ChooseCodes(kernels_, shape_, x_->data(), scales, codes_.data());
  }

  FirstBad ChooseNested(std::shared_ptr<Buffer> x, bool keep, const NestedSlab& out) override {
    const FirstBad bad = encoder_->searching()->ChooseNested(kernels_, shape_, x->data(), out);
    if (keep) x_ = std::move(x);
    return bad;
  }
  void GiveWayTo(const Encoder& encoder) override { encoder_ = &encoder; }

  absl::Status Finish(const float* decoded, std::vector<std::uint8_t>* codes, TiledStats* statistics) override {
    if (codes_.empty()) {
      // ChooseNested() came before: the codes are made now, tile by tile with the statistics.
      *codes = spare_codes_.Take();
      codes->resize(PackedBytes(shape_.elems));
      std::vector<float> scales(BlockCount(shape_.elems, shape_.block_size));
      (void)EncodeSlab(*encoder_, kernels_, shape_, x_->data(), codes->data(), scales.data(), decoded, statistics);
      x_.reset();
      return absl::OkStatus();
    }
    *codes = std::move(codes_);
    TakeSlabStats(kernels_, shape_, x_->data(), codes->data(), decoded, statistics);
    x_.reset();  // its bytes go back to the budget now, not with the last owner of this object
    return absl::OkStatus();
  }

 private:
  const KernelTable& kernels_;
  const Encoder* encoder_;
  SpareVectors& spare_codes_;
  const std::shared_ptr<const ColumnWeights> weights_;
  SlabShape shape_;
  // Between QuantizeAndKeep() and Finish() only.
  std::shared_ptr<Buffer> x_;
  std::vector<std::uint8_t> codes_;
};

class CpuSlabEngine : public SlabEngine {
 public:
  CpuSlabEngine(const KernelTable& kernels, int effort) : kernels_(kernels), effort_(effort) {}

  // Takes no memory and never waits: the pipeline has reserved what a slab on the cores needs (memory_needs.h).
  absl::StatusOr<std::unique_ptr<SlabWork>> Begin(const Q4Tensor& tensor, const SlabPlace& slab) override {
    return std::make_unique<CpuSlabWork>(kernels_, EncoderOf(tensor.encoder), &spare_codes_,
                                         SlabShapeOf(tensor, slab.elems, effort_), slab);
  }
  void Recycle(std::vector<std::uint8_t> codes) override { spare_codes_.Give(std::move(codes)); }
  bool keeps_on_host() const override { return true; }
  std::uint64_t device_keep_bytes() const override { return 0; }
  BufferMemory& buffer_memory() override { return memory_; }
  std::uint64_t RingBytes(std::uint64_t /*max_memory*/) const override { return 0; }
  std::uint64_t scratch_bytes_per_thread() const override { return kCpuSlabScratchBytes; }

 private:
  const KernelTable& kernels_;
  const int effort_;
  // Ordinary memory of the process: cores need nothing special.
  BufferMemory memory_;
  SpareVectors spare_codes_{kSpareCodes};
};

}  // namespace

std::unique_ptr<SlabEngine> MakeCpuSlabEngine(const KernelTable& kernels, int effort) {
  return std::make_unique<CpuSlabEngine>(kernels, effort);
}

}  // namespace q4
