// The order of things: choose the tensors; give each its place, from the index alone; allocate; cut what is to be read
// into extents; read them on all threads. For the dequantized forms the tensors come in batches, each of which is read
// to a scratch block and dequantized from there. Only then is the scratch block used again.
#include "libconvert/load/load.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <tuple>
#include <utility>

#include "fmt/format.h"
#include "formats/base/status.h"
#include "formats/q4/parts.h"
#include "libconvert/base/machine.h"
#include "libconvert/base/parallel.h"
#include "libconvert/load/extents.h"
#include "libconvert/load/load_issues.h"
#include "libconvert/load/stager.h"
#include "libconvert/scheme/dtype_bridge.h"

namespace q4 {
namespace {

constexpr unsigned kMostDefaultThreads = 16;  // they saturate the link to a device
// The distances of F3.3: with them, what is stored uncompressed lies in memory as in the file.
constexpr std::uint64_t kSegmentAlignment = 4096;
// Of the parts of one tensor behind the first, and of the offset words.
constexpr std::uint64_t kPartAlignment = 64;
// Pages, which uncached reads go by.
constexpr std::uint64_t kSlotAlignment = 4096;

// Gives out places in a block, one after the other. No sum can overflow: an index lists less than 2^22 chunks of at
// most 8 MiB, and a model has at most 10,000 files.
class BlockLayout {
 public:
  std::uint64_t Take(std::uint64_t bytes, std::uint64_t alignment) {
    const std::uint64_t begin = (end_ + alignment - 1) / alignment * alignment;
    end_ = begin + bytes;
    return begin;
  }
  std::uint64_t bytes() const { return end_; }

 private:
  std::uint64_t end_ = 0;
};

// Where one tensor will lie. Offsets are into the model's block, those of the parts of a tensor that is to be
// dequantized into the scratch block of its batch.
struct TensorPlan {
  Q4Model::Location at;
  bool dequantize = false;
  std::array<std::uint64_t, kMostParts> parts{};
  std::uint64_t values = 0;       // if it is to be dequantized
  std::uint64_t offset_word = 0;  // if it is nested
};

// As in an uncompressed container (F3.3).
void PlaceParts(const Q4Tensor& tensor, BlockLayout* layout, std::array<std::uint64_t, kMostParts>* parts) {
  auto at = parts->begin();
  std::uint64_t alignment = kSegmentAlignment;
  for (const Q4PartEntry& part : tensor.parts()) {
    *at++ = layout->Take(part.raw_bytes, alignment);
    alignment = kPartAlignment;
  }
}

// The dtype of the values that a quantized tensor is dequantized to.
DType ValuesType(const Q4Tensor& tensor, LoadForm form) {
  switch (form) {
    case LoadForm::kF32:
      return DType::kF32;
    case LoadForm::kF16:
      return DType::kF16;
    case LoadForm::kBF16:
      return DType::kBF16;
    case LoadForm::kQuantized:
    case LoadForm::kSource:
      break;
  }
  return tensor.dtype;
}

// Asked for host memory as well, although it has no slots: slot_bytes bounds the extents there too.
absl::Status CheckOptions(const LoadOptions& options) {
  if (options.slots == 0) return Fail(kLoadOption, {}, "slots", GotExpected("0", "at least 1"));
  if (options.slot_bytes == 0 || options.slot_bytes % kSlotAlignment != 0) {
    return Fail(kLoadOption, {}, "slot_bytes",
                GotExpected(fmt::to_string(options.slot_bytes), fmt::format("a multiple of {}", kSlotAlignment)));
  }
  return absl::OkStatus();
}

// One call of LoadModel(): an object is made for one Run(), whose steps fill the members in turn.
class Loader {
 public:
  Loader(const Q4Model& model, LoadMemory& memory, const LoadOptions& options)
      : model_(model),
        memory_(memory),
        options_(options),
        check_(options.root ? LoadCheck::kSha256 : options.check),
        threads_(options.threads != 0 ? options.threads : std::min(DefaultThreads(), kMostDefaultThreads)),
        stagers_(&memory, options.slots, options.slot_bytes) {}

  absl::StatusOr<LoadedModel> Run() {
    // Both allocations come before the first read: if memory does not suffice, that is known at once.
    Q4_RETURN_IF_ERROR(CheckOptions(options_));
    Q4_RETURN_IF_ERROR(model_.RequireRoot(options_.root));
    Q4_RETURN_IF_ERROR(Choose());
    LayOut();
    Q4_ASSIGN_OR_RETURN(loaded_.memory, memory_.Allocate(block_.bytes()));
    Q4_ASSIGN_OR_RETURN(scratch_, memory_.Allocate(scratch_bytes_));
    Q4_RETURN_IF_ERROR(WriteOffsets());
    for (const std::span<const TensorPlan> batch : batches_) {
      Q4_RETURN_IF_ERROR(Read(batch));
      Q4_RETURN_IF_ERROR(Dequantize(batch));
    }
    Describe();
    return std::move(loaded_);
  }

