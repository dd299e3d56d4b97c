// The order of things: see that the places fit; cut what is to be read into extents; read them on all threads. Tensors
// that are dequantized come in batches, each of which is read to a scratch block and dequantized from there. Only then
// is the scratch block used again.
#include "libconvert/load/fill.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <string>
#include <utility>

#include "fmt/format.h"
#include "formats/base/checked_math.h"
#include "formats/base/status.h"
#include "libconvert/base/machine.h"
#include "libconvert/base/parallel.h"
#include "libconvert/load/extents.h"
#include "libconvert/load/load_issues.h"
#include "libconvert/load/places.h"
#include "libconvert/load/stager.h"
#include "libconvert/scheme/dtype_bridge.h"

namespace q4 {
namespace {

constexpr unsigned kMostDefaultThreads = 16;  // they saturate the link to a device
// Pages, which uncached reads go by.
constexpr std::uint64_t kSlotAlignment = 4096;
// The distances of F3.3, in the scratch block: what is stored uncompressed is read and copied in long pieces.
constexpr std::uint64_t kScratchAlignments[] = {4096, 64, 64};

// What is read for one tensor.
struct TensorWork {
  const LoadPlanTensor* tensor = nullptr;
  std::vector<WantedPart> wanted;
  bool nested = false;                        // the scales as they are read
  std::array<std::uint64_t, 3> scratch{};     // of each wanted part, in the scratch block, if it is dequantized
  const std::uint8_t* offset_word = nullptr;  // if it is dequantized with nested scales
};

// A nested offset as a word in the memory itself, for kernels of a device to read.
struct OffsetWord {
  std::uint8_t* to;
  float value;
  std::int64_t region;  // as PartTarget's
};

// Of the scratch block of one batch.
void PlaceInScratch(TensorWork* work, std::uint64_t* end) {
  for (std::size_t p = 0; p < work->wanted.size(); ++p) {
    work->scratch[p] = CeilDiv(*end, kScratchAlignments[p]) * kScratchAlignments[p];
    *end = work->scratch[p] + work->wanted[p].bytes();
  }
}

// One call of FillLoad(): an object is made for one Run(), whose steps fill the members in turn.
class Filler {
 public:
  Filler(const LoadPlan& plan, LoadMemory& memory, const LoadFillOptions& options)
      : plan_(plan),
        model_(*plan.model),
        memory_(memory),
        options_(options),
        check_(options.root ? LoadCheck::kSha256 : options.check),
        threads_(options.threads != 0 ? options.threads : std::min(DefaultThreads(), kMostDefaultThreads)),
        stagers_(&memory, options.slots, options.slot_bytes) {}

  absl::StatusOr<std::uint64_t> Run(const LoadPlaces& places) {
    Q4_ASSIGN_OR_RETURN(places_, PlacesOfParts(plan_, places));
    CollectWork();
    // Before the first read: if memory does not suffice, that is known at once.
    Q4_ASSIGN_OR_RETURN(scratch_, memory_.Allocate(scratch_bytes_));
    if (options_.after_stream) Q4_RETURN_IF_ERROR(memory_.Await(*options_.after_stream));
    SetTargets();
    Q4_RETURN_IF_ERROR(WriteOffsets());
    for (const Batch& batch : batches_) {
      Q4_RETURN_IF_ERROR(Read(batch.extents));
      Q4_RETURN_IF_ERROR(Dequantize(batch));
    }
    // Every chunk was counted when all batches were read.
    return total_.done_bytes;
  }

 private:
  // Tensors whose parts lie in the scratch block at the same time, and those between them.
  struct Batch {
    std::size_t begin = 0, end = 0;  // in works_
    std::vector<ChunkExtent> extents;
  };

  // Fills works_ and batches_.
  void CollectWork() {
    std::uint64_t scratch = 0, words = 0;
    batches_.emplace_back();
    for (const std::size_t number : plan_.file_order) {
      const LoadPlanTensor& tensor = plan_.tensors[number];
      if (tensor.elems == 0) continue;
      const Q4Tensor& entry = *tensor.entry;
      TensorWork& work = works_.emplace_back();
      work.tensor = &tensor;
      // Scales that stay in the scratch block stay nested if they can: so less is copied.
      work.nested = tensor.dequantized ? entry.nested && KeepsGroups(entry, tensor.runs) : tensor.nested;
      work.wanted = WantedParts(entry, tensor.runs, entry.nested && !work.nested);
      if (tensor.dequantized) {
        words += work.nested ? 1 : 0;
        std::uint64_t with_this = scratch;
        PlaceInScratch(&work, &with_this);
        // A tensor that is larger than the scratch block by itself is a batch of its own, and enlarges it.
        if (with_this > options_.scratch_bytes && scratch != 0) {
          batches_.back().end = works_.size() - 1;
          batches_.push_back({works_.size() - 1, 0, {}});
          with_this = 0;
          PlaceInScratch(&work, &with_this);
        }
        scratch = with_this;
        scratch_bytes_ = std::max(scratch_bytes_, scratch);
      }
    }
    batches_.back().end = works_.size();
    // Offset words of all batches lie behind the parts, where no copy reaches.
    first_word_ = CeilDiv(scratch_bytes_, sizeof(float)) * sizeof(float);
    if (words != 0) scratch_bytes_ = first_word_ + words * sizeof(float);
  }

