// How a tensor is quantized, in one pass or two (QuantizedJob::Passes).
//
// One pass:      read ─▶ codes, scales, statistics.
// Two passes:    read ─▶ scales (and codes, where slabs wait) of all slabs ─▶ what they decide together
//                     ─▶ codes and statistics, of the waiting slabs or of a second reading.
// Whole tensor:  read ─▶ scales of all slabs ─▶ what they decide together ─▶ codes, on the admitting thread and others
//                    ─▶ statistics.
// Then in each case the scales themselves are cut into chunks.
//
// The step of a slab that ends a pass last, whichever that is, goes on with what comes once for the tensor: it settles
// the scales after the first pass and cuts them into chunks after the last. So no thread ever waits for a pass, except
// the admitting one between two readings. Every result is stored by slab or block, never in order of arrival.
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "formats/base/text.h"
#include "libconvert/base/run_issues.h"
#include "libconvert/convert/convert_issues.h"
#include "libconvert/convert/memory_needs.h"
#include "libconvert/convert/scale_overflow.h"
#include "libconvert/convert/treat.h"
#include "libconvert/encode/calibrated.h"
#include "libconvert/encode/encoder.h"
#include "libconvert/encode/feedback.h"
#include "libconvert/scheme/slab_cut.h"
#include "libconvert/scheme/stored_scales.h"

namespace q4 {
namespace {

// Steps on one job. Copied into every step that is submitted: it keeps the job alive.
class Quantizing {
 public:
  Quantizing(Stages& stages, std::shared_ptr<QuantizedJob> job)
      : stages_(&stages), job_(std::move(job)), cut_(CutToQuantize(job_->source->elems)) {}

  // On the admitting thread; all other functions are called by it or by steps.
  void Admit() const;

 private:
  QuantizedJob::Passes ChoosePasses() const;
  void ReadForScales() const;
  void ReadForCodes(Stages::Reading reading) const;
  void AdmitWhole() const;
  absl::Status CodeWhole() const;
  void CutWhole() const;

  // First pass, of a slab.
  void MakeScales(std::uint64_t slab, SlabWork& work, std::shared_ptr<Buffer> x) const;
  // Between the passes, once.
  void SettleScales() const;
  void SettlePass(absl::StatusOr<Q4Tensor> tensor) const;
  void NestScales() const;
  absl::StatusOr<bool> NestedScalesOverflow() const;
  absl::Status SettleSearched() const;
  // The last pass, of a slab.
  void MakeCodes(std::uint64_t slab, SlabWork& work, std::shared_ptr<Buffer> x) const;
  void FinishKept(std::uint64_t slab, SlabWork& work) const;
  void EndSlab(std::uint64_t slab, const SlabWork::FirstBad& bad, std::vector<std::uint8_t> codes,
               TiledStats statistics) const;
  // After it, once.
  void EncodeScales() const;

  const SearchingEncoder* searching() const { return EncoderOf(job_->tensor.encoder).searching(); }
  SlabPlace PlaceOf(std::uint64_t slab) const { return {cut_.first(slab), cut_.size(slab), job_->weights}; }
  std::uint64_t first_block(std::uint64_t slab) const { return cut_.first(slab) / job_->tensor.block_size; }
  std::vector<float> DecodedScales(std::uint64_t first, std::uint64_t blocks) const;
  std::vector<float> DecodedScales(std::uint64_t slab) const {
    return DecodedScales(first_block(slab), BlockCount(cut_.size(slab), job_->tensor.block_size));
  }
  absl::Status NonFinite(std::uint64_t elem) const;

