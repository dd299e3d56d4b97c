// Writes one .q4 file (one shard). Chunks are encoded anywhere, on any thread (q4_chunk.h), and appended in plan
// order by one.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "formats/base/file.h"
#include "formats/q4/chunk.h"
#include "formats/q4/container.h"
#include "formats/q4/parts.h"

namespace q4 {

// Not thread-safe. Calls in another order than documented, or chunks that do not follow the plan, are errors with
// exit code 4 and leave a file that no reader accepts; what Finish() has sealed satisfies every rule of
// docs/format.md.
class Q4Writer {
 public:
  // `index` is the plan: every field final but stats, nested_offset, nested, first_chunk, chunks and provenance, which
  // are filled in while writing. Tensors and files must be sorted by name. Writes the header. `file` must outlive the
  // writer.
  static absl::StatusOr<std::unique_ptr<Q4Writer>> Create(WritableFile* file, Q4Index index);
  // The same for a file that holds the header and the first chunks of the same plan already: until Continue() is
  // called, calls only retrace what is there and nothing is written. AppendStored() stands for Append().
  static absl::StatusOr<std::unique_ptr<Q4Writer>> Resume(WritableFile* file, Q4Index index);
  ~Q4Writer();
  Q4Writer(const Q4Writer&) = delete;
  Q4Writer& operator=(const Q4Writer&) = delete;

  // Starts the segment of an embedded file or of a tensor (indices into the plan): aligned, zero padded. Files come
  // first, in index order; then tensors in any order (payload order), each once; all of an owner's chunks follow its
  // Begin, a tensor's part by part, each after its BeginPart(). What has no bytes has no chunk; beginning it is
  // allowed.
  absl::Status BeginFile(std::size_t file);
  absl::Status BeginTensor(std::size_t tensor);
  absl::Status BeginPart(Q4Part part);
  absl::Status Append(const Q4EncodedChunk& chunk);

  // After Resume(): a chunk whose bytes the file holds. Where it lies follows from what was retraced before it: an
  // error with exit code 4 unless that is `chunk.offset`.
  absl::Status AppendStored(const Q4Chunk& chunk);
  // Ends the retracing. The file ends at bytes_written(), or is cut there by the caller, and goes on from there.
  void Continue();

  // Replaces the plan of a tensor whose data asked for another treatment (scheme, nested, encoder, block size,
  // has_stats, dtype); name, shape and elems must be those planned. Before its BeginTensor().
  absl::Status ReviseTensor(std::size_t tensor, const Q4Tensor& revised);

  // What only the data could tell. Before Finish(), for each quantized tensor. `stats` is nullptr for a tensor without.
  void SetTensorResult(std::size_t tensor, bool nested, float nested_offset, const Q4Stats* stats);

  // Writes index and footer. Does not sync or close. `provenance` is the canonical JSON document. Nothing may follow.
  absl::StatusOr<Q4Seal> Finish(std::string provenance);

  // Hands everything appended so far to the file; small writes are gathered before. For whoever syncs in between.
  absl::Status Flush();

  // The size of the file so far, gathered bytes included.
  std::uint64_t bytes_written() const;
  // The chunks appended so far; valid until the next is. index() has them from Finish() on.
  std::span<const Q4Chunk> chunks() const;
  const Q4Index& index() const;

 private:
  struct State;
  static absl::StatusOr<std::unique_ptr<Q4Writer>> Begin(WritableFile* file, Q4Index index, bool retracing);
  explicit Q4Writer(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

// The layout of a container without compression; pure. For --dry-run.
struct Q4LayoutSize {
  std::uint64_t file_bytes = 0;
  std::uint64_t index_bytes = 0;
  std::vector<std::uint64_t> segment_offsets;  // of each tensor, by its index; 0 for one without elements
};

// `index` is a plan as for Q4Writer::Create(), with `has_stats` and `nested` as they will be. `payload_order` lists
// every tensor index in the order in which it will be written, after the embedded files. `provenance_bytes` is the
// length of the document that Finish() will get. Compression can only make the file smaller.
absl::StatusOr<Q4LayoutSize> ComputeQ4Layout(const Q4Index& index, std::span<const std::size_t> payload_order,
                                             std::uint64_t provenance_bytes);

}  // namespace q4