  // Fills targets_, the batches' extents and words_, now that all addresses are known.
  void SetTargets() {
    const auto scratch_region = static_cast<std::int64_t>(plan_.blocks.size());
    std::uint8_t* word = scratch_->data() + first_word_;
    // Extents point into it, so it must not move.
    targets_.resize(works_.size());
    for (std::size_t i = 0; i < works_.size(); ++i) {
      TensorWork& work = works_[i];
      const LoadPlanTensor& tensor = *work.tensor;
      targets_[i].at = tensor.at;
      for (std::size_t p = 0; p < work.wanted.size(); ++p) {
        if (tensor.dequantized) {
          targets_[i].parts.push_back({work.wanted[p], ScratchAt(work, p), scratch_region});
        } else {
          // In the order of the plan's parts (LoadPartKind).
          const PartPlace& place = places_[tensor.first_part + p];
          targets_[i].parts.push_back({work.wanted[p], place.data, place.region, place.mapped});
        }
      }
      if (!work.nested) continue;
      if (tensor.dequantized) {
        work.offset_word = word;
        words_.push_back({word, tensor.entry->nested_offset, scratch_region});
        word += sizeof(float);
      } else {
        const PartPlace& place = places_[tensor.first_part + tensor.part_count - 1];
        words_.push_back({place.data, tensor.entry->nested_offset, place.region});
      }
    }
    for (Batch& batch : batches_) {
      batch.extents = CutIntoExtents(model_, std::span(targets_).subspan(batch.begin, batch.end - batch.begin),
                                     options_.slot_bytes);
      for (const ChunkExtent& extent : batch.extents) total_.total_bytes += extent.stored_bytes;
    }
    total_.total_tensors = plan_.tensors.size();
  }

  std::uint8_t* ScratchAt(const TensorWork& work, std::size_t part) const {
    return scratch_->data() + work.scratch[part];
  }

  // Words that follow each other in one region go together. What is sent has arrived when the first batch was read.
  absl::Status WriteOffsets() {
    constexpr std::uintptr_t kFarthest = 256;  // as they lie in blocks (plan.cc)
    std::vector<std::span<const OffsetWord>> together;
    std::size_t begin = 0;
    for (std::size_t i = 1; i <= words_.size(); ++i) {
      if (i < words_.size() && words_[i].region >= 0 && words_[i].region == words_[begin].region &&
          Address(words_[i]) - Address(words_[i - 1]) <= kFarthest) {
        continue;
      }
      together.push_back(std::span(words_).subspan(begin, i - begin));
      begin = i;
    }
    return ParallelInOrder(
        together.size(), threads_,
        [&](std::uint64_t i) {
          const std::span<const OffsetWord> words = together[i];
          std::vector<std::uint8_t> bytes(Address(words.back()) - Address(words.front()) + sizeof(float));
          for (const OffsetWord& word : words) {
            std::memcpy(bytes.data() + (Address(word) - Address(words.front())), &word.value, sizeof(float));
          }
          return stagers_.With([&](Stager& stager) { return stager.Deliver(words.front().to, bytes); });
        },
        [](std::uint64_t, const absl::Status& status) { return status; });
  }

  static std::uintptr_t Address(const OffsetWord& word) { return reinterpret_cast<std::uintptr_t>(word.to); }

