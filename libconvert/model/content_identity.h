// The content identity of a model (docs/format.md F7.8): one value for its tensors, their settings and the embedded
// files, whoever wrote them, in whatever shards, compressed or not. It tells an upgrade of q4 from a change of the
// model. The root identifies the file as it lies there, and only that is to be signed.
#pragma once

#include <optional>

#include "absl/status/statusor.h"
#include "formats/q4/reader.h"
#include "libconvert/base/progress.h"

namespace q4 {

// By the index alone, which lists SHA-256 of stored bytes. nullopt where a chunk is compressed, or a shard is missing.
// Costs a digest of about 100 bytes a tensor and 32 a chunk.
std::optional<Sha256> ContentIdentityOfIndex(const Q4Model& model);

// The same, reading what is compressed on so many threads (REQUIRES: at least 1), at most 24 MiB each. Errors: those of
// Q4Reader::ReadChunk(); kContentInterrupted (exit code 7) once `cancel` is set, which may be nullptr. REQUIRES: all
// shards of the model are there.
absl::StatusOr<Sha256> ContentIdentity(const Q4Model& model, unsigned threads, CancelFlag* cancel);

}  // namespace q4
