// Chunks are read, checked and encoded on all threads, and appended in the order of the plan by one at a time. Work is
// cut by chunk, never by thread, so that no byte depends on their number.
#include "libconvert/repack/repack.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <set>
#include <utility>

#include "fmt/format.h"
#include "formats/base/digest.h"
#include "formats/base/status.h"
#include "formats/publish/atomic_file.h"
#include "formats/q4/parts.h"
#include "formats/q4/q4_issues.h"
#include "formats/q4/shards.h"
#include "formats/q4/verify.h"
#include "formats/q4/writer.h"
#include "libconvert/base/budget.h"
#include "libconvert/base/machine.h"
#include "libconvert/base/parallel.h"
#include "libconvert/base/run_issues.h"
#include "libconvert/output/output_issues.h"
#include "libconvert/output/replace.h"
#include "libconvert/repack/repack_issues.h"

namespace q4 {
namespace {

// A chunk that will be written. Those of one owner follow each other, part by part.
struct RepackedChunk {
  const Q4Reader* reader = nullptr;         // nullptr: of an added file
  const RandomAccessFile* added = nullptr;  // then this one
  std::uint64_t from = 0;                   // chunk of the reader, or first byte of the file
  std::uint32_t raw_bytes = 0;
  std::uint32_t shard = 0;  // of the result
  Q4ChunkPlace place;       // in the result
  Q4Part part = Q4Part::kData;
  std::uint8_t plane_bytes = 1;
  bool begins_part = false;
};

// What a worker holds at most: stored bytes, raw bytes, planes and the frame; and what waits for an earlier chunk.
std::uint64_t WorkMemory(const RepackPlan& plan) { return 5 * plan.largest_chunk + (std::uint64_t{64} << 10); }
std::uint64_t ThreadMemory(const RepackPlan& plan) { return WorkMemory(plan) + 4 * plan.largest_chunk; }

// Both indices with what lists their tensors and chunks.
std::uint64_t IndicesMemory(const Q4Model& model) {
  constexpr std::uint64_t kTensorBytes = 1536;
  std::uint64_t bytes = 0;
  for (const auto& shard : model.shards()) {
    bytes += 4 * shard->seal().index_bytes;
    for (const Q4Tensor& tensor : shard->index().tensors) bytes += kTensorBytes + 4 * tensor.name.size();
  }
  return IndexBeyondAllowance(bytes);
}

void ListFiles(const Q4Model& model, const RepackPlan& plan, std::vector<RepackedChunk>* chunks) {
  const RepackedShard& shard = plan.shards.front();
  const Q4Reader& first = *model.shards().front();
  for (std::size_t owner = 0; owner < shard.files.size(); ++owner) {
    const RepackedShard::File& file = shard.files[owner];
    const std::uint64_t bytes = shard.index.files[owner].raw_bytes;
    for (std::uint64_t at = 0, number = 0; at < bytes; at += kQ4ChunkBytes, ++number) {
      RepackedChunk& chunk = chunks->emplace_back();
      if (file.added) {
        chunk.added = plan.added[file.from].get();
        chunk.from = at;
      } else {
        chunk.reader = &first;
        chunk.from = first.index().files[file.from].first_chunk + number;
      }
      chunk.raw_bytes = static_cast<std::uint32_t>(std::min(kQ4ChunkBytes, bytes - at));
      chunk.place = {Q4ChunkPlace::Section::kFile, owner, number};
      chunk.begins_part = number == 0;
    }
  }
}

void ListTensors(const Q4Model& model, const RepackPlan& plan, std::vector<RepackedChunk>* chunks) {
  for (std::size_t s = 0; s < plan.shards.size(); ++s) {
    for (const RepackedShard::Tensor& taken : plan.shards[s].tensors) {
      const Q4Tensor& tensor = model.tensor(taken.from);
      std::uint64_t number = 0;
      for (const Q4PartEntry& part : tensor.parts()) {
        for (std::uint64_t i = 0; i < part.chunk_count; ++i) {
          RepackedChunk& chunk = chunks->emplace_back();
          chunk.reader = &model.reader(taken.from);
          chunk.from = part.first_chunk + i;
          chunk.raw_bytes = chunk.reader->index().chunks[chunk.from].raw_bytes;
          chunk.shard = static_cast<std::uint32_t>(s);
          chunk.place = {Q4ChunkPlace::Section::kTensor, taken.tensor, number++};
          chunk.part = part.part;
          chunk.plane_bytes = Q4PlaneBytes(tensor, part.part);
          chunk.begins_part = i == 0;
        }
      }
    }
  }
}

// On any thread. A chunk that is packed as it is to be keeps its bytes: only what tells its place changes.
absl::StatusOr<Q4EncodedChunk> Encode(const RepackPlan& plan, const RepackedChunk& chunk) {
  const Sha256& file_id = plan.shards[chunk.shard].index.file_id;
  std::vector<std::uint8_t> raw;
  if (chunk.reader != nullptr) {
    Q4_ASSIGN_OR_RETURN(raw, ReadVerifiedQ4Chunk(*chunk.reader, chunk.from));
    const Q4Chunk& entry = chunk.reader->index().chunks[chunk.from];
    if (plan.keeps_packing) {
      raw = {};
      Q4EncodedChunk same{entry, std::vector<std::uint8_t>(entry.stored_bytes)};
      Q4_RETURN_IF_ERROR(chunk.reader->file().ReadAt(entry.offset, same.stored));
      // Read a second time, so checked a second time.
      if (Sha256Of(same.stored) != entry.sha256) {
        return Fail(kQ4ChunkReplaced, chunk.reader->path(), chunk.reader->DescribeChunk(chunk.from));
      }
      same.entry.xxh3 = Xxh3(same.stored, Q4ChunkSeed(file_id, chunk.place));
      return same;
    }
  } else {
    raw.resize(chunk.raw_bytes);
    Q4_RETURN_IF_ERROR(chunk.added->ReadAt(chunk.from, raw));
  }
  return EncodeQ4Chunk(file_id, chunk.place, std::move(raw), chunk.plane_bytes, plan.compression);
}

// A shard that a run of this plan has published before it was killed: its file id is made of the container's root and
// of all that decides the plan.
bool IsEarlierShard(FileSystem& fs, const std::string& path, const RepackedShard& planned) {
  const absl::StatusOr<std::unique_ptr<Q4Reader>> reader = Q4Reader::Open(fs, path);
  return reader.ok() && (*reader)->index().file_id == planned.index.file_id;
}

// Shards on their way. Destroyed before Publish(), it leaves nothing.
class RepackedFiles {
 public:
  RepackedFiles(FileSystem& fs, const RepackPlan& plan, const std::string& output, bool force)
      : fs_(fs), plan_(plan), output_(output), force_(force), paths_(ShardPaths(output, plan.shards.size())) {}

