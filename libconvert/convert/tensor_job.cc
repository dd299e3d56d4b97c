// The numbering of a tensor's chunks. It follows from the treatment alone, so that whoever makes, commits or replays a
// chunk gets the same number.
#include "libconvert/convert/tensor_job.h"

#include "formats/q4/parts.h"

namespace q4 {

void TensorJob::Abort(const absl::Status& status) {
  // The committing thread waits for one of the two, and which one is not known.
  settlement.Settle(status);
  Job::Abort(status);
}

void QuantizedJob::Abort(const absl::Status& status) {
  scales_settled.Settle(status);
  TensorJob::Abort(status);
}

std::uint64_t ChunksOfPart(const Q4Tensor& tensor, Q4Part part) {
  const std::uint64_t bytes = Q4PartRawBytes(tensor, part), size = Q4ChunkRawSize(part);
  return bytes / size + (bytes % size != 0);
}

std::uint64_t ChunkNumber(const Q4Tensor& tensor, Q4Part part, std::uint64_t chunk) {
  std::uint64_t number = chunk;
  for (const Q4Part before : Q4PartKindsOf(tensor)) {
    if (before == part) break;
    number += ChunksOfPart(tensor, before);
  }
  return number;
}

}  // namespace q4