 private:
  // Makes plans_ of the tensors that the options name, in file order.
  absl::Status Choose() {
    std::vector<Q4Model::Location> wanted;
    for (const std::string& name : options_.tensors) {
      const Q4Model::Location* at = model_.Find(name);
      if (at == nullptr) return Fail(kLoadNoSuchTensor, model_.path(), "tensor '" + name + "'");
      wanted.push_back(*at);
    }
    if (options_.tensors.empty()) wanted = model_.tensors();
    // A tensor without elements has no chunks and the first_chunk of the next one; the last member keeps the order
    // strict.
    const auto key = [this](const Q4Model::Location& at) {
      return std::tuple(at.shard, model_.tensor(at).first_chunk, at.tensor);
    };
    std::sort(wanted.begin(), wanted.end(), [&](const auto& a, const auto& b) { return key(a) < key(b); });
    const auto same = [](const auto& a, const auto& b) { return a.shard == b.shard && a.tensor == b.tensor; };
    // The caller may name a tensor twice.
    wanted.erase(std::unique(wanted.begin(), wanted.end(), same), wanted.end());
    for (const Q4Model::Location& at : wanted) {
      const bool quantized = model_.tensor(at).scheme != Q4Scheme::kRaw;
      // None is added later: batches_ point into plans_.
      plans_.push_back({at, quantized && options_.form != LoadForm::kQuantized, {}, 0, 0});
    }
    return absl::OkStatus();
  }

  // Gives every tensor its place and cuts plans_ into batches.
  void LayOut() {
    BlockLayout scratch;
    // Kept tensors need no scratch space and belong to the batch that is open when their turn comes.
    std::size_t begin = 0;  // of the batch
    for (std::size_t i = 0; i < plans_.size(); ++i) {
      TensorPlan& plan = plans_[i];
      const Q4Tensor& tensor = model_.tensor(plan.at);
      if (!plan.dequantize) {
        PlaceParts(tensor, &block_, &plan.parts);
        continue;
      }
      // The result has its place in the model's block for good, its parts a place in the scratch block until the batch
      // is done.
      plan.values = block_.Take(tensor.elems * ItemSize(ValuesType(tensor, options_.form)), kSegmentAlignment);
      BlockLayout with_this = scratch;
      PlaceParts(tensor, &with_this, &plan.parts);
      // A tensor that is larger than the scratch block by itself is a batch of its own, and enlarges it.
      if (with_this.bytes() > options_.scratch_bytes && scratch.bytes() != 0) {
        batches_.push_back(std::span(plans_).subspan(begin, i - begin));
        begin = i;
        with_this = {};
        PlaceParts(tensor, &with_this, &plan.parts);
      }
      scratch = with_this;
      scratch_bytes_ = std::max(scratch_bytes_, scratch.bytes());
    }
    batches_.push_back(std::span(plans_).subspan(begin));

    // All offset words lie together behind the tensors, so that one copy brings them there.
    first_offset_word_ = block_.Take(0, kPartAlignment);
    for (TensorPlan& plan : plans_) {
      if (model_.tensor(plan.at).nested) plan.offset_word = block_.Take(sizeof(float), sizeof(float));
      for (const Q4PartEntry& part : model_.tensor(plan.at).parts()) {
        for (std::uint64_t i = 0; i < part.chunk_count; ++i) {
          total_.total_bytes += model_.reader(plan.at).index().chunks[part.first_chunk + i].stored_bytes;
        }
      }
    }
    total_.total_tensors = plans_.size();
  }

  // Nested offsets as words in the memory itself, for kernels of a device to read.
  // Delivered by a stager as everything else is. What it sends has arrived when the first batch was read.
  absl::Status WriteOffsets() {
    // In the order in which LayOut() gave them their places.
    std::vector<float> words;
    for (const TensorPlan& plan : plans_) {
      if (model_.tensor(plan.at).nested) words.push_back(model_.tensor(plan.at).nested_offset);
    }
    std::vector<std::uint8_t> bytes(words.size() * sizeof(float));
    if (!bytes.empty()) std::memcpy(bytes.data(), words.data(), bytes.size());
    return stagers_.With(
        [&](Stager& stager) { return stager.Deliver(loaded_.memory->data() + first_offset_word_, bytes); });
  }

  // Where part number `part` of a tensor is read to.
  std::uint8_t* PartAt(const TensorPlan& plan, std::size_t part) const {
    return (plan.dequantize ? scratch_ : loaded_.memory)->data() + plan.parts[part];
  }

