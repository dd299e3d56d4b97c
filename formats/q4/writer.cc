// Order of things: Create writes the header, Append pads and writes chunk after chunk and notes where each lies, Finish
// completes the index from these notes, has it validated by the reader's own rules, and writes index and footer. So no
// file leaves here that a reader would refuse.
//
// A replay makes the same calls without writing. It leaves the writer in the state that it had when the interrupted run
// had appended the same chunks, and the rest of the file then comes out byte for byte the same.
#include "formats/q4/writer.h"

#include <algorithm>
#include <utility>

#include "fmt/format.h"
#include "formats/base/byte_writer.h"
#include "formats/base/checked_math.h"
#include "formats/base/limits.h"
#include "formats/q4/index.h"
#include "formats/q4/layout.h"
#include "formats/q4/q4_issues.h"
#include "formats/q4/validate.h"

namespace q4 {
namespace {

// Smaller writes are gathered up to this size: a model can have a hundred thousand small tensors.
constexpr std::size_t kGatherBytes = 1u << 20;

// Calls out of turn, or a plan that breaks a rule: the caller's mistake (exit code 4), not the user's.
absl::Status Misuse(std::string_view path, std::string_view what) { return Fail(kQ4WriterMisuse, path, {}, what); }

// Without overflow checks: offsets here are sums of sizes that were written or validated.
std::uint64_t AlignUp(std::uint64_t offset, std::uint64_t alignment) {
  return (offset + alignment - 1) / alignment * alignment;
}

// The rules that a plan must hold before anything is written. Files are given their chunks, which follow from their
// sizes; tensors get theirs when they begin.
absl::Status PreparePlan(Q4Index* index, std::string_view path) {
  std::uint64_t first_chunk = 0;
  for (Q4EmbeddedFile& file : index->files) {
    Q4_RETURN_IF_ERROR(ValidateQ4File(file, path));
    file.first_chunk = first_chunk;
    file.chunk_count = CeilDiv(file.raw_bytes, kQ4ChunkBytes);
    first_chunk += file.chunk_count;
  }
  for (const Q4Tensor& tensor : index->tensors) Q4_RETURN_IF_ERROR(ValidateQ4Tensor(tensor, path));
  return absl::OkStatus();
}

}  // namespace

// Behind a pointer, so that the header shows what a caller may do and nothing of how.
struct Q4Writer::State {
  // What was begun last, and so what may come next.
  enum class Phase { kIdle, kInFile, kInTensor, kInPart, kFinished };

  State(WritableFile* f, Q4Index i) : file(f), index(std::move(i)), begun(index.tensors.size()) {}

  // Appends to the file, gathering what is small. What is gathered always comes before what is large, so the order in
  // the file is that of the calls.
  absl::Status Write(std::span<const std::uint8_t> bytes) {
    if (gathered.size() + bytes.size() > kGatherBytes) Q4_RETURN_IF_ERROR(Flush());
    if (bytes.size() >= kGatherBytes) {
      Q4_RETURN_IF_ERROR(WriteOut(bytes));
    } else {
      gathered.insert(gathered.end(), bytes.begin(), bytes.end());
    }
    return absl::OkStatus();
  }

  absl::Status Flush() {
    if (gathered.empty()) return absl::OkStatus();
    Q4_RETURN_IF_ERROR(WriteOut(gathered));
    gathered.clear();
    return absl::OkStatus();
  }

  // Pages go to the disk while more are made, so that the final sync is short.
  absl::Status WriteOut(std::span<const std::uint8_t> bytes) {
    Q4_RETURN_IF_ERROR(file->WriteAt(flushed, bytes));
    file->StartWriteback(flushed, bytes.size());
    flushed += bytes.size();
    return absl::OkStatus();
  }

  // Zeros up to the next multiple (F3.3, F1.4). Less than an alignment, so they are gathered.
  absl::Status PadTo(std::uint64_t multiple) {
    const std::uint64_t padding = AlignUp(size(), multiple) - size();
    return Write(std::vector<std::uint8_t>(padding));
  }

  // Of the file, gathered bytes included: the offset of whatever is appended next.
  std::uint64_t size() const { return flushed + gathered.size(); }
  bool in_segment() const { return phase == Phase::kInFile || phase == Phase::kInPart; }