  // Brings the codes, scales and kept tensors of a batch to their places and returns when they are there.
  absl::Status Read(std::span<const ChunkExtent> extents) {
    // In extents. They are about as long as a slot, or shorter.
    const std::uint64_t ahead = CeilDiv(options_.prefetch_bytes, options_.slot_bytes);
    const absl::Status status = ParallelInOrder(
        extents.size(), threads_,
        [&](std::uint64_t i) -> absl::Status {
          const ChunkExtent& extent = extents[i];
          const Q4Reader& reader = *model_.shards()[extent.shard];
          // Once for each extent, which is 2 MiB by default: soon enough.
          if (options_.cancel != nullptr && options_.cancel->load()) return Fail(kLoadInterrupted, model_.path(), {});
          if (ahead != 0 && extents.size() - i > ahead) {
            const ChunkExtent& later = extents[i + ahead];
            model_.shards()[later.shard]->file().Prefetch(later.offset, later.bytes);
          }
          return stagers_.With(
              [&](Stager& stager) { return ReadExtent(reader, extent, check_, options_.uncached, stager); });
        },
        [&](std::uint64_t i, const absl::Status& read) {
          // Committed in file order: progress never goes back, and of several damaged chunks the first one is reported.
          if (read.ok()) Report(extents[i]);
          return read;
        });
    Q4_RETURN_IF_ERROR(status);
    // Dequantizing reads these bytes, and the next batch overwrites the scratch block.
    return stagers_.Drain();
  }

  // Called under the lock of ParallelInOrder(), so total_ needs none.
  void Report(const ChunkExtent& extent) {
    total_.done_bytes += extent.stored_bytes;
    total_.done_tensors += extent.tensors;
    if (!options_.progress) return;
    total_.tensor = model_.shards()[extent.shard]->TensorOfChunk(extent.first_chunk)->name;
    options_.progress(total_);
  }

  // Parts are numbered as in F3.4: codes, then fp32 scales, or scale codes and group scales.
  absl::Status Dequantize(const Batch& batch) {
    std::vector<DequantizeJob> jobs;
    for (std::size_t i = batch.begin; i < batch.end; ++i) {
      const TensorWork& work = works_[i];
      const LoadPlanTensor& tensor = *work.tensor;
      if (!tensor.dequantized) continue;
      DequantizeJob& job = jobs.emplace_back();
      static_cast<QuantFormat&>(job) = *tensor.entry;
      job.nested = work.nested;
      job.elems = tensor.elems;
      job.codes = ScratchAt(work, 0);
      job.scales.nested = work.nested;
      if (work.nested) {
        job.scales.scale_codes = ScratchAt(work, 1);
        job.scales.group_scales = reinterpret_cast<const float*>(ScratchAt(work, 2));
        job.scales.offset = tensor.entry->nested_offset;
        // The same number twice: for kernels on the CPU by value, for those of a device in its memory.
        job.offset_word = reinterpret_cast<const float*>(work.offset_word);
      } else {
        job.scales.scales = reinterpret_cast<const float*>(ScratchAt(work, 1));
      }
      job.out_type = FloatTypeOf(tensor.dtype);
      job.out = places_[tensor.first_part].data;
    }
    return jobs.empty() ? absl::OkStatus() : memory_.Dequantize(jobs, threads_);
  }

  const LoadPlan& plan_;
  const Q4Model& model_;
  LoadMemory& memory_;
  const LoadFillOptions& options_;
  const LoadCheck check_;
  const unsigned threads_;

  std::vector<PartPlace> places_;  // of each of the plan's parts
  std::vector<TensorWork> works_;  // in file order
  std::vector<Batch> batches_;
  std::vector<TensorTarget> targets_;  // of each of works_
  std::vector<OffsetWord> words_;
  std::uint64_t first_word_ = 0;     // in the scratch block
  std::uint64_t scratch_bytes_ = 0;  // for the largest batch, and the words
  Progress total_;

  // The stagers come last and so are destroyed first: their copies have ended before the scratch block goes.
  std::unique_ptr<MemoryBlock> scratch_;
  StagerPool stagers_;
};

}  // namespace

absl::Status CheckFill(const LoadPlan& plan, const LoadFillOptions& options) {
  if (options.slots == 0) return Fail(kLoadOption, {}, "slots", GotExpected("0", "at least 1"));
  // Of host memory as well, although it has no slots: slot_bytes bounds the extents there too.
  if (options.slot_bytes == 0 || options.slot_bytes % kSlotAlignment != 0) {
    return Fail(kLoadOption, {}, "slot_bytes",
                GotExpected(fmt::to_string(options.slot_bytes), fmt::format("a multiple of {}", kSlotAlignment)));
  }
  return plan.model->RequireRoot(options.root);
}

absl::StatusOr<std::uint64_t> FillLoad(const LoadPlan& plan, LoadMemory& memory, const LoadPlaces& places,
                                       const LoadFillOptions& options) {
  Q4_RETURN_IF_ERROR(CheckFill(plan, options));
  return Filler(plan, memory, options).Run(places);
}

}  // namespace q4
