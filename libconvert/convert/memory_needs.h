// What the stages of a conversion hold, in bytes. Whoever reserves memory from the budget asks here how much, and
// MinimumPipelineMemory() adds up the same functions: memory that is not stated here is never held.
//
// The bound of --max-memory has two halves. The fixed half is set aside before anything is read: scratch of each worker
// and, with a GPU, the ring of page-locked buffers. The other is the budget, from which the admitting thread takes all
// that a slab will ever need before the slab is read (budget.h says why that cannot deadlock).
#pragma once

#include <cstdint>
#include <vector>

#include "formats/q4/chunk.h"
#include "formats/q4/container.h"
#include "formats/source/checkpoint.h"
#include "formats/tensor/tensor.h"
#include "libconvert/encode/feedback_factors.h"
#include "libconvert/engine/slab_engine.h"
#include "libconvert/plan/plan.h"

namespace q4 {

// ---- from the budget

// What a job takes beside the bytes of its tensor, however small that is: itself, its steps, the places of its chunks.
inline constexpr std::uint64_t kJobBytes = 6 << 10;

// A chunk of `raw` bytes from encoding to writing: itself, and when compressing its byte planes and the result too.
std::uint64_t ChunkMemory(std::uint64_t raw, const Q4Compression& compression);

// The source bytes of a slab, as the buffer pool rounds them.
std::uint64_t SourceMemory(const SourceTensor& source, std::uint64_t elems);

// The chunk of codes that a slab of `elems` elements of `tensor` becomes, and its statistics, which wait with it until
// it is written.
std::uint64_t CodeMemory(const Q4Tensor& tensor, std::uint64_t elems, const Q4Compression& compression);

// The data chunks that a slab becomes when it is kept and stored as `stored`.
std::uint64_t KeptMemory(std::uint64_t elems, DType stored, const Q4Compression& compression);

// All scales of a quantized tensor in every form that they take, and the copies that are cut into chunks; and what a
// calibrated encoder knows of its inputs.
std::uint64_t ScaleMemory(const Q4Tensor& tensor, const Q4Compression& compression);

// What a tensor whose codes are chosen as a whole takes beside its scales: elements, codes, decoded scales. While they
// are chosen, SlabEngine::WholeMemory() comes to it.
std::uint64_t WholeTensorMemory(const SourceTensor& source, const Q4Tensor& tensor);

// Whether all slabs of a tensor may stay where `engine` works on them between two passes: they fit half of the memory
// there, so that the next tensor can begin meanwhile. Never with --on-nonfinite keep: then the tensor may turn out to
// be kept, and its data chunks would need more memory than the codes that were reserved for it. `budget_limit`: bytes
// of the whole budget.
bool SlabsFitBetweenPasses(const SourceTensor& source, const Q4Tensor& tensor, const ConvertOptions& options,
                           const SlabEngine& engine, std::uint64_t budget_limit);

// ---- set aside from the beginning to the end

// `engine`: nullptr for this machine's cores. `max_memory`: the whole bound; an engine's ring is a share of it.
std::uint64_t FixedMemory(const SlabEngine* engine, unsigned threads, std::uint64_t max_memory);

// How many threads read, of a conversion on `threads` workers. One keeps two or three cores supplied; more than eight
// do not read faster.
unsigned ReaderThreads(unsigned threads);
// What they take beside the elements that they read.
std::uint64_t ReadMemory(const ConversionPlan& plan, unsigned threads);
// What is known of every tensor and chunk from the beginning to the end: in the checkpoint, the plan, the writers and
// the journal. Only what exceeds kIndexAllowance (base/budget.h).
std::uint64_t IndexMemory(const ConversionPlan& plan);

// The tensors of a plan whose codes are chosen as a whole, in the order of the plan.
std::vector<FeedbackUse> FeedbackUses(const Checkpoint& checkpoint, const ConversionPlan& plan);

// ---- both

// The least RunOptions::max_memory with which `plan` can be converted on `threads` threads: what the tensor or embedded
// file with the greatest need takes while nothing else is in flight. `engine` and `max_memory` as above; without them
// this is what --dry-run prints.
std::uint64_t MinimumPipelineMemory(const Checkpoint& checkpoint, const ConversionPlan& plan,
                                    const ConvertOptions& options, unsigned threads, const SlabEngine* engine = nullptr,
                                    std::uint64_t max_memory = 0);

// What is set aside for factors that several tensors have in common: room for all of them if half of what the bound has
// above the least memory is enough, else that half. Without room each tensor makes its own, to the same bytes.
std::uint64_t FactorRoom(const Checkpoint& checkpoint, const ConversionPlan& plan, const ConvertOptions& options,
                         unsigned threads, const SlabEngine* engine, std::uint64_t max_memory);

}  // namespace q4
