// A tensor that is kept: read slab by slab, converted if it is stored as another type, cut into data chunks. One pass,
// since nothing depends on the whole tensor; each slab is a whole number of chunks (slab_cut.h), so that its step makes
// and hands over all of them alone.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "libconvert/convert/convert_issues.h"
#include "libconvert/convert/memory_needs.h"
#include "libconvert/convert/treat.h"
#include "libconvert/scheme/slab_cut.h"

namespace q4 {
namespace {

// NaN elements of a piece: how many, and the first.
struct Nans {
  std::uint64_t count = 0, first = 0;
};

// A NaN has all bits of the exponent, as an infinity has, and some of the mantissa. Two loops, so that the first, which
// all elements go through, is one that compilers vectorize.
template <typename Bits>
Nans FindNans(const std::uint8_t* bytes, std::uint64_t elems, Bits infinity) {
  constexpr Bits kNoSign = static_cast<Bits>(~(Bits{1} << (8 * sizeof(Bits) - 1)));
  const auto is_nan = [=](std::uint64_t i) {
    Bits bits = 0;
    std::memcpy(&bits, bytes + i * sizeof(Bits), sizeof(Bits));
    return static_cast<Bits>(bits & kNoSign) > infinity;
  };
  Nans nans;
  for (std::uint64_t i = 0; i < elems; ++i) nans.count += is_nan(i);
  if (nans.count != 0) {
    while (!is_nan(nans.first)) ++nans.first;
  }
  return nans;
}

// Of the float types that weights have. An infinity is nothing to report: masks consist of them.
Nans FindNans(DType dtype, const std::uint8_t* bytes, std::uint64_t elems) {
  if (dtype == DType::kF16) return FindNans<std::uint16_t>(bytes, elems, 0x7C00);
  if (dtype == DType::kBF16) return FindNans<std::uint16_t>(bytes, elems, 0x7F80);
  if (dtype == DType::kF32) return FindNans<std::uint32_t>(bytes, elems, 0x7F800000);
  if (dtype == DType::kF64) return FindNans<std::uint64_t>(bytes, elems, 0x7FF0000000000000);
  return {};
}

// Index of the slab's first data chunk among those of the tensor.
std::uint64_t FirstChunk(const TensorJob& job, const SlabCut& cut, std::uint64_t slab) {
  return cut.first(slab) * ItemSize(job.tensor.dtype) / kQ4ChunkBytes;
}

// The data chunks of one slab, converted if the tensor is stored as another type.
void KeepSlab(Stages& stages, const std::shared_ptr<TensorJob>& job, std::uint64_t slab, const Buffer& x) {
  const DType from = job->source->dtype, to = job->tensor.dtype;
  const std::uint64_t elems = x.size() / ItemSize(from);
  const std::uint64_t out_bytes = elems * ItemSize(to);
  // Moved out of the job, so that it is released with the last chunk.
  const std::shared_ptr<Reservation> memory = std::move(job->output_memory[slab]);
  std::uint64_t chunk = FirstChunk(*job, CutToKeep(*job->source), slab);
  // `at` counts bytes as stored; the place in the source is found by elements, for their sizes can differ.
  for (std::uint64_t at = 0; at < out_bytes; at += kQ4ChunkBytes, ++chunk) {
    const std::uint64_t bytes = std::min(kQ4ChunkBytes, out_bytes - at);
    const std::uint64_t chunk_elems = bytes / ItemSize(to);
    const std::uint8_t* const in = x.data() + at / ItemSize(to) * ItemSize(from);
    const Nans nans = FindNans(from, in, chunk_elems);
    // A tensor that was to be quantized and has them is kept by the user's choice, and said so already.
    if (nans.count != 0 && !stages.options().keep_nonfinite) {
      const std::uint64_t first = CutToKeep(*job->source).first(slab) + at / ItemSize(to) + nans.first;
      return job->chunks.Fail(chunk, Fail(kKeptNan, stages.conversion().checkpoint.FileOf(*job->source).path(),
                                          fmt::format("tensor '{}', element {}", job->source->name, first)));
    }
    std::vector<std::uint8_t> raw(bytes);
    if (from == to) {
      std::memcpy(raw.data(), in, bytes);
    } else {
      const std::uint64_t infinite =
          stages.kernels().convert(FloatTypeOf(from), in, chunk_elems, FloatTypeOf(to), raw.data());
      // Never by default: only a narrower type that the user has asked for can do this.
      if (infinite != 0) {
        const std::string& path = stages.conversion().checkpoint.FileOf(*job->source).path();
        return job->chunks.Fail(chunk, Fail(kKeepOverflow, path, fmt::format("tensor '{}'", job->source->name),
                                            fmt::format("{} elements", infinite)));
      }
    }
    FinishedChunk finished;
    finished.source_bytes = chunk_elems * ItemSize(from);
    finished.nans = nans.count;
    finished.memory = memory;
    stages.Encode(*job, Q4Part::kData, chunk, std::move(raw), std::move(finished));
  }
}

void ReadAndKeep(Stages& stages, const std::shared_ptr<TensorJob>& job, Stages::Reading reading) {
  const SlabCut cut = CutToKeep(*job->source);
  job->output_memory.resize(cut.slabs());
  for (std::uint64_t slab = 0; slab < cut.slabs(); ++slab) {
    job->output_memory[slab] =
        stages.Reserve(KeptMemory(cut.size(slab), job->tensor.dtype, stages.options().compression));
    stages.Read(
        job, *job->source, cut.first(slab), cut.size(slab), reading,
        [job, chunk = FirstChunk(*job, cut, slab)](const absl::Status& status) { job->chunks.Fail(chunk, status); },
        [&stages, job, slab](const std::shared_ptr<Buffer>& x) { KeepSlab(stages, job, slab, *x); });
  }
}

}  // namespace

void TreatKept(Stages& stages, const std::shared_ptr<TensorJob>& job) {
  // Before its chunks, because the committing thread waits for it first.
  job->settlement.Settle(job->tensor);
  ReadAndKeep(stages, job, Stages::Reading::kFirst);
}

// Settled already, by the first pass. All bytes were digested then.
void KeepAfterAll(Stages& stages, const std::shared_ptr<TensorJob>& job) {
  ReadAndKeep(stages, job, Stages::Reading::kAgain);
}

}  // namespace q4