  Stages* stages_;
  std::shared_ptr<QuantizedJob> job_;
  SlabCut cut_;
};

// `elem`: index in the tensor. The smallest one is reported, whatever the order of the slabs.
absl::Status Quantizing::NonFinite(std::uint64_t elem) const {
  return Fail(kNonFinite, stages_->conversion().checkpoint.FileOf(*job_->source).path(),
              fmt::format("tensor '{}', element {}", job_->source->name, elem));
}

// ---- admitting thread

// --on-nonfinite keep asks for a first pass too: whether the tensor is quantized at all must be known before its first
// chunk is written.
QuantizedJob::Passes Quantizing::ChoosePasses() const {
  const ConvertOptions& options = stages_->options();
  if (CodesNeedWholeTensor(job_->tensor.encoder)) return QuantizedJob::Passes::kWholeTensor;
  if (!job_->tensor.nested && !options.keep_nonfinite) return QuantizedJob::Passes::kOne;
  return SlabsFitBetweenPasses(*job_->source, job_->tensor, options, stages_->engine(), stages_->budget().limit())
             ? QuantizedJob::Passes::kTwoKeepingSlabs
             : QuantizedJob::Passes::kTwoReadings;
}

void Quantizing::Admit() const {
  job_->scale_memory = stages_->Reserve(ScaleMemory(job_->tensor, stages_->options().compression));
  job_->scales.resize(job_->tensor.blocks());
  if (job_->tensor.nested && searching() != nullptr) {
    job_->scale_codes.resize(job_->tensor.blocks());
    job_->scales2.resize(GroupCount(job_->tensor.blocks()));
    job_->losses.resize(job_->scales2.size());
  }
  if (job_->calibrated.input != nullptr) {
    auto weights = LoadColumnWeights(*stages_->options().calibration, job_->calibrated, job_->tensor.shape);
    if (!weights.ok()) return job_->settlement.Settle(weights.status());
    job_->weights = *std::move(weights);
  }
  job_->passes = ChoosePasses();
  switch (job_->passes) {
    case QuantizedJob::Passes::kOne:
      job_->settlement.Settle(job_->tensor);
      return ReadForCodes(Stages::Reading::kFirst);
    case QuantizedJob::Passes::kTwoKeepingSlabs:
      return ReadForScales();  // SettleScales() starts the second pass
    case QuantizedJob::Passes::kTwoReadings:
      // The second reading takes memory, which only this thread may do. Where the first one failed, nothing follows:
      // the committing thread finds the error in the settlement.
      ReadForScales();
      if (const absl::StatusOr<Q4Tensor>& settled = job_->settlement.Wait(); settled.ok()) {
        settled->quantized() ? ReadForCodes(Stages::Reading::kAgain) : KeepAfterAll(*stages_, job_);
      }
      return;
    case QuantizedJob::Passes::kWholeTensor:
      return AdmitWhole();
  }
}

void Quantizing::AdmitWhole() const {
  job_->whole_memory = stages_->Reserve(WholeTensorMemory(*job_->source, job_->tensor));
  job_->elements.resize(job_->source->bytes);
  ReadForScales();
  const absl::StatusOr<Q4Tensor>& tensor = job_->scales_settled.Wait();
  const bool is_whole = tensor.ok() && CodesNeedWholeTensor(tensor->encoder);
  const absl::Status coded = is_whole ? CodeWhole() : tensor.status();
  if (!coded.ok()) return job_->Abort(coded);
  job_->settlement.Settle(*tensor);
  if (is_whole) return CutWhole();
  job_->elements = {};
  job_->whole_memory.reset();
  tensor->quantized() ? ReadForCodes(Stages::Reading::kAgain) : KeepAfterAll(*stages_, job_);
}

absl::Status Quantizing::CodeWhole() const {
  const Q4Tensor& tensor = job_->tensor;
  const std::shared_ptr<Reservation> memory =
      stages_->Reserve(stages_->engine().WholeMemory(job_->calibrated, stages_->threads()));
  const std::vector<float> nested = tensor.nested ? DecodedScales(0, tensor.blocks()) : std::vector<float>();
  job_->codes.resize(PackedBytes(tensor.elems));
  const FeedbackRun run{stages_->kernels(), *stages_->options().calibration, stages_->threads(),
                        [this] { return stages_->Interrupted(); }, &stages_->factors()};
  stages_->factors().Begin(*job_->source);
  Q4_ASSIGN_OR_RETURN(
      const FeedbackResult result,
      stages_->engine().ChooseWhole(run, tensor, job_->calibrated, job_->elements.data(),
                                    tensor.nested ? nested.data() : job_->scales.data(), job_->codes.data()));
  if (result.interrupted) return Fail(kInterruptedRun, {}, {});
  job_->note = FeedbackNote(tensor, result);
  return absl::OkStatus();
}

void Quantizing::CutWhole() const {
  job_->slabs_left = cut_.slabs();
  job_->output_memory.resize(cut_.slabs());
  for (std::uint64_t slab = 0; slab < cut_.slabs(); ++slab) {
    job_->output_memory[slab] =
        stages_->Reserve(CodeMemory(job_->tensor, cut_.size(slab), stages_->options().compression));
    stages_->Work(job_, [self = *this, slab] {
      const Q4Tensor& tensor = self.job_->tensor;
      const std::uint64_t first = self.cut_.first(slab), elems = self.cut_.size(slab);
      const std::uint8_t* const begin = self.job_->codes.data() + first / 2;
      std::vector<std::uint8_t> codes(begin, begin + PackedBytes(elems));
      const std::vector<float> nested = self.DecodedScales(slab);
      TiledStats statistics;
      TakeSlabStats(self.stages_->kernels(), SlabShapeOf(tensor, elems),
                    self.job_->elements.data() + first * ItemSize(tensor.dtype), codes.data(),
                    tensor.nested ? nested.data() : self.job_->scales.data() + self.first_block(slab), &statistics);
      self.EndSlab(slab, kAllFinite, std::move(codes), std::move(statistics));
    });
  }
}

void Quantizing::ReadForScales() const {
  const bool keep = job_->passes == QuantizedJob::Passes::kTwoKeepingSlabs;
  // Before the first step is submitted: steps count down and write to these arrays.
  job_->slabs_left = cut_.slabs();
  if (keep) {
    job_->kept_slabs.resize(cut_.slabs());
    job_->output_memory.resize(cut_.slabs());
  }
  for (std::uint64_t slab = 0; slab < cut_.slabs(); ++slab) {
    absl::StatusOr<std::shared_ptr<SlabWork>> work = stages_->engine().Begin(job_->tensor, PlaceOf(slab));
    if (!work.ok()) return SettlePass(work.status());
    if (keep) {
      // What the second pass needs is reserved now: once it begins, the admitting thread is at later tensors.
      job_->kept_slabs[slab] = *work;
      job_->output_memory[slab] =
          stages_->Reserve(CodeMemory(job_->tensor, cut_.size(slab), stages_->options().compression));
    }
    stages_->Read(
        job_, *job_->source, cut_.first(slab), cut_.size(slab), Stages::Reading::kFirst,
        [self = *this](const absl::Status& status) { self.SettlePass(status); },
        [self = *this, slab, work = *std::move(work)](std::shared_ptr<Buffer> x) {
          self.MakeScales(slab, *work, std::move(x));
        });
  }
}

void Quantizing::ReadForCodes(Stages::Reading reading) const {
  job_->slabs_left = cut_.slabs();
  job_->output_memory.resize(cut_.slabs());
  for (std::uint64_t slab = 0; slab < cut_.slabs(); ++slab) {
    absl::StatusOr<std::shared_ptr<SlabWork>> work = stages_->engine().Begin(job_->tensor, PlaceOf(slab));
    if (!work.ok()) return job_->chunks.Fail(slab, work.status());
    job_->output_memory[slab] =
        stages_->Reserve(CodeMemory(job_->tensor, cut_.size(slab), stages_->options().compression));
    stages_->Read(
        job_, *job_->source, cut_.first(slab), cut_.size(slab), reading,
        [job = job_, slab](const absl::Status& status) { job->chunks.Fail(slab, status); },
        [self = *this, slab, work = *std::move(work)](std::shared_ptr<Buffer> x) {
          self.MakeCodes(slab, *work, std::move(x));
        });
  }
}

// ---- first pass

void Quantizing::MakeScales(std::uint64_t slab, SlabWork& work, std::shared_ptr<Buffer> x) const {
  float* const scales = job_->scales.data() + first_block(slab);
  const bool keep = job_->passes == QuantizedJob::Passes::kTwoKeepingSlabs;
  SlabWork::FirstBad bad = kAllFinite;
  if (!job_->elements.empty()) {
    std::copy_n(x->data(), x->size(), &job_->elements[cut_.first(slab) * ItemSize(job_->source->dtype)]);
  }
  if (!job_->losses.empty()) {
    const std::uint64_t group = first_block(slab) / kScaleGroup;
    bad =
        work.ChooseNested(std::move(x), keep,
                          {scales, &job_->scale_codes[first_block(slab)], &job_->scales2[group], &job_->losses[group]});
  } else {
    bad = keep ? work.QuantizeAndKeep(std::move(x), scales) : work.ChooseScales(std::move(x), scales);
  }
  if (!bad.ok()) return SettlePass(bad.status());
  // The lock also makes what other steps wrote visible to the last one.
  bool last = false;
  {
    std::lock_guard lock(job_->mutex);
    if (*bad != kAllFinite) job_->first_bad = std::min(job_->first_bad, cut_.first(slab) + *bad);
    last = --job_->slabs_left == 0;
  }
  if (last) SettleScales();
}

// ---- between the passes

// What scales decide is the tensor's treatment, unless its codes are still to be chosen as a whole.
void Quantizing::SettlePass(absl::StatusOr<Q4Tensor> tensor) const {
  (job_->passes == QuantizedJob::Passes::kWholeTensor ? job_->scales_settled : job_->settlement)
      .Settle(std::move(tensor));
}

// Fills in all that is stored of the tensor's nested scales, from job_->scales.
void Quantizing::NestScales() const {
  Q4Tensor& tensor = job_->tensor;
  const std::uint64_t blocks = tensor.blocks();
  // On one thread and in order of blocks: the offset is a sum in fp64 whose order is fixed (Q5.1, Q7.3).
  Sum256 sum;
  sum.Add(job_->scales);
  tensor.nested_offset = NestedOffset(sum.total(), blocks);
  job_->scale_codes.resize(blocks);
  job_->scales2.resize(GroupCount(blocks));
  stages_->kernels().quantize_scales(job_->scales.data(), blocks, tensor.nested_offset, job_->scale_codes.data(),
                                     job_->scales2.data());
}

absl::StatusOr<bool> Quantizing::NestedScalesOverflow() const {
  return Overflows(stages_->kernels(), stages_->source(), *job_->source, job_->tensor, job_->scale_codes,
                   job_->scales2);
}

// Numerics Q9.9, of an encoder that has nested its scales group by group in the first pass. It gives way so rarely that
// the elements are read once more for the scales of absmax, on this thread.
absl::Status Quantizing::SettleSearched() const {
  if (!GivesWay(job_->losses)) return absl::OkStatus();
  Q4Tensor& tensor = job_->tensor;
  const Q4Tensor searched = tensor;
  std::vector<float> scales(tensor.blocks());
  std::vector<std::uint8_t> scale_codes, x;
  std::vector<float> scales2;
  const Encoder& absmax = EncoderOf(Q4Encoder::kAbsmax);
  for (std::uint64_t first = 0; first < tensor.elems; first += kOverflowPieceElems) {
    const std::uint64_t n = std::min(kOverflowPieceElems, tensor.elems - first);
    x.resize(n * ItemSize(tensor.dtype));
    Q4_RETURN_IF_ERROR(stages_->source().Read(*job_->source, first, x));
    (void)absmax.ChooseScales(stages_->kernels(), SlabShapeOf(tensor, n), x.data(), &scales[first / tensor.block_size]);
  }
  const auto exchange = [&] {
    job_->scales.swap(scales);
    job_->scale_codes.swap(scale_codes);
    job_->scales2.swap(scales2);
  };
  exchange();
  tensor.encoder = absmax.id();
  NestScales();
  const absl::StatusOr<bool> overflows = NestedScalesOverflow();
  if (!overflows.ok()) return overflows.status();
  if (*overflows) {
    // Absmax could not have nested scales at all.
    exchange();
    tensor = searched;
    return absl::OkStatus();
  }
  for (const std::shared_ptr<SlabWork>& work : job_->kept_slabs) work->GiveWayTo(absmax);
  job_->note = fmt::format("tensor '{}' is left to absmax: with double-quantized scales {} makes nothing better of it",
                           Printable(tensor.name), Q4EncoderName(searched.encoder));
  return absl::OkStatus();
}

// What only the scales of the whole tensor can tell: whether all elements are finite, and how scales are stored.
void Quantizing::SettleScales() const {
  Q4Tensor& tensor = job_->tensor;
  if (job_->first_bad != kAllFinite) {
    if (!stages_->options().keep_nonfinite) return SettlePass(NonFinite(job_->first_bad));
    // As if it had been planned so. An empty decision is to keep it.
    job_->note = fmt::format("tensor '{}' is kept unquantized: element {} is NaN or infinite", Printable(tensor.name),
                             job_->first_bad);
    tensor = PlanTensor(*job_->source, Decision{}, stages_->options());
  } else if (!job_->losses.empty()) {
    if (const absl::Status status = SettleSearched(); !status.ok()) return SettlePass(status);
  } else if (tensor.nested) {
    NestScales();
    const absl::StatusOr<bool> overflows = NestedScalesOverflow();
    if (!overflows.ok()) return SettlePass(overflows.status());
    if (*overflows) {
      job_->note = fmt::format("tensor '{}' keeps fp32 scales: with double-quantized ones elements would overflow {}",
                               Printable(tensor.name), DTypeName(tensor.dtype));
      tensor.nested = false;
      tensor.nested_offset = 0;
    }
  }
  if (job_->passes == QuantizedJob::Passes::kTwoKeepingSlabs) {
    std::vector<std::shared_ptr<SlabWork>> slabs = std::move(job_->kept_slabs);
    job_->slabs_left = slabs.size();
    for (std::uint64_t slab = 0; slab < slabs.size(); ++slab) {
      stages_->Work(job_, [self = *this, slab, work = std::move(slabs[slab])] { self.FinishKept(slab, *work); });
    }
  }
  // With two readings, Admit() starts the second one when this is settled.
  // Last, because the admitting and the committing thread go on from here and read what was written above.
  SettlePass(tensor);
}

// ---- last pass

// Scales as a reader will decode them (Q5.5), from a group's first on; empty where these are the scales themselves.
std::vector<float> Quantizing::DecodedScales(std::uint64_t first, std::uint64_t blocks) const {
  const Q4Tensor& tensor = job_->tensor;
  if (!tensor.nested) return {};
  const StoredScales stored{true, nullptr, job_->scale_codes.data(), job_->scales2.data(), tensor.nested_offset};
  std::vector<float> decoded;
  q4::DecodedScales(stages_->kernels(), stored.Skip(first), blocks, &decoded);
  return decoded;
}

void Quantizing::MakeCodes(std::uint64_t slab, SlabWork& work, std::shared_ptr<Buffer> x) const {
  const std::vector<float> nested = DecodedScales(slab);
  std::vector<std::uint8_t> codes;
  TiledStats statistics;
  float* const scales = job_->scales.data() + first_block(slab);
  const float* decoded = job_->tensor.nested ? nested.data() : nullptr;
  // After a first reading, the scales come out as they were and are written over themselves; but nothing is searched
  // twice.
  if (job_->passes != QuantizedJob::Passes::kOne && searching() != nullptr && decoded == nullptr) decoded = scales;
  const SlabWork::FirstBad bad = work.Quantize(std::move(x), decoded, &codes, scales, &statistics);
  EndSlab(slab, bad, std::move(codes), std::move(statistics));
}

void Quantizing::FinishKept(std::uint64_t slab, SlabWork& work) const {
  const std::vector<float> decoded = DecodedScales(slab);
  std::vector<std::uint8_t> codes;
  TiledStats statistics;
  const absl::Status status =
      work.Finish(job_->tensor.nested ? decoded.data() : job_->scales.data() + first_block(slab), &codes, &statistics);
  EndSlab(slab, status.ok() ? SlabWork::FirstBad(kAllFinite) : SlabWork::FirstBad(status), std::move(codes),
          std::move(statistics));
}

void Quantizing::EndSlab(std::uint64_t slab, const SlabWork::FirstBad& bad, std::vector<std::uint8_t> codes,
                         TiledStats statistics) const {
  // The chunk of codes takes the slab's memory with it, to be released when it is written.
  FinishedChunk finished;
  finished.source_bytes = cut_.size(slab) * ItemSize(job_->tensor.dtype);
  finished.statistics = std::move(statistics);
  finished.memory = std::move(job_->output_memory[slab]);
  if (!bad.ok()) {
    job_->chunks.Fail(slab, bad.status());
  } else if (*bad != kAllFinite) {
    job_->chunks.Fail(slab, NonFinite(cut_.first(slab) + *bad));
  } else {
    stages_->Encode(*job_, Q4Part::kCodes, slab, std::move(codes), std::move(finished));
  }
  // A slab that failed counts too, or the last step would never come. Scales of a tensor that failed are encoded for
  // nothing, which does no harm.
  bool last = false;
  {
    std::lock_guard lock(job_->mutex);
    last = --job_->slabs_left == 0;
  }
  if (last) EncodeScales();
}

// ---- scales

void Quantizing::EncodeScales() const {
  // The copies are paid for by scale_memory. The steps keep the job alive, and with it what `data` points to.
  const auto encode = [&](Q4Part part, const void* data) {
    const auto* const bytes = static_cast<const std::uint8_t*>(data);
    const std::uint64_t total = Q4PartRawBytes(job_->tensor, part), size = Q4ChunkRawSize(part);
    for (std::uint64_t at = 0; at < total; at += size) {
      stages_->Work(
          job_, [self = *this, part, chunk = at / size, begin = bytes + at, count = std::min(size, total - at)] {
            self.stages_->Encode(*self.job_, part, chunk, std::vector<std::uint8_t>(begin, begin + count), {});
          });
    }
  };
  if (job_->tensor.nested) {
    encode(Q4Part::kScaleCodes, job_->scale_codes.data());
    encode(Q4Part::kScales2, job_->scales2.data());
  } else {
    encode(Q4Part::kScales, job_->scales.data());
  }
}

}  // namespace

void TreatQuantized(Stages& stages, const std::shared_ptr<QuantizedJob>& job) { Quantizing(stages, job).Admit(); }

}  // namespace q4
