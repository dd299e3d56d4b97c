// An embedded file: read chunk by chunk and encoded on the admitting thread itself. Companion files are small beside
// the weights and come first in the output, so that steps on other threads would gain nothing. They are not digested as
// sources are: the container holds them whole.
#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "libconvert/convert/memory_needs.h"
#include "libconvert/convert/treat.h"

namespace q4 {

void TreatFile(Stages& stages, const std::shared_ptr<FileJob>& job) {
  const Conversion& conversion = stages.conversion();
  const CompanionFile& companion = conversion.plan.shards[job->shard].files[job->owner];
  const std::uint64_t chunks = job->bytes / kQ4ChunkBytes + (job->bytes % kQ4ChunkBytes != 0);
  absl::StatusOr<std::unique_ptr<RandomAccessFile>> file = conversion.fs.OpenForRead(companion.path);
  for (std::uint64_t chunk = 0; chunk < chunks; ++chunk) {
    if (!file.ok()) return job->chunks.Fail(chunk, file.status());
    const std::uint64_t at = chunk * kQ4ChunkBytes, bytes = std::min(kQ4ChunkBytes, job->bytes - at);
    FinishedChunk finished;
    finished.memory = stages.Reserve(ChunkMemory(bytes, conversion.options.compression));
    std::vector<std::uint8_t> raw(bytes);
    absl::Status read = (*file)->ReadAt(at, raw);
    // A companion file is opened anew here. One that has another size than the plan says was changed meanwhile.
    if (read.ok() && (*file)->size() != job->bytes) read = (*file)->CheckUnchanged();
    if (!read.ok()) return job->chunks.Fail(chunk, read);
    stages.Encode(*job, {Q4ChunkPlace::Section::kFile, job->owner, chunk}, /*planes=*/1, std::move(raw),
                  std::move(finished));
  }
}

}  // namespace q4
