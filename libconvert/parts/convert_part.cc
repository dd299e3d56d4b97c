// For each shard: is it there and believed? Else convert it into a file of its own, give that its name, and leave the
// record. What lies under the name is looked at before and again at the moment of the rename, for somebody else may do
// the same shard now.
#include "libconvert/parts/convert_part.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>

#include "formats/base/base_issues.h"
#include "formats/base/counted.h"
#include "formats/base/digest.h"
#include "formats/base/status.h"
#include "formats/base/text.h"
#include "formats/publish/atomic_file.h"
#include "formats/publish/input_files.h"
#include "formats/q4/reader.h"
#include "formats/q4/writer.h"
#include "libconvert/convert/conversion.h"
#include "libconvert/convert/pipeline.h"
#include "libconvert/convert/resume.h"
#include "libconvert/output/container_files.h"
#include "libconvert/output/output_issues.h"
#include "libconvert/output/replace.h"
#include "libconvert/parts/part_files.h"
#include "libconvert/parts/parts_issues.h"
#include "libconvert/parts/record.h"

namespace q4 {
namespace {

// What a shard says of its making: which conversion it is a part of, and what it was made from.
struct Making {
  std::string plan, sources;
  bool operator==(const Making&) const = default;
};

// Of a document that another program has written, perhaps: "" for what is not there.
Making MakingOf(const std::string& provenance, const std::string& path) {
  const absl::StatusOr<Json> json = ParseJson(provenance, path, /*max_depth=*/64);
  if (!json.ok()) return {};
  Making making;
  if (const Json* plan = FindMember(*json, "plan"); plan != nullptr) making.plan = plan->dump();
  for (const char* member : {"source", "adapter"}) {
    if (const Json* of = FindMember(*json, member); of != nullptr) making.sources += of->dump();
  }
  return making;
}

// Whether the record of the shard is of this plan: then a file of the shard's name is ours, in whatever state it is.
bool IsRecorded(FileSystem& fs, const std::string& output, std::size_t shard, const std::string& plan) {
  const std::string path = RecordPath(output, shard);
  const absl::StatusOr<PartRecord> record = ReadRecord(fs, path);
  return record.ok() && MakingOf(record->shard->index().provenance, path).plan == plan;
}

class PartRun {
 public:
  PartRun(FileSystem& fs, const Checkpoint& checkpoint, const ConversionPlan& plan, const ConvertOptions& options,
          const RunOptions& run, const std::string& output)
      : fs_(fs), checkpoint_(checkpoint), plan_(plan), options_(options), run_(run), output_(output) {}

  absl::StatusOr<PartReport> Run(const PartNumber& part);

 private:
  // The record of an earlier run whose shard lies there, of the same plan and source files.
  absl::StatusOr<bool> IsFinished(std::size_t shard, PartShard* result) const;
  absl::Status Convert(std::size_t shard, PartShard* result);
  // Gives the file, which is complete and synced by then, the name of the shard, and decides what to do with what lies
  // there. `made`: the shard in the file.
  absl::Status Publish(AtomicFile& file, const Q4Reader& made, PartShard* result);
  absl::Status WriteRecord(std::size_t shard, const Q4Reader& made) const;
  // The progress of one shard as that of the part.
  ProgressCallback Progress();