  absl::Status Open() {
    for (std::size_t i = 0; i < paths_.size(); ++i) {
      const RepackedShard& planned = plan_.shards[i];
      const bool replace = force_ || (paths_.size() > 1 && IsEarlierShard(fs_, paths_[i], planned));
      Q4_ASSIGN_OR_RETURN(std::unique_ptr<AtomicFile> file, AtomicFile::Create(fs_, paths_[i], replace));
      if (i == 0) Q4_RETURN_IF_ERROR(file->TryPublishing());
      // A full disk is better known now than after an hour.
      if (!plan_.compression.zstd) Q4_RETURN_IF_ERROR(file->file().Reserve(planned.file_bytes));
      Q4_ASSIGN_OR_RETURN(std::unique_ptr<Q4Writer> writer, Q4Writer::Create(&file->file(), planned.index));
      shards_.push_back({std::move(file), std::move(writer)});
    }
    return absl::OkStatus();
  }

  // In the order of the plan.
  absl::Status Append(const RepackedChunk& chunk, const Q4EncodedChunk& encoded) {
    Q4Writer& writer = *shards_[chunk.shard].writer;
    const bool is_file = chunk.place.section == Q4ChunkPlace::Section::kFile;
    if (chunk.place.chunk == 0 && is_file) {
      // Also those before it that are empty and have no chunk: files are begun in order.
      for (; next_file_ <= chunk.place.owner; ++next_file_) Q4_RETURN_IF_ERROR(writer.BeginFile(next_file_));
    }
    if (chunk.place.chunk == 0 && !is_file) Q4_RETURN_IF_ERROR(writer.BeginTensor(chunk.place.owner));
    if (chunk.begins_part && !is_file) Q4_RETURN_IF_ERROR(writer.BeginPart(chunk.part));
    return writer.Append(encoded);
  }

