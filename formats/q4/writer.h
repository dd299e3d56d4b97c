// Writes one .q4 file (one shard). Chunks are encoded anywhere, on any thread (chunk.h), and appended in plan order by
// one. The place of every byte follows from the order of the calls (F3.3), so the same calls give the same file.
//
//   Create, then for each file    BeginFile, Append ...
//   then for each tensor          BeginTensor, for each part (BeginPart, Append ...), SetTensorResult
//   then                          Finish
//
// A file that an earlier run left is continued with Resume, the same calls with AppendStored in place of Append,
// Continue, and then as above.
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

// Not thread-safe. Calls in another order than documented, or chunks that do not follow the plan, are errors with exit
// code 4 (kQ4WriterMisuse) and leave a file that no reader accepts; what Finish() has sealed satisfies every rule of
// docs/format.md. After any error the file is to be given up. Other errors are those of WritableFile.
class Q4Writer {
 public:
  // `index` is the plan: every field final but stats, nested_offset, nested, first_chunk, chunks and provenance, which
  // are filled in while writing. Tensors and files must be sorted by name. Writes the header at offset 0. `file` must
  // outlive the writer and be empty.
  static absl::StatusOr<std::unique_ptr<Q4Writer>> Create(WritableFile* file, Q4Index index);
  // The same for a file that holds the header and the first chunks of the same plan already: until Continue() is
  // called, calls only replay what is there and nothing is written. AppendStored() stands for Append().
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
  // The next chunk of the part or file. `chunk` is encoded with the plan's file id and its place (Q4ChunkPlace); its
  // offset is set here. That its size is the one that the shape asks for is checked by Finish().
  absl::Status Append(const Q4EncodedChunk& chunk);

  // After Resume(): a chunk whose bytes the file holds. Where it lies follows from what was replayed before it: an
  // error with exit code 4 unless that is `chunk.offset`. Its bytes are not read; the caller has checked them.
  absl::Status AppendStored(const Q4Chunk& chunk);
  // Ends the replay. The file ends at bytes_written(), or is cut there by the caller, and is written from there on.
  void Continue();

  // Replaces the plan of a tensor whose data asked for another treatment (scheme, nested, encoder, block size,
  // has_stats, dtype); name, shape and elems must be those planned. Before its BeginTensor(). REQUIRES: `revised`
  // satisfies ValidateQ4Tensor(), or it is an error with exit code 4.
  absl::Status ReviseTensor(std::size_t tensor, const Q4Tensor& revised);

  // What only the data could tell: whether the scales are nested after all, their offset, and the statistics, which are
  // copied. `stats` is nullptr for a tensor without. Before Finish(), for each quantized tensor, in any order.
  // REQUIRES: `tensor` is one of the plan.
  void SetTensorResult(std::size_t tensor, bool nested, float nested_offset, const Q4Stats* stats);

  // Writes index and footer. Does not sync or close. `provenance` is the canonical JSON document. Nothing may follow.
  // kQ4IndexTooLarge (exit code 5) where the index would exceed 256 MiB.
  absl::StatusOr<Q4Seal> Finish(std::string provenance);

  // Hands everything appended so far to the file; small writes are gathered before. Called before a sync that is to
  // cover it.
  absl::Status Flush();

  // The size of the file so far, gathered bytes included.
  std::uint64_t bytes_written() const;
  // The chunks appended so far, replayed ones included; valid until the next is. index() has them from Finish() on.
  std::span<const Q4Chunk> chunks() const;
  const Q4Index& index() const;

 private:
  struct State;
  static absl::StatusOr<std::unique_ptr<Q4Writer>> Begin(WritableFile* file, Q4Index index, bool replaying);
  explicit Q4Writer(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

// The layout of a container without compression: what the plan of a conversion states, and --dry-run prints.
struct Q4LayoutSize {
  std::uint64_t file_bytes = 0;
  std::uint64_t index_bytes = 0;
  // Where the segment of each tensor begins in the file, by its index; 0 for one without elements.
  std::vector<std::uint64_t> segment_offsets;
};

// The layout that a Q4Writer would make of the plan if no chunk were compressed; pure. Compression can only make the
// file smaller.
//
// `index` is a plan as for Q4Writer::Create(), with `has_stats` and `nested` as they will be. `payload_order` lists
// every tensor index in the order in which it will be written, after the embedded files. `provenance_bytes` is the
// length of the document that Finish() will get. kQ4IndexTooLarge (exit code 5), kQ4WriterMisuse for an order that is
// no permutation, and what ValidateQ4Tensor() and ValidateQ4File() say.
absl::StatusOr<Q4LayoutSize> ComputeQ4Layout(const Q4Index& index, std::span<const std::size_t> payload_order,
                                             std::uint64_t provenance_bytes);

}  // namespace q4
