// An embedded file: read chunk by chunk and encoded on the admitting thread itself. Companion files are small beside
// the weights and come first in the output, so that steps on other threads would gain nothing. They are not digested as
// sources are: the container holds them whole.
#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "libconvert/convert/memory_needs.h"
#include "libconvert/convert/source_check.h"
#include "libconvert/convert/treat.h"

namespace q4 {

void TreatFile(Stages& stages, const std::shared_ptr<FileJob>& job) {
  const Conversion& conversion = stages.conversion();
  const CompanionFile& companion = conversion.plan.shards[job->shard].files[job->owner];
  const std::uint64_t chunks = job->bytes / kQ4ChunkBytes + (job->bytes % kQ4ChunkBytes != 0);
  const absl::StatusOr<std::unique_ptr<RandomAccessFile>> file = OpenCompanion(conversion.fs, companion);
  // Nothing is read of an empty one, but it must be empty still; the committer waits for this word.
  if (chunks == 0) return file.ok() ? job->chunks.Put(0, {}) : job->chunks.Fail(0, file.status());
  for (std::uint64_t chunk = 0; chunk < chunks; ++chunk) {
    if (!file.ok()) return job->chunks.Fail(chunk, file.status());
    const std::uint64_t at = chunk * kQ4ChunkBytes, bytes = std::min(kQ4ChunkBytes, job->bytes - at);
    FinishedChunk finished;
    finished.memory = stages.Reserve(ChunkMemory(bytes, conversion.options.compression));
    std::vector<std::uint8_t> raw(bytes);
    absl::Status read = (*file)->ReadAt(at, raw);
    // After the last byte: the file must not be embedded half as it was and half as it is.
    if (read.ok() && chunk + 1 == chunks) read = (*file)->CheckUnchanged();
    if (!read.ok()) return job->chunks.Fail(chunk, read);
    stages.Encode(*job, {Q4ChunkPlace::Section::kFile, job->owner, chunk}, /*planes=*/1, std::move(raw),
                  std::move(finished));
  }
}

}  // namespace q4