  absl::StatusOr<std::vector<ConvertedShard>> Finish() {
    std::vector<ConvertedShard> finished;
    for (std::size_t i = 0; i < shards_.size(); ++i) {
      Q4_ASSIGN_OR_RETURN(const Q4Seal seal, shards_[i].writer->Finish(plan_.shards[i].provenance));
      Q4_RETURN_IF_ERROR(shards_[i].file->file().Truncate(seal.file_bytes));
      finished.push_back({paths_[i], shards_[i].writer->index(), seal});
    }
    return finished;
  }

  absl::Status Publish(const InputFiles& inputs, const std::vector<ConvertedShard>& finished) {
    std::vector<std::string> stale;
    if (force_) {
      std::vector<std::string> names = paths_;
      if (names.size() > 1) names.push_back(Q4ShardIndexName(output_));
      Q4_ASSIGN_OR_RETURN(stale, StaleFiles(fs_, inputs, output_, names));
    }
    for (const Shard& shard : shards_) Q4_RETURN_IF_ERROR(shard.file->Publish());
    if (shards_.size() > 1) Q4_RETURN_IF_ERROR(PublishShardList(fs_, Q4ShardIndexName(output_), finished, force_));
    for (const std::string& path : stale) Q4_RETURN_IF_ERROR(fs_.Remove(path));
    return absl::OkStatus();
  }

 private:
  struct Shard {
    std::unique_ptr<AtomicFile> file;
    std::unique_ptr<Q4Writer> writer;  // writes to `file`
  };