  FileSystem& fs_;
  const Checkpoint& checkpoint_;
  const ConversionPlan& plan_;
  const ConvertOptions& options_;
  RunOptions run_;
  const std::string& output_;
  PartReport report_;
  std::string plan_id_;
  std::vector<SeenFile> seen_;
  std::vector<std::uint64_t> weights_;
  std::uint64_t total_bytes_ = 0, total_tensors_ = 0;  // of shards that are converted
  std::uint64_t done_bytes_ = 0, done_tensors_ = 0;    // of those before the present one
  bool tried_publishing_ = false;
};

absl::StatusOr<bool> PartRun::IsFinished(std::size_t shard, PartShard* result) const {
  if (!run_.resume) return false;
  const std::string record_path = RecordPath(output_, shard);
  Q4_ASSIGN_OR_RETURN(const PathInfo info, fs_.Stat(record_path));
  if (!info.exists) return false;
  const absl::StatusOr<PartRecord> record = ReadRecord(fs_, record_path);
  if (!record.ok()) return false;
  const absl::StatusOr<std::unique_ptr<Q4Reader>> there = Q4Reader::Open(fs_, result->path);
  if (!there.ok() || (*there)->seal().root != record->shard->seal().root) return false;
  // The plan is in the provenance, and the provenance in the root; the files may have changed since.
  if (MakingOf((*there)->index().provenance, result->path).plan != Json(plan_id_).dump()) return false;
  if (record->files.size() != seen_.size()) return false;
  for (std::size_t file = 0; file < seen_.size(); ++file) {
    // Files of other shards may lie there as a copy with another time, but not as others: the merge would refuse the
    // record. What no shard is cut by, an adapter, is a source of all.
    const auto lists = [file](const std::vector<std::uint32_t>& files) {
      return std::find(files.begin(), files.end(), file) != files.end();
    };
    const bool is_of_others = !lists(record->sources) &&
                              std::any_of(plan_.shards.begin(), plan_.shards.end(),
                                          [&](const PlannedShard& planned) { return lists(planned.source_files); });
    SeenFile before = record->files[file];
    if (is_of_others) before.time = seen_[file].time;
    if (before != seen_[file]) return false;
  }
  result->outcome = PartShard::Outcome::kFinished;
  result->bytes = (*there)->seal().file_bytes;
  result->root = (*there)->seal().root;
  return true;
}

ProgressCallback PartRun::Progress() {
  if (!run_.progress) return {};
  return [this, tell = run_.progress](const q4::Progress& shard) {
    q4::Progress part = shard;
    part.done_bytes += done_bytes_;
    part.done_tensors += done_tensors_;
    part.total_bytes = total_bytes_;
    part.total_tensors = total_tensors_;
    tell(part);
  };
}

absl::Status PartRun::Convert(std::size_t shard, PartShard* result) {
  const ConversionPlan own = PlanOfShard(checkpoint_, plan_, shard);
  const PlannedShard& planned = own.shards.front();
  RunOptions run = run_;
  run.progress = Progress();
  Q4_ASSIGN_OR_RETURN(const std::unique_ptr<AtomicFile> file, AtomicFile::CreateUnique(fs_, result->path));
  if (!tried_publishing_) Q4_RETURN_IF_ERROR(file->TryPublishing());
  tried_publishing_ = true;
  if (!options_.compression.zstd) Q4_RETURN_IF_ERROR(file->file().Reserve(planned.file_bytes));
  Q4_ASSIGN_OR_RETURN(const std::unique_ptr<Q4Writer> writer, Q4Writer::Create(&file->file(), planned.index));
  // Journals are for one machine: nobody could take over what is written here.
  JournalWriter journal(fs_, {}, {}, run.pace);
  journal.Disable();
  PipelineStart start;
  start.owners_done.assign(1, 0);
  const Conversion conversion{fs_, checkpoint_, own, options_, run};
  Q4_ASSIGN_OR_RETURN(const PipelineResult piped, RunPipeline(conversion, start, {writer.get()}, journal));
  Q4_ASSIGN_OR_RETURN(const Q4Seal seal, writer->Finish(ProvenanceJson(checkpoint_, options_, planned.source_files,
                                                                       piped.source_digests, plan_id_)));
  Q4_RETURN_IF_ERROR(file->file().Truncate(seal.file_bytes));
  report_.notes.insert(report_.notes.end(), piped.notes.begin(), piped.notes.end());
  report_.source_bytes += own.stored_bytes;
  done_bytes_ += own.source_bytes;
  done_tensors_ += planned.tensors.size();
  Q4_RETURN_IF_ERROR(file->file().Sync());
  // Read back, from what others will read.
  Q4_ASSIGN_OR_RETURN(const std::unique_ptr<Q4Reader> made, Q4Reader::Open(fs_, file->partial_path()));
  result->bytes = made->seal().file_bytes;
  result->root = made->seal().root;
  Q4_RETURN_IF_ERROR(Publish(*file, *made, result));
  return WriteRecord(shard, *made);
}

absl::Status PartRun::Publish(AtomicFile& file, const Q4Reader& made, PartShard* result) {
  // Twice: what was not there at the first look may have come before the rename.
  for (int attempt = 0; attempt < 2; ++attempt) {
    // A merge may have come to its end since: its shards are those of this plan, or somebody else's.
    Q4_RETURN_IF_ERROR(CheckNotComplete(fs_, output_));
    Q4_ASSIGN_OR_RETURN(const PathInfo info, fs_.Stat(result->path));
    const bool exists = info.exists || info.is_symlink;
    if (exists) {
      const absl::StatusOr<std::unique_ptr<Q4Reader>> there = Q4Reader::Open(fs_, result->path);
      if (there.ok() && (*there)->seal().root == made.seal().root) {
        result->outcome = PartShard::Outcome::kEqual;
        return absl::OkStatus();  // the partial file is removed by its owner
      }
      const Making ours = MakingOf(made.index().provenance, result->path);
      const Making theirs = there.ok() ? MakingOf((*there)->index().provenance, result->path) : Making();
      if (ours == theirs) {
        return Fail(kShardsDisagree, result->path, "root",
                    GotExpected(HexOf(made.seal().root), HexOf((*there)->seal().root) + ", which is there") +
                        "; one of two machines computes wrongly: q4verify --against tells which");
      }
      const bool own = ours.plan == theirs.plan || IsRecorded(fs_, output_, result->number, ours.plan);
      Q4_RETURN_IF_ERROR(CheckPlace(fs_, result->path, OutputKind::kContainer, run_.force || own));
      result->outcome = PartShard::Outcome::kReplaced;
    }
    const absl::Status published = file.Publish(/*replace=*/exists);
    if (IssueNumberOf(published) == kOutputExists.number && attempt == 0) continue;
    // A merge that has ended took this file for one of a dead run.
    if (IssueNumberOf(published) == kCannotRename.number) Q4_RETURN_IF_ERROR(CheckNotComplete(fs_, output_));
    return published;
  }
  return absl::OkStatus();
}

absl::Status PartRun::WriteRecord(std::size_t shard, const Q4Reader& made) const {
  PartRecord record;
  record.parts = report_.part.count;
  record.weights = weights_;
  record.sources = plan_.shards[shard].source_files;
  record.files = seen_;
  Q4_ASSIGN_OR_RETURN(const std::string text, EncodeRecord(record, made));
  const std::string folder = RecordFolder(output_);
  if (const absl::Status made_folder = fs_.CreateDirectory(folder);
      !made_folder.ok() && IssueNumberOf(made_folder) != kOutputExists.number) {
    return made_folder;
  }
  Q4_ASSIGN_OR_RETURN(const std::unique_ptr<HeldDirectory> held, HoldRecordFolder(fs_, output_));
  Q4_RETURN_IF_ERROR(WriteFileUniquely(fs_, RecordPath(output_, shard), text, /*replace=*/true));
  return fs_.SyncDirectory(DirectoryOf(output_));
}

absl::StatusOr<PartReport> PartRun::Run(const PartNumber& part) {
  Q4_RETURN_IF_ERROR(CheckPart(fs_, checkpoint_, plan_, output_, part, run_.force));
  weights_ = ShardWeights(checkpoint_, plan_);
  report_.part = part;
  report_.shard_count = plan_.shards.size();
  report_.range = AssignShards(weights_, part.count)[part.index];
  for (const Note& note : plan_.notes) (note.warning ? report_.warnings : report_.notes).push_back(note.text);
  if (plan_.shards.size() < part.count) {
    report_.notes.push_back(fmt::format("{} fewer than {} parts: the last parts have nothing to do",
                                        Counted(plan_.shards.size(), "shard is", "shards are"), part.count));
  }
  if (report_.range.first == report_.range.second) return std::move(report_);
  Q4_ASSIGN_OR_RETURN(const Sha256 plan_id, RunIdOf(fs_, plan_));
  plan_id_ = HexOf(plan_id);
  Q4_ASSIGN_OR_RETURN(seen_, SeenFiles(checkpoint_));
  Q4_ASSIGN_OR_RETURN(report_.limits, SetLimits(checkpoint_, plan_, options_, &run_));
  report_.threads = run_.threads;
  std::vector<std::size_t> left;
  for (std::size_t shard = report_.range.first; shard < report_.range.second; ++shard) {
    PartShard& result = report_.shards.emplace_back();
    result.number = shard;
    result.path = PartShardPath(output_, shard, plan_.shards.size());
    Q4_ASSIGN_OR_RETURN(const bool finished, IsFinished(shard, &result));
    if (finished) continue;
    left.push_back(shard);
    const ConversionPlan own = PlanOfShard(checkpoint_, plan_, shard);
    total_bytes_ += own.source_bytes;
    total_tensors_ += own.shards.front().tensors.size();
  }
  for (const std::size_t shard : left) {
    Q4_RETURN_IF_ERROR(Convert(shard, &report_.shards[shard - report_.range.first]));
  }
  for (const PartShard& shard : report_.shards) report_.output_bytes += shard.bytes;
  return std::move(report_);
}

}  // namespace

std::vector<std::uint64_t> ShardWeights(const Checkpoint& checkpoint, const ConversionPlan& plan) {
  std::vector<std::uint64_t> weights;
  for (const PlannedShard& shard : plan.shards) {
    std::uint64_t bytes = 0;
    for (const std::uint32_t file : shard.source_files) bytes += checkpoint.files()[file].file->size();
    weights.push_back(bytes);
  }
  return weights;
}

absl::Status CheckPart(FileSystem& fs, const Checkpoint& checkpoint, const ConversionPlan& plan,
                       const std::string& output, const PartNumber& part, bool force) {
  InputFiles inputs;
  for (const InputFile& input : checkpoint.inputs()) inputs.Add(input.path, input.identity);
  // The names of all parts, so that every one of them says the same.
  const std::size_t count = plan.shards.size();
  Q4_RETURN_IF_ERROR(CheckContainerNames(fs, inputs, output, count, PartNames(output, count)));
  Q4_RETURN_IF_ERROR(CheckNotComplete(fs, output));
  // Before the work, as when the record is written.
  Q4_RETURN_IF_ERROR(HoldRecordFolder(fs, output).status());
  Q4_ASSIGN_OR_RETURN(const Sha256 id, RunIdOf(fs, plan));
  const std::string plan_id = Json(HexOf(id)).dump();
  const ShardRange range = AssignShards(ShardWeights(checkpoint, plan), part.count)[part.index];
  for (std::size_t shard = range.first; shard < range.second; ++shard) {
    const std::string path = PartShardPath(output, shard, count);
    Q4_ASSIGN_OR_RETURN(const PathInfo info, fs.Stat(path));
    if (!info.exists && !info.is_symlink) continue;
    const absl::StatusOr<std::unique_ptr<Q4Reader>> there = Q4Reader::Open(fs, path);
    const bool own = (there.ok() && MakingOf((*there)->index().provenance, path).plan == plan_id) ||
                     IsRecorded(fs, output, shard, plan_id);
    Q4_RETURN_IF_ERROR(CheckPlace(fs, path, OutputKind::kContainer, force || own));
  }
  return absl::OkStatus();
}

absl::StatusOr<PartReport> ConvertPart(FileSystem& fs, const Checkpoint& checkpoint, const ConversionPlan& plan,
                                       const ConvertOptions& options, const RunOptions& run, const std::string& output,
                                       const PartNumber& part) {
  return PartRun(fs, checkpoint, plan, options, run, output).Run(part);
}

}  // namespace q4