  WritableFile* file;
  Q4Index index;
  std::vector<Q4Chunk> chunks;       // those of `index` when it is finished
  std::vector<std::uint8_t> header;  // as written; the root covers it
  std::vector<bool> begun;           // tensors whose segment was started
  std::size_t files_begun = 0;
  bool any_tensor_begun = false;
  bool replaying = false;  // the file holds it already: nothing is written
  Phase phase = Phase::kIdle;
  std::uint64_t alignment = 1;         // of the next chunk
  std::vector<std::uint8_t> gathered;  // written but not yet given to `file`
  std::uint64_t flushed = 0;           // given to `file`; where the next write goes
};

Q4Writer::Q4Writer(std::unique_ptr<State> state) : state_(std::move(state)) {}
Q4Writer::~Q4Writer() = default;

absl::StatusOr<std::unique_ptr<Q4Writer>> Q4Writer::Create(WritableFile* file, Q4Index index) {
  return Begin(file, std::move(index), /*replaying=*/false);
}

absl::StatusOr<std::unique_ptr<Q4Writer>> Q4Writer::Resume(WritableFile* file, Q4Index index) {
  return Begin(file, std::move(index), /*replaying=*/true);
}

// Create and Resume differ in one thing: whether the header is still to be written or lies in the file already.
absl::StatusOr<std::unique_ptr<Q4Writer>> Q4Writer::Begin(WritableFile* file, Q4Index index, bool replaying) {
  // A plan says nothing about these.
  index.version = kQ4FormatVersion;
  index.chunks = {};
  if (absl::Status plan = PreparePlan(&index, file->path()); !plan.ok()) return Misuse(file->path(), MessageOf(plan));
  ByteWriter header;
  Q4Header{index.version, index.required_features, 0, index.file_id, index.shard, index.shard_count}.EncodeTo(&header);
  auto state = std::make_unique<State>(file, std::move(index));
  state->header = header.Take();
  state->replaying = replaying;
  if (replaying) {
    state->flushed = state->header.size();
  } else {
    state->gathered = state->header;
  }
  return std::unique_ptr<Q4Writer>(new Q4Writer(std::move(state)));
}

// Files come first and in order, because their records state no first chunk (F3.2).
absl::Status Q4Writer::BeginFile(std::size_t file) {
  State& s = *state_;
  if (s.phase == State::Phase::kFinished || s.any_tensor_begun || file != s.files_begun ||
      file >= s.index.files.size()) {
    return Misuse(s.file->path(), fmt::format("embedded file {} out of turn", file));
  }
  ++s.files_begun;
  s.phase = State::Phase::kInFile;
  s.alignment = kQ4SegmentAlignment;
  return absl::OkStatus();
}

// Tensors may come in any order: each notes its first chunk. The padding is written with the first chunk, so that a
// tensor without elements leaves no trace.
absl::Status Q4Writer::BeginTensor(std::size_t tensor) {
  State& s = *state_;
  if (s.phase == State::Phase::kFinished || tensor >= s.begun.size() || s.begun[tensor]) {
    return Misuse(s.file->path(), fmt::format("tensor {} out of turn", tensor));
  }
  s.begun[tensor] = true;
  s.index.tensors[tensor].first_chunk = s.index.tensors[tensor].elems == 0 ? 0 : s.chunks.size();
  s.any_tensor_begun = true;
  s.phase = State::Phase::kInTensor;
  s.alignment = kQ4SegmentAlignment;
  return absl::OkStatus();
}

// Only the padding depends on which part it is; that all parts come, and in order, is seen by Finish().
absl::Status Q4Writer::BeginPart(Q4Part part) {
  State& s = *state_;
  if (s.phase != State::Phase::kInTensor && s.phase != State::Phase::kInPart) {
    return Misuse(s.file->path(), fmt::format("{} outside of a tensor", Q4PartName(part)));
  }
  // The first chunk of a segment keeps the larger alignment, which an empty part before it has not used up.
  if (s.phase == State::Phase::kInPart && s.alignment == 1) s.alignment = kQ4PartAlignment;
  s.phase = State::Phase::kInPart;
  return absl::OkStatus();
}

absl::Status Q4Writer::Append(const Q4EncodedChunk& chunk) {
  State& s = *state_;
  // Sizes and codecs are not compared here: Finish() has ValidateQ4Index() do it, by the reader's rules.
  if (!s.in_segment() || s.replaying || chunk.stored.size() != chunk.entry.stored_bytes) {
    return Misuse(s.file->path(), fmt::format("chunk {} out of turn", s.chunks.size()));
  }
  Q4_RETURN_IF_ERROR(s.PadTo(s.alignment));
  s.alignment = 1;
  s.chunks.push_back(chunk.entry);
  s.chunks.back().offset = s.size();
  return s.Write(chunk.stored);
}

// Computes the place as Append() would. A chunk that lies elsewhere means a journal of another plan or another build.
absl::Status Q4Writer::AppendStored(const Q4Chunk& chunk) {
  State& s = *state_;
  if (!s.in_segment() || !s.replaying) {
    return Misuse(s.file->path(), fmt::format("chunk {} out of turn", s.chunks.size()));
  }
  s.flushed = AlignUp(s.flushed, s.alignment);  // nothing is gathered while replaying
  s.alignment = 1;
  if (chunk.offset != s.size()) {
    return Misuse(s.file->path(), fmt::format("chunk {} lies elsewhere", s.chunks.size()));
  }
  s.chunks.push_back(chunk);
  s.flushed += chunk.stored_bytes;
  return absl::OkStatus();
}

void Q4Writer::Continue() { state_->replaying = false; }

// Before its segment has begun, nothing that was written depends on the treatment of a tensor.
absl::Status Q4Writer::ReviseTensor(std::size_t tensor, const Q4Tensor& revised) {
  State& s = *state_;
  if (tensor >= s.begun.size() || s.begun[tensor]) {
    return Misuse(s.file->path(), fmt::format("tensor {} revised too late", tensor));
  }
  Q4Tensor& planned = s.index.tensors[tensor];
  if (revised.name != planned.name || revised.shape != planned.shape || revised.elems != planned.elems) {
    return Misuse(s.file->path(), "tensor '" + planned.name + "' revised to another one");
  }
  if (absl::Status status = ValidateQ4Tensor(revised, s.file->path()); !status.ok()) {
    return Misuse(s.file->path(), MessageOf(status));
  }
  planned = revised;
  return absl::OkStatus();
}

// Not validated here but in Finish(), when everything about the tensor is known.
void Q4Writer::SetTensorResult(std::size_t tensor, bool nested, float nested_offset, const Q4Stats* stats) {
  Q4Tensor& entry = state_->index.tensors[tensor];
  entry.nested = nested;
  entry.nested_offset = nested_offset;
  entry.has_stats = stats != nullptr;
  entry.stats = stats != nullptr ? std::make_shared<const Q4Stats>(*stats) : nullptr;
}

// Complete, pad, validate, encode, write. The footer is the last thing to reach the file (section 6).
absl::StatusOr<Q4Seal> Q4Writer::Finish(std::string provenance) {
  State& s = *state_;
  const std::string& path = s.file->path();
  if (s.phase == State::Phase::kFinished) return Misuse(path, "finished twice");
  if (s.replaying) return Misuse(path, "finished while retracing");
  s.phase = State::Phase::kFinished;
  s.index.provenance = std::move(provenance);
  s.index.chunks = std::move(s.chunks);
  // Revisions and results may have broken a rule since the plan was checked.
  for (const Q4Tensor& tensor : s.index.tensors) {
    if (absl::Status status = ValidateQ4Tensor(tensor, path); !status.ok()) return Misuse(path, MessageOf(status));
    if (tensor.has_stats && tensor.stats == nullptr) return Misuse(path, "tensor '" + tensor.name + "' has no result");
  }
  Q4_RETURN_IF_ERROR(s.PadTo(kQ4SegmentAlignment));

  Q4Footer footer;
  // Everything below is computed before a byte of it is written: an index that is refused leaves no half of it.
  footer.index_offset = s.size();
  footer.index_bytes = Q4IndexBytes(s.index, s.index.chunks.size(), s.index.provenance.size());
  if (footer.index_bytes > limits::kQ4IndexBytes) {
    return Fail(kQ4IndexTooLarge, path, {}, fmt::format("{} bytes", footer.index_bytes));
  }
  // The reader's own rules, over chunks as they were appended: order of names, one owner each, sizes, places.
  if (const auto owners = ValidateQ4Index(s.index, footer.index_offset, path); !owners.ok()) {
    return Misuse(path, MessageOf(owners.status()));
  }
  const std::vector<std::uint8_t> index = EncodeQ4Index(s.index);
  // Section 6: nothing lies between index and footer, nor behind it.
  footer.file_bytes = footer.index_offset + footer.index_bytes + kQ4FooterBytes;
  footer.index_xxh3 = Xxh3(index, Q4Seed(s.index.file_id, Q4DigestSection::kIndex));
  footer.root = Q4Root(s.header, index);
  ByteWriter tail;
  footer.EncodeTo(s.index.file_id, &tail);
  Q4_RETURN_IF_ERROR(s.Write(index));
  Q4_RETURN_IF_ERROR(s.Write(tail.bytes()));
  Q4_RETURN_IF_ERROR(s.Flush());
  return Q4Seal{footer.root, footer.file_bytes, footer.index_offset, footer.index_bytes};
}

absl::Status Q4Writer::Flush() { return state_->Flush(); }
std::uint64_t Q4Writer::bytes_written() const { return state_->size(); }
std::span<const Q4Chunk> Q4Writer::chunks() const { return state_->chunks; }
const Q4Index& Q4Writer::index() const { return state_->index; }

// The same walk as that of the calls of a writer, with raw sizes instead of chunks. Chunks of a part are adjacent, so a
// part takes its size and no more.
absl::StatusOr<Q4LayoutSize> ComputeQ4Layout(const Q4Index& index, std::span<const std::size_t> payload_order,
                                             std::uint64_t provenance_bytes) {
  Q4LayoutSize layout;
  layout.segment_offsets.resize(index.tensors.size());
  std::uint64_t end = kQ4HeaderBytes;
  std::uint64_t chunk_count = 0;
  for (const Q4EmbeddedFile& file : index.files) {
    Q4_RETURN_IF_ERROR(ValidateQ4File(file, {}));
    if (file.raw_bytes != 0) end = AlignUp(end, kQ4SegmentAlignment) + file.raw_bytes;
    chunk_count += CeilDiv(file.raw_bytes, kQ4ChunkBytes);
  }
  std::vector<bool> seen(index.tensors.size());
  for (const std::size_t i : payload_order) {
    if (i >= seen.size() || seen[i])
      return Misuse({}, fmt::format("tensor {} twice or unknown in the payload order", i));
    seen[i] = true;
    const Q4Tensor& tensor = index.tensors[i];
    Q4_RETURN_IF_ERROR(ValidateQ4Tensor(tensor, {}));
    if (tensor.elems == 0) continue;
    end = AlignUp(end, kQ4SegmentAlignment);
    layout.segment_offsets[i] = end;
    for (const Q4Part part : Q4PartKindsOf(tensor)) end = AlignUp(end, kQ4PartAlignment) + Q4PartRawBytes(tensor, part);
    chunk_count += Q4ChunkCountOf(tensor);
  }
  if (payload_order.size() != index.tensors.size()) return Misuse({}, "payload order lacks a tensor");
  // A million tensors have less than 2^50 chunks (limits::kTensorElements), so that this product does not wrap; and
  // where `end` has, there are more chunks than an index can list.
  layout.index_bytes = Q4IndexBytes(index, chunk_count, provenance_bytes);
  if (layout.index_bytes > limits::kQ4IndexBytes) {
    return Fail(kQ4IndexTooLarge, {}, {}, fmt::format("{} bytes", layout.index_bytes));
  }
  // The index begins at a multiple of 4096 even where there is no chunk (F3.3).
  layout.file_bytes = AlignUp(end, kQ4SegmentAlignment) + layout.index_bytes + kQ4FooterBytes;
  return layout;
}

}  // namespace q4