  FileSystem& fs_;
  const RepackPlan& plan_;
  const std::string& output_;
  const bool force_;
  const std::vector<std::string> paths_;
  std::vector<Shard> shards_;
  std::size_t next_file_ = 0;  // to be begun
};

// Sets threads and bound: those that were asked for, else what the machine allows.
absl::StatusOr<RunLimits> RepackLimits(const Q4Model& model, const RepackPlan& plan, const RepackRun& run) {
  RunLimits limits = LimitsOfRun(run.threads, run.max_memory);
  const std::uint64_t least = LeastRepackMemory(model, plan);
  if (!RaiseMemoryTo(least, &limits)) {
    const auto given = [&](std::uint64_t bytes) { return run.bound_of ? run.bound_of(bytes) : bytes; };
    const std::string detail =
        GotExpected(fmt::format("{} bytes", given(limits.max_memory)), fmt::format("at least {} bytes", given(least)));
    if (!limits.memory_by_default) return Fail(kRepackMemory, model.path(), "--max-memory", detail);
    return Fail(kLimitOfMachine, model.path(), "--max-memory",
                fmt::format("{}; the default is {}; give the process more memory", detail, limits.memory_reason));
  }
  const std::uint64_t fed = (limits.max_memory - IndicesMemory(model)) / ThreadMemory(plan);
  if (fed < limits.threads) {
    limits.threads = static_cast<unsigned>(std::max<std::uint64_t>(fed, 1));
    limits.threads_reason = fmt::format("--max-memory of {} MiB feeds no more", limits.max_memory >> 20);
  }
  return limits;
}

}  // namespace

InputFiles RepackInputs(FileSystem& fs, const Q4Model& model, const RepackPlan& plan) {
  InputFiles inputs;
  // The list of the shards; a container is its own shard.
  if (model.path() != model.shards().front()->path()) inputs.Add(fs, model.path());
  for (const auto& shard : model.shards()) inputs.Add(shard->path(), shard->file().identity());
  for (const auto& file : plan.added) inputs.Add(file->path(), file->identity());
  return inputs;
}

std::uint64_t LeastRepackMemory(const Q4Model& model, const RepackPlan& plan) {
  // One thread, whose chunk is written before it takes the next.
  return IndicesMemory(model) + WorkMemory(plan);
}

absl::Status CheckRepackOutput(FileSystem& fs, const Q4Model& model, const RepackPlan& plan, const std::string& output,
                               bool force) {
  const std::size_t shards = plan.shards.size();
  Q4_RETURN_IF_ERROR(
      CheckContainerNames(fs, RepackInputs(fs, model, plan), output, shards, ContainerNames(output, shards)));
  const std::vector<std::string> paths = ShardPaths(output, shards);
  for (std::size_t i = 0; i < shards; ++i) {
    const absl::Status place = CheckPlace(fs, paths[i], OutputKind::kContainer, force);
    const bool earlier =
        IssueNumberOf(place) == kWouldReplace.number && shards > 1 && IsEarlierShard(fs, paths[i], plan.shards[i]);
    if (!place.ok() && !earlier) return place;
  }
  return shards == 1 ? absl::OkStatus() : CheckPlace(fs, Q4ShardIndexName(output), OutputKind::kShardList, force);
}

absl::StatusOr<RepackReport> Repack(FileSystem& fs, const Q4Model& model, const RepackPlan& plan, const RepackRun& run,
                                    const std::string& output) {
  Q4_RETURN_IF_ERROR(CheckRepackOutput(fs, model, plan, output, run.force));
  Q4_ASSIGN_OR_RETURN(const RunLimits limits, RepackLimits(model, plan, run));
  std::vector<RepackedChunk> chunks;
  ListFiles(model, plan, &chunks);
  ListTensors(model, plan, &chunks);

  RepackedFiles files(fs, plan, output, run.force);
  Q4_RETURN_IF_ERROR(files.Open());
  Progress progress;
  progress.total_bytes = plan.payload_bytes;
  for (const RepackedShard& shard : plan.shards) progress.total_tensors += shard.tensors.size();
  const auto work = [&](std::uint64_t i) -> absl::StatusOr<Q4EncodedChunk> {
    if (run.cancel != nullptr && run.cancel->load()) return Fail(kRepackInterrupted, model.path(), {});
    return Encode(plan, chunks[i]);
  };
  const auto commit = [&](std::uint64_t i, const absl::StatusOr<Q4EncodedChunk>& encoded) -> absl::Status {
    Q4_RETURN_IF_ERROR(encoded.status());
    Q4_RETURN_IF_ERROR(files.Append(chunks[i], *encoded));
    progress.done_bytes += chunks[i].raw_bytes;
    if (chunks[i].place.section == Q4ChunkPlace::Section::kTensor) {
      progress.done_tensors += chunks[i].place.chunk == 0;
      progress.tensor = plan.shards[chunks[i].shard].index.tensors[chunks[i].place.owner].name;
    }
    if (run.progress) run.progress(progress);
    return absl::OkStatus();
  };
  Q4_RETURN_IF_ERROR(ParallelInOrder(chunks.size(), limits.threads, work, commit));
  for (const auto& shard : model.shards()) Q4_RETURN_IF_ERROR(shard->VerifyTail());
  for (const auto& file : plan.added) Q4_RETURN_IF_ERROR(file->CheckUnchanged());

  RepackReport report;
  Q4_ASSIGN_OR_RETURN(report.shards, files.Finish());
  Q4_RETURN_IF_ERROR(files.Publish(RepackInputs(fs, model, plan), report.shards));
  for (const ConvertedShard& shard : report.shards) report.output_bytes += shard.seal.file_bytes;
  if (report.shards.size() > 1) report.index_path = Q4ShardIndexName(output);
  report.threads = limits.threads;
  report.limits = limits.Reasons();
  return report;
}

}  // namespace q4