  // Brings the codes, scales and kept tensors of a batch to their places and returns when they are there.
  absl::Status Read(std::span<const TensorPlan> batch) {
    std::vector<TensorTarget> targets;
    for (const TensorPlan& plan : batch) {
      TensorTarget& target = targets.emplace_back();
      target.at = plan.at;
      const std::size_t parts = model_.tensor(plan.at).parts().size();
      for (std::size_t p = 0; p < parts; ++p) target.parts[p] = PartAt(plan, p);
    }
    const std::vector<ChunkExtent> extents = CutIntoExtents(model_, targets, options_.slot_bytes);
    // In extents. They are about as long as a slot, or shorter.
    const std::uint64_t ahead = (options_.prefetch_bytes + options_.slot_bytes - 1) / options_.slot_bytes;
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

  // Called under the lock of ParallelInOrder(), so total_ needs none. Padding is not counted.
  void Report(const ChunkExtent& extent) {
    const Q4Reader& reader = *model_.shards()[extent.shard];
    for (std::uint64_t i = 0; i < extent.chunk_count; ++i) {
      total_.done_bytes += reader.index().chunks[extent.first_chunk + i].stored_bytes;
    }
    total_.done_tensors += extent.tensors;
    if (!options_.progress) return;
    total_.tensor = reader.TensorOfChunk(extent.first_chunk)->name;
    options_.progress(total_);
  }

  // Parts are numbered as in F3.4: codes, then fp32 scales, or scale codes and group scales.
  absl::Status Dequantize(std::span<const TensorPlan> batch) {
    std::vector<DequantizeJob> jobs;
    for (const TensorPlan& plan : batch) {
      if (!plan.dequantize) continue;
      const Q4Tensor& tensor = model_.tensor(plan.at);
      DequantizeJob& job = jobs.emplace_back();
      static_cast<QuantFormat&>(job) = tensor;
      job.elems = tensor.elems;
      job.codes = PartAt(plan, 0);
      job.scales.nested = tensor.nested;
      if (tensor.nested) {
        job.scales.scale_codes = PartAt(plan, 1);
        job.scales.group_scales = reinterpret_cast<const float*>(PartAt(plan, 2));
        job.scales.offset = tensor.nested_offset;
        // The same number twice: for kernels on the CPU by value, for those of a device in its memory.
        job.offset_word = reinterpret_cast<const float*>(loaded_.memory->data() + plan.offset_word);
      } else {
        job.scales.scales = reinterpret_cast<const float*>(PartAt(plan, 1));
      }
      job.out_type = FloatTypeOf(ValuesType(tensor, options_.form));
      job.out = loaded_.memory->data() + plan.values;
    }
    return jobs.empty() ? absl::OkStatus() : memory_.Dequantize(jobs, threads_);
  }

  // Fills loaded_.tensors, by name.
  void Describe() {
    // From here on batches_ would name other tensors; they are not needed any more.
    std::sort(plans_.begin(), plans_.end(), [this](const TensorPlan& a, const TensorPlan& b) {
      return model_.tensor(a.at).name < model_.tensor(b.at).name;
    });
    // Addresses only: of a device's memory nothing can be read here.
    const std::uint8_t* base = loaded_.memory->data();
    for (const TensorPlan& plan : plans_) {
      LoadedTensor& tensor = loaded_.tensors.emplace_back();
      tensor.entry = model_.tensor(plan.at);
      tensor.dtype = tensor.entry.dtype;
      // No bytes, so no address either, of codes no more than of values.
      if (tensor.entry.elems == 0) continue;
      if (plan.dequantize || !tensor.entry.quantized()) {
        if (plan.dequantize) tensor.dtype = ValuesType(tensor.entry, options_.form);
        tensor.values = base + (plan.dequantize ? plan.values : plan.parts[0]);
        tensor.value_bytes = tensor.entry.elems * ItemSize(tensor.dtype);
        continue;
      }
      tensor.codes = base + plan.parts[0];
      if (tensor.entry.nested) {
        tensor.scale_codes = base + plan.parts[1];
        tensor.scales2 = reinterpret_cast<const float*>(base + plan.parts[2]);
        tensor.nested_offset = reinterpret_cast<const float*>(base + plan.offset_word);
      } else {
        tensor.scales = reinterpret_cast<const float*>(base + plan.parts[1]);
      }
    }
    // Progress has counted every chunk when all batches were read.
    loaded_.read_bytes = total_.done_bytes;
  }

  const Q4Model& model_;
  LoadMemory& memory_;
  const LoadOptions& options_;
  const LoadCheck check_;
  const unsigned threads_;

  std::vector<TensorPlan> plans_;  // in file order
  std::vector<std::span<const TensorPlan>> batches_;
  BlockLayout block_;
  std::uint64_t first_offset_word_ = 0;
  // Of the largest batch.
  std::uint64_t scratch_bytes_ = 0;
  Progress total_;

  // The stagers come last and so are destroyed first: their copies into the two blocks have ended before these go.
  LoadedModel loaded_;
  std::unique_ptr<MemoryBlock> scratch_;
  StagerPool stagers_;
};

}  // namespace

const LoadedTensor* LoadedModel::Find(std::string_view name) const {
  // Describe() has sorted them by name.
  const auto at =
      std::lower_bound(tensors.begin(), tensors.end(), name,
                       [](const LoadedTensor& tensor, std::string_view n) { return tensor.entry.name < n; });
  return at != tensors.end() && at->entry.name == name ? &*at : nullptr;
}

absl::StatusOr<LoadedModel> LoadModel(const Q4Model& model, LoadMemory& memory, const LoadOptions& options) {
  return Loader(model, memory, options).Run();
}

}  // namespace q4
