// A weight of bitsandbytes that is taken over: codes and scales are read where its parts lie, cut into chunks and
// written as they are. One pass; each chunk is a step of its own. Nothing is computed: that scales are finite and not
// negative is all that is asked, because no reader could do anything with others (F3.6).
//
// The digest of the source reads these bytes by itself (FileHasher): they are no elements.
#include <fmt/format.h>

#include <cmath>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "formats/bnb/taken_over.h"
#include "formats/q4/parts.h"
#include "libconvert/convert/memory_needs.h"
#include "libconvert/convert/treat.h"
#include "libconvert/model/model_issues.h"

namespace q4 {
namespace {

// `from`: the tensor of the file that `bytes` are of, from its scale number `first` on. Scales of blocks may have
// either sign, as encoders that search give them; group scales have none.
absl::Status CheckScales(const Checkpoint& checkpoint, const SourceTensor& from, Q4Part kind,
                         std::span<const std::uint8_t> bytes, std::uint64_t first) {
  for (std::uint64_t i = 0; i < bytes.size() / sizeof(float); ++i) {
    float scale = 0;
    std::memcpy(&scale, bytes.data() + i * sizeof(float), sizeof(float));
    if (std::isfinite(scale) && (kind == Q4Part::kScales || !std::signbit(scale))) continue;
    return Fail(kBnbScale, checkpoint.FileOf(from).path(), fmt::format("tensor '{}', element {}", from.name, first + i),
                fmt::format("got {}", scale));
  }
  return absl::OkStatus();
}

}  // namespace

void TreatCopied(Stages& stages, const std::shared_ptr<TensorJob>& job) {
  job->settlement.Settle(job->tensor);
  const std::vector<SourceTensor>& parts = job->source->bnb->parts;
  const std::span<const Q4Part> kinds = Q4PartKindsOf(job->tensor);
  job->output_memory.resize(Q4ChunkCountOf(job->tensor));
  for (std::size_t p = 0; p < kinds.size(); ++p) {
    const Q4Part kind = kinds[p];
    const SourceTensor& from = parts[p];
    const std::uint64_t item = ItemSize(from.dtype), size = Q4ChunkRawSize(kind);
    for (std::uint64_t at = 0; at < from.bytes; at += size) {
      const std::uint64_t bytes = std::min(size, from.bytes - at), chunk = at / size;
      const std::uint64_t number = ChunkNumber(job->tensor, kind, chunk);
      job->output_memory[number] = stages.Reserve(ChunkMemory(bytes, stages.options().compression));
      stages.Read(
          job, from, at / item, bytes / item, Stages::Reading::kAgain,
          [job, number](const absl::Status& status) { job->chunks.Fail(number, status); },
          [&stages, &from, job, kind, chunk, number, at](const std::shared_ptr<Buffer>& x) {
            const std::span<const std::uint8_t> read(x->data(), x->size());
            if (kind == Q4Part::kScales || kind == Q4Part::kScales2) {
              const absl::Status status =
                  CheckScales(stages.conversion().checkpoint, from, kind, read, at / sizeof(float));
              if (!status.ok()) return job->chunks.Fail(number, status);
            }
            FinishedChunk finished;
            finished.source_bytes = read.size();
            finished.memory = std::move(job->output_memory[number]);
            stages.Encode(*job, kind, chunk, {read.begin(), read.end()}, std::move(finished));
          });
    }
  }
}

}  // namespace q4
