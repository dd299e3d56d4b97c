// Two ways to compare. Containers know the digest of every chunk, so two of them are compared without reading most of
// their payload (DiffContainers). Everything else is read through one interface for tensors of any origin
// (DiffByReading). Both first ask whether a tensor is stored alike, by its description as text; only then whether its
// bytes are the same. What differs is decoded at the end and measured.
#include "libconvert/inspect/diff.h"

#include <algorithm>
#include <bit>
#include <map>
#include <memory>
#include <set>
#include <span>

#include "fmt/format.h"
#include "formats/base/limits.h"
#include "formats/base/status.h"
#include "formats/q4/parts.h"
#include "formats/q4/reader.h"
#include "formats/source/companions.h"
#include "libconvert/inspect/inspect.h"
#include "libconvert/model/content_identity.h"
#include "libconvert/model/open_model.h"
#include "libconvert/model/provenance_view.h"
#include "libconvert/model/stats.h"
#include "libconvert/model/stored_tensor.h"
#include "libconvert/scheme/treatment.h"

namespace q4 {
namespace {

// Consecutive chunks of one file: a part of a tensor, or an embedded file.
struct ChunkExtent {
  const Q4Reader* reader;
  std::uint64_t first;
  std::uint64_t count;
};

// SHA-256 is over stored bytes, so equal digests and codecs mean equal content. Unequal ones mean unequal content only
// if nothing is compressed: two zstd frames may hold the same bytes.
absl::StatusOr<bool> SameChunk(const Q4Reader& left, std::uint64_t left_chunk, const Q4Reader& right,
                               std::uint64_t right_chunk) {
  // From cheap to dear: sizes, digests, then the bytes.
  const Q4Chunk& a = left.index().chunks[left_chunk];
  const Q4Chunk& b = right.index().chunks[right_chunk];
  if (a.raw_bytes != b.raw_bytes) return false;
  if (a.codec == b.codec && a.plane_bytes == b.plane_bytes && a.sha256 == b.sha256) return true;
  if (a.codec == Q4Codec::kStored && b.codec == Q4Codec::kStored) return false;
  Q4_ASSIGN_OR_RETURN(const std::vector<std::uint8_t> bytes_a, left.ReadChunk(left_chunk));
  Q4_ASSIGN_OR_RETURN(const std::vector<std::uint8_t> bytes_b, right.ReadChunk(right_chunk));
  return bytes_a == bytes_b;
}

// Chunk by chunk, until one differs.
absl::StatusOr<bool> SameChunks(const ChunkExtent& left, const ChunkExtent& right) {
  if (left.count != right.count) return false;
  for (std::uint64_t i = 0; i < left.count; ++i) {
    Q4_ASSIGN_OR_RETURN(const bool same, SameChunk(*left.reader, left.first + i, *right.reader, right.first + i));
    if (!same) return false;
  }
  return true;
}

// Whether two tensors of containers have the same content. REQUIRES: they are stored alike, so they have the same
// parts.
absl::StatusOr<bool> SameContent(const Q4Reader& left, const Q4Tensor& a, const Q4Reader& right, const Q4Tensor& b) {
  // The offset lies in the index and in no chunk.
  if (std::bit_cast<std::uint32_t>(a.nested_offset) != std::bit_cast<std::uint32_t>(b.nested_offset)) return false;
  const Q4PartList parts_a = a.parts(), parts_b = b.parts();
  for (std::size_t i = 0; i < parts_a.size(); ++i) {
    Q4_ASSIGN_OR_RETURN(const bool same, SameChunks({&left, parts_a[i].first_chunk, parts_a[i].chunk_count},
                                                    {&right, parts_b[i].first_chunk, parts_b[i].chunk_count}));
    if (!same) return false;
  }
  return true;
}

// What a tensor is, on one line, for reports and for comparing: shape, treatment, and the dtype that it decodes to.
std::string StoredAs(const Q4Tensor& tensor) {
  std::string text = ShapeString(tensor.shape) + " " + TreatmentName(tensor);
  if (tensor.quantized()) text += fmt::format(" of {}", DTypeName(tensor.dtype));
  return text;
}

// All tensors of two containers: each of the left by its name in the right, then those that the right alone has.
absl::Status DiffTensors(const Q4Model& left, const Q4Model& right, const KernelTable& kernels, DiffReport* report) {
  for (const Q4Model::Location& at : left.tensors()) {
    const Q4Tensor& a = left.tensor(at);
    const Q4Model::Location* other = right.Find(a.name);
    if (other == nullptr) {
      report->removed.push_back(a.name);
      continue;
    }
    const Q4Tensor& b = right.tensor(*other);
    // Filled before it is known whether anything changed: the two descriptions are what is compared first.
    TensorChange change{a.name, StoredAs(a), StoredAs(b), false, {}, {}, {}};
    // The name of a treatment is silent of an encoder that everybody expects.
    if (change.before == change.after && a.encoder != b.encoder) {
      change.before += fmt::format(" ({})", Q4EncoderName(a.encoder));
      change.after += fmt::format(" ({})", Q4EncoderName(b.encoder));
    }
    if (change.before == change.after) {
      Q4_ASSIGN_OR_RETURN(const bool same, SameContent(left.reader(at), a, right.reader(*other), b));
      change.content_differs = !same;
    }
    if (change.before == change.after && !change.content_differs) {
      ++report->equal_tensors;
      continue;
    }
    if (a.quantized() && b.quantized() && a.encoder != b.encoder) ++report->encoders[{a.encoder, b.encoder}];
    if (a.has_stats) change.nmse_before = Derive(*a.stats).nmse;
    if (b.has_stats) change.nmse_after = Derive(*b.stats).nmse;
    // Also if it is stored differently: the change of values is what matters then.
    Q4_ASSIGN_OR_RETURN(change.delta, CompareDecoded(kernels, ReadableFrom(left, at), ReadableFrom(right, *other)));
    report->changed.push_back(std::move(change));
  }
  for (const Q4Model::Location& at : right.tensors()) {
    const std::string& name = right.tensor(at).name;
    if (left.Find(name) == nullptr) report->added.push_back(name);
  }
  return absl::OkStatus();
}

// Equal for tensors of equal content, and for others only by accident: to find candidates for a rename by. The first
// chunk stands for all; SameContent() decides.
std::string ContentKey(const Q4Model& model, const Q4Model::Location& at) {
  const Q4Tensor& tensor = model.tensor(at);
  // Tensors that are stored differently are no rename, whatever they hold.
  std::string key = StoredAs(tensor);
  // An empty tensor has no chunk; its description is all of it.
  if (tensor.elems != 0) {
    const Q4Chunk& first = model.reader(at).index().chunks[tensor.first_chunk];
    key.append(first.sha256.begin(), first.sha256.end());
  }
  return key;
}

// Moves pairs of a removed and an added tensor with the same content to `renamed`. Tensors that are stored in other
// bytes, compressed or not, are not recognised.
absl::Status FindRenames(const Q4Model& left, const Q4Model& right, DiffReport* report) {
  // Of several added tensors with one content the first is taken, and each is taken once.
  std::map<std::string, std::string> added;  // content key -> name
  for (const std::string& name : report->added) added.emplace(ContentKey(right, *right.Find(name)), name);
  std::vector<std::string> removed;
  std::set<std::string> taken;  // of the added ones
  for (const std::string& name : report->removed) {
    const Q4Model::Location& at = *left.Find(name);
    const auto twin = added.find(ContentKey(left, at));
    bool same = false;
    // A candidate by its first chunk; all of them must be equal.
    if (twin != added.end()) {
      const Q4Model::Location& other = *right.Find(twin->second);
      Q4_ASSIGN_OR_RETURN(same,
                          SameContent(left.reader(at), left.tensor(at), right.reader(other), right.tensor(other)));
    }
    if (!same) {
      removed.push_back(name);
      continue;
    }
    report->renamed.push_back({name, twin->second});
    taken.insert(twin->second);
    // Each added tensor is the new name of one removed tensor at most.
    added.erase(twin);
  }
  std::erase_if(report->added, [&taken](const std::string& name) { return taken.contains(name); });
  report->removed = std::move(removed);
  return absl::OkStatus();
}

// The embedded files of all shards; names are unique in a model.
std::map<std::string, ChunkExtent> FilesOf(const Q4Model& model) {
  std::map<std::string, ChunkExtent> files;
  for (const auto& shard : model.shards()) {
    for (const Q4EmbeddedFile& file : shard->index().files) {
      files.emplace(file.name, ChunkExtent{shard.get(), file.first_chunk, file.chunk_count});
    }
  }
  return files;
}

// Embedded files of two containers, by digests as tensors are.
absl::Status DiffFiles(const Q4Model& left, const Q4Model& right, DiffReport* report) {
  const std::map<std::string, ChunkExtent> before = FilesOf(left), after = FilesOf(right);
  for (const auto& [name, chunks] : before) {
    const auto other = after.find(name);
    if (other == after.end()) {
      report->files_removed.push_back(name);
      continue;
    }
    Q4_ASSIGN_OR_RETURN(const bool same, SameChunks(chunks, other->second));
    if (!same) report->files_changed.push_back(name);
  }
  for (const auto& [name, chunks] : after) {
    if (!before.contains(name)) report->files_added.push_back(name);
  }
  return absl::OkStatus();
}

// One of the two models that are compared by reading them. The tensors point into the model.
struct Side {
  OpenedModel model;
  std::vector<ReadableTensor> tensors;  // bytewise sorted by name
};

// A container is opened like a checkpoint here, and its tensors look the same.
absl::StatusOr<Side> OpenSide(FileSystem& fs, const std::string& path, const OpenOptions& options) {
  Side side;
  Q4_ASSIGN_OR_RETURN(side.model, OpenModel(fs, path, options));
  Q4_ASSIGN_OR_RETURN(side.tensors, TensorsOf(side.model));
  return side;
}

// Whether two ranges of a part are equal. `ends_in_padding`: the low half of the last byte is no code, and bitsandbytes
// fills it as it likes.
bool SameBytes(std::span<const std::uint8_t> a, std::span<const std::uint8_t> b, bool ends_in_padding) {
  if (!ends_in_padding) return std::equal(a.begin(), a.end(), b.begin(), b.end());
  const std::size_t before = a.size() - 1;
  return SameBytes(a.first(before), b.first(before), false) && (a.back() & 0xF0) == (b.back() & 0xF0);
}

// Whether two tensors of any origin have the same content, part by part. REQUIRES: they are stored alike.
absl::StatusOr<bool> SameParts(const ReadableTensor& left, const ReadableTensor& right) {
  const Q4Tensor& tensor = left.tensor;
  // Only nested scales have an offset; elsewhere the field means nothing.
  if (tensor.nested &&
      std::bit_cast<std::uint32_t>(tensor.nested_offset) != std::bit_cast<std::uint32_t>(right.tensor.nested_offset)) {
    return false;
  }
  for (const Q4Part part : Q4PartKindsOf(tensor)) {
    // In ranges of a chunk, so that a container's chunk is read once and memory stays small.
    const std::uint64_t bytes = Q4PartRawBytes(tensor, part), piece = Q4ChunkRawSize(part);
    for (std::uint64_t begin = 0; begin < bytes; begin += piece) {
      const std::uint64_t count = std::min(piece, bytes - begin);
      Q4_ASSIGN_OR_RETURN(const PartBytes a, left.parts->Read(part, begin, count));
      Q4_ASSIGN_OR_RETURN(const PartBytes b, right.parts->Read(part, begin, count));
      const bool ends_in_padding = part == Q4Part::kCodes && tensor.elems % 2 != 0 && begin + count == bytes;
      if (!SameBytes(a.bytes(), b.bytes(), ends_in_padding)) return false;
    }
  }
  return true;
}

// All tensors of two models of any kind, read from both sides.
absl::Status DiffReadable(const Side& left, const Side& right, const KernelTable& kernels, DiffReport* report) {
  // Both lists are sorted by name, so that they are merged.
  auto a = left.tensors.begin(), b = right.tensors.begin();
  while (a != left.tensors.end() || b != right.tensors.end()) {
    if (b == right.tensors.end() || (a != left.tensors.end() && a->tensor.name < b->tensor.name)) {
      report->removed.push_back(a++->tensor.name);
      continue;
    }
    if (a == left.tensors.end() || b->tensor.name < a->tensor.name) {
      report->added.push_back(b++->tensor.name);
      continue;
    }
    TensorChange change{a->tensor.name, StoredAs(a->tensor), StoredAs(b->tensor), false, {}, {}, {}};
    bool same = change.before == change.after;
    if (same) {
      // Of tensors that are stored differently nothing is read here, but they are measured below.
      Q4_ASSIGN_OR_RETURN(same, SameParts(*a, *b));
      change.content_differs = !same;
    }
    if (same) {
      ++report->equal_tensors;
    } else {
      Q4_ASSIGN_OR_RETURN(change.delta, CompareDecoded(kernels, *a, *b));
      report->changed.push_back(std::move(change));
    }
    ++a;
    ++b;
  }
  return absl::OkStatus();
}

// Byte by byte, 1 MiB of each at a time.
absl::StatusOr<bool> SameContent(FileSystem& fs, const CompanionFile& left, const CompanionFile& right) {
  Q4_ASSIGN_OR_RETURN(const auto a, OpenCarried(fs, left));
  Q4_ASSIGN_OR_RETURN(const auto b, OpenCarried(fs, right));
  if (a->size() != b->size()) return false;
  std::vector<std::uint8_t> piece, other;
  for (std::uint64_t at = 0; at < a->size(); at += piece.size()) {
    piece.resize(std::min<std::uint64_t>(a->size() - at, std::uint64_t{1} << 20));
    other.resize(piece.size());
    Q4_RETURN_IF_ERROR(a->ReadAt(at, piece));
    Q4_RETURN_IF_ERROR(b->ReadAt(at, other));
    if (piece != other) return false;
  }
  return true;
}

// The files beside two checkpoints.
absl::Status DiffCompanions(FileSystem& fs, const Checkpoint& left, const Checkpoint& right, DiffReport* report) {
  std::map<std::string, const CompanionFile*> after;  // by name
  for (const CompanionFile& file : right.companions()) after.emplace(file.name, &file);
  for (const CompanionFile& file : left.companions()) {
    const auto other = after.find(file.name);
    if (other == after.end()) {
      report->files_removed.push_back(file.name);
      continue;
    }
    Q4_ASSIGN_OR_RETURN(const bool same, SameContent(fs, file, *other->second));
    if (!same) report->files_changed.push_back(file.name);
    // What is left in the end is on the right side alone.
    after.erase(other);
  }
  for (const auto& [name, file] : after) report->files_added.push_back(name);
  return absl::OkStatus();
}

ModelStats RecordedError(const Q4Model& model) {
  ModelStats error;
  for (const Q4Model::Location& at : model.tensors()) {
    const Q4Tensor& tensor = model.tensor(at);
    if (tensor.has_stats) AddTensor(tensor.name, *tensor.stats, &error);
  }
  return error;
}

std::uint64_t BytesOf(const Q4Model& model) {
  std::uint64_t bytes = 0;
  for (const auto& shard : model.shards()) bytes += shard->seal().file_bytes;
  return bytes;
}

std::uint64_t BytesOf(const OpenedModel& model) {
  if (model.container != nullptr) return BytesOf(*model.container);
  std::uint64_t bytes = 0;
  for (const CheckpointFile& file : model.checkpoint->files()) bytes += file.file->size();
  return bytes;
}

// Two containers. Renames are looked for after all tensors were compared by name.
absl::Status DiffContainers(FileSystem& fs, const DiffOptions& options, DiffReport* report) {
  Q4_ASSIGN_OR_RETURN(const std::unique_ptr<Q4Model> left, OpenContainer(fs, report->left, options.root));
  Q4_ASSIGN_OR_RETURN(const std::unique_ptr<Q4Model> right, Q4Model::Open(fs, report->right));
  // No shortcut: the report counts the equal tensors in any case, and their digests are at hand.
  report->containers = true;
  report->same_root = left->root() == right->root();
  report->left_content = ContentIdentityOfIndex(*left);
  report->right_content = ContentIdentityOfIndex(*right);
  report->left_bytes = BytesOf(*left);
  report->right_bytes = BytesOf(*right);
  report->left_error = RecordedError(*left);
  report->right_error = RecordedError(*right);
  report->provenance_differs = ModelProvenance(*left) != ModelProvenance(*right);
  Q4_RETURN_IF_ERROR(DiffTensors(*left, *right, *options.kernels, report));
  Q4_RETURN_IF_ERROR(FindRenames(*left, *right, report));
  return DiffFiles(*left, *right, report);
}

// Two models of which one at least is no container. Renames are not looked for: without digests every removed tensor
// would have to be read against every added one.
absl::Status DiffByReading(FileSystem& fs, const DiffOptions& options, DiffReport* report) {
  Q4_ASSIGN_OR_RETURN(const Side left, OpenSide(fs, report->left, options.open));
  Q4_ASSIGN_OR_RETURN(const Side right, OpenSide(fs, report->right, options.open));
  if (left.model.container != nullptr) Q4_RETURN_IF_ERROR(left.model.container->RequireRoot(options.root));
  report->left_bytes = BytesOf(left.model);
  report->right_bytes = BytesOf(right.model);
  Q4_RETURN_IF_ERROR(DiffReadable(left, right, *options.kernels, report));
  // An export writes files of its own, and the embedded ones of a container are those of its source.
  report->files_compared = left.model.checkpoint != nullptr && right.model.checkpoint != nullptr;
  if (!report->files_compared) return absl::OkStatus();
  return DiffCompanions(fs, *left.model.checkpoint, *right.model.checkpoint, report);
}

}  // namespace

absl::StatusOr<DiffReport> DiffModels(FileSystem& fs, const std::string& left, const std::string& right,
                                      const DiffOptions& options) {
  // Values are decoded on this thread.
  const ScopedFloatEnvironment environment;
  DiffReport report;
  report.left = left;
  report.right = right;
  Q4_ASSIGN_OR_RETURN(const bool left_is_container, IsQ4Container(fs, left));
  Q4_ASSIGN_OR_RETURN(const bool right_is_container, IsQ4Container(fs, right));
  Q4_RETURN_IF_ERROR(left_is_container && right_is_container ? DiffContainers(fs, options, &report)
                                                             : DiffByReading(fs, options, &report));
  return report;
}

}  // namespace q4
