// The names that a conversion writes under, the checks of them, and the life of the files behind them.
//
// Three states can be found on the disk, and each must lead on: nothing; partial files with a journal (an interrupted
// run); a sealed journal with some shards published already (a run that was killed while it published). Find() tells
// them apart and touches nothing; Open() takes the files, adopting or emptying them; Publish() passes through the third
// state in an order that a kill at any point leaves resumable.
#include "libconvert/convert/output.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "formats/base/counted.h"
#include "formats/base/status.h"
#include "formats/base/text.h"
#include "formats/publish/input_files.h"
#include "formats/q4/reader.h"
#include "formats/q4/shards.h"
#include "libconvert/convert/resume.h"
#include "libconvert/convert/source_check.h"
#include "libconvert/output/replace.h"

namespace q4 {
namespace {

// The checkpoint's files, which must lie under none of the names that the run writes.
InputFiles InputsOf(const Checkpoint& checkpoint) {
  InputFiles inputs;
  for (const InputFile& input : checkpoint.inputs()) inputs.Add(input.path, input.identity);
  return inputs;
}

// A published shard can have a partial file still: the earlier run was to replace a file of the same bytes, or its
// rename was a link() whose unlink() did not happen. Fails if somebody else writes to it.
absl::Status RemovePartial(FileSystem& fs, const std::string& path) {
  Q4_ASSIGN_OR_RETURN(const PathInfo partial, fs.Stat(AtomicFile::PartialPath(path)));
  if (!partial.exists && !partial.is_symlink) return absl::OkStatus();
  // The lock of AtomicFile shows that nobody writes to it; the object removes the file when it goes, here at once.
  return AtomicFile::Create(fs, path, /*replace=*/true, AtomicFile::Leftover::kKeep).status();
}

}  // namespace

std::vector<std::string> OutputNames(const ConversionPlan& plan, const std::string& output) {
  std::vector<std::string> all = ContainerNames(output, plan.shards.size());
  all.push_back(JournalPath(output));
  return all;
}

absl::Status CheckOutput(FileSystem& fs, const Checkpoint& checkpoint, const ConversionPlan& plan,
                         const std::string& output, bool force) {
  const std::size_t shards = plan.shards.size();
  Q4_RETURN_IF_ERROR(CheckContainerNames(fs, InputsOf(checkpoint), output, shards, OutputNames(plan, output)));
  for (const std::string& path : ShardPaths(output, shards)) {
    Q4_RETURN_IF_ERROR(CheckPlace(fs, path, OutputKind::kContainer, force));
  }
  if (plan.shards.size() == 1) return absl::OkStatus();
  return CheckPlace(fs, Q4ShardIndexName(output), OutputKind::kShardList, force);
}

ConversionOutput::ConversionOutput(const Conversion& conversion, std::string output)
    : conversion_(conversion),
      fs_(conversion.fs),
      checkpoint_(conversion.checkpoint),
      plan_(conversion.plan),
      options_(conversion.options),
      run_(conversion.run),
      output_(std::move(output)) {
  for (std::string& path : ShardPaths(output_, plan_.shards.size())) shards_.emplace_back().path = std::move(path);
}

// After Publish() there is no journal any more. Otherwise it is removed first and the partial files after it, as
// members are destroyed: at no time is there a journal that speaks of bytes which are gone.
ConversionOutput::~ConversionOutput() {
  if (journal_ != nullptr && !kept_) journal_->Remove().IgnoreError();
}

absl::Status ConversionOutput::Find() {
  // What CheckOutput() does, but places are checked last: what may lie there depends on what the journal says.
  Q4_RETURN_IF_ERROR(
      CheckContainerNames(fs_, InputsOf(checkpoint_), output_, plan_.shards.size(), OutputNames(plan_, output_)));
  const std::string journal_path = JournalPath(output_);
  Q4_ASSIGN_OR_RETURN(const PathInfo found, fs_.Stat(journal_path));
  found_journal_ = found.exists || found.is_symlink;  // a link that leads nowhere must go too
  // Believed, written to and removed only if it is ours: it lies where others may write, perhaps.
  if (found_journal_) Q4_RETURN_IF_ERROR(fs_.CheckOurs(journal_path, /*shared=*/false));
  Q4_ASSIGN_OR_RETURN(run_id_, RunIdOf(fs_, plan_));
  journal_ = std::make_unique<JournalWriter>(fs_, journal_path, run_id_, run_.pace);
  if (found_journal_ && run_.resume) leftover_ = ReadJournal(fs_, journal_path, run_id_, checkpoint_, plan_, options_);
  if (leftover_.sealed) {
    // The earlier run was publishing. A file with the root that it recorded is its work, complete; any other file of
    // that name is somebody else's, and needs `force` like any output that exists.
    for (std::size_t i = 0; i < shards_.size(); ++i) {
      const absl::StatusOr<std::unique_ptr<Q4Reader>> reader = Q4Reader::Open(fs_, shards_[i].path);
      shards_[i].published = reader.ok() && (*reader)->seal().root == (*leftover_.sealed)[i];
    }
  }
  for (const Shard& shard : shards_) {
    if (!shard.published) Q4_RETURN_IF_ERROR(CheckPlace(fs_, shard.path, OutputKind::kContainer, run_.force));
  }
  // A list of shards beside shards that all carry the right seals was the last that the earlier run made.
  const bool all_published =
      std::all_of(shards_.begin(), shards_.end(), [](const Shard& shard) { return shard.published; });
  if (shards_.size() == 1) return absl::OkStatus();
  return CheckPlace(fs_, Q4ShardIndexName(output_), OutputKind::kShardList, run_.force || all_published);
}

absl::Status ConversionOutput::Open(unsigned threads) {
  // All partial files are locked before any of them is looked at.
  const auto leftover = leftover_.owners.empty() ? AtomicFile::Leftover::kTruncate : AtomicFile::Leftover::kKeep;
  for (Shard& shard : shards_) {
    if (shard.published) {
      Q4_RETURN_IF_ERROR(RemovePartial(fs_, shard.path));
      continue;
    }
    Q4_ASSIGN_OR_RETURN(shard.file, AtomicFile::Create(fs_, shard.path, run_.force, leftover));
  }
  const auto first = std::find_if(shards_.begin(), shards_.end(), [](const Shard& s) { return s.file != nullptr; });
  if (first != shards_.end()) {
    if (!first->file->locked()) GoWithoutJournal();
    Q4_RETURN_IF_ERROR(first->file->TryPublishing());
  }
  Q4_ASSIGN_OR_RETURN(const bool resumed, Adopt(threads));
  if (!resumed) Q4_RETURN_IF_ERROR(StartOver());

  // Owners stand in the journal in order, so that the last of each shard counts.
  start_.owners_done.assign(shards_.size(), 0);
  for (const JournalOwner& owner : leftover_.owners) start_.owners_done[owner.shard] = owner.number + 1;
  start_.digests = leftover_.digests;
  std::vector<JournalWriter::Shard> journaled;
  for (std::size_t i = 0; i < shards_.size(); ++i) {
    const Shard& shard = shards_[i];
    WritableFile* const file = shard.published ? nullptr : &shard.file->file();
    journaled.push_back({shard.writer.get(), file});
    if (file == nullptr) continue;
    // What lies behind the last chunk that is believed is cut off; the writer goes on there. Of a shard that was not
    // begun nothing is in the file: its header is still gathered in the writer.
    if (resumed) Q4_RETURN_IF_ERROR(file->Truncate(start_.owners_done[i] == 0 ? 0 : shard.writer->bytes_written()));
    // A full disk is better known now than after an hour. With compression the size is an upper bound only.
    if (!options_.compression.zstd) Q4_RETURN_IF_ERROR(file->Reserve(plan_.shards[i].file_bytes));
  }
  journal_->SetFiles(std::move(journaled), SourceVersions(checkpoint_));
  return resumed ? journal_->Resume(leftover_) : absl::OkStatus();
}

void ConversionOutput::GoWithoutJournal() {
  journal_->Disable();
  leftover_ = Journal();
  found_journal_ = false;  // it stays: nobody can tell whether its run is still alive
  std::string others;
  const std::string begin = BaseNameOf(output_) + ".";
  if (const auto names = fs_.ListDirectory(DirectoryOf(output_)); names.ok()) {
    for (const std::string& name : *names) {
      const bool own = std::any_of(shards_.begin(), shards_.end(), [&](const Shard& shard) {
        return shard.file != nullptr && BaseNameOf(shard.file->partial_path()) == name;
      });
      if (!own && name.starts_with(begin) && name.ends_with(".partial")) others += " " + Printable(name, 200);
    }
  }
  warnings_.push_back("the file system of the output has no locks: this run cannot be resumed if it is interrupted" +
                      (others.empty() ? "" : "; left by other runs, or in use by them:" + others));
}

// Takes the writers to where the earlier run ended. False: nothing of it can be used.
absl::StatusOr<bool> ConversionOutput::Adopt(unsigned threads) {
  if (leftover_.owners.empty()) return false;
  Q4_ASSIGN_OR_RETURN(const SourceCheck sources, ConfirmSources(conversion_, threads, &leftover_));
  why_again_ = sources.why;
  if (!why_again_.empty()) return false;
  std::vector<std::string> partials;
  std::vector<bool> published;
  for (const Shard& shard : shards_) {
    published.push_back(shard.published);
    partials.push_back(shard.published ? "" : shard.file->partial_path());
  }
  if (!CheckStoredBytes(fs_, partials, published, plan_, threads, &leftover_)) return false;
  for (std::size_t i = 0; i < shards_.size(); ++i) {
    Shard& shard = shards_[i];
    if (shard.published) continue;
    const bool begun = std::any_of(leftover_.owners.begin(), leftover_.owners.end(),
                                   [i](const JournalOwner& owner) { return owner.shard == i; });
    // A shard without a single owner may lack its header too, so that it is begun as a new one.
    absl::StatusOr<std::unique_ptr<Q4Writer>> writer =
        begun ? Q4Writer::Resume(&shard.file->file(), plan_.shards[i].index)
              : Q4Writer::Create(&shard.file->file(), plan_.shards[i].index);
    if (!writer.ok()) return false;
    shard.writer = *std::move(writer);
    if (begun && !Replay(leftover_, i, checkpoint_, plan_, options_, shard.writer.get()).ok()) return false;
  }
  // Notes of tensors that are done are told by this run again: its report is about the whole output.
  std::uint64_t tensors = 0;
  for (const JournalOwner& owner : leftover_.owners) {
    tensors += owner.number >= plan_.shards[owner.shard].files.size();
    if (!owner.note.empty()) notes_.push_back(owner.note);
  }
  notes_.insert(notes_.begin(), fmt::format("resumed: {} of {} done by an interrupted run", Grouped(tensors),
                                            Counted(checkpoint_.tensors().size(), "tensor")));
  if (!sources.note.empty()) notes_.push_back(sources.note);
  return true;
}

absl::Status ConversionOutput::StartOver() {
  // The journal goes first: it must not speak of bytes that are about to be overwritten.
  if (found_journal_) {
    Q4_RETURN_IF_ERROR(fs_.Remove(JournalPath(output_)));
    if (why_again_.empty()) why_again_ = "what an earlier run left does not belong to this one, or is damaged";
    notes_.assign(1, run_.resume ? "began again: " + why_again_ : "began again, as --no-resume asks");
  }
  leftover_ = Journal();
  for (std::size_t i = 0; i < shards_.size(); ++i) {
    Shard& shard = shards_[i];
    if (shard.published) {  // it belongs to the earlier run as a whole
      shard.published = false;
      Q4_ASSIGN_OR_RETURN(shard.file, AtomicFile::Create(fs_, shard.path, /*replace=*/true));
    }
    Q4_RETURN_IF_ERROR(shard.file->file().Truncate(0));
    Q4_ASSIGN_OR_RETURN(shard.writer, Q4Writer::Create(&shard.file->file(), plan_.shards[i].index));
  }
  return absl::OkStatus();
}

std::vector<Q4Writer*> ConversionOutput::writers() const {
  std::vector<Q4Writer*> writers;
  for (const Shard& shard : shards_) writers.push_back(shard.writer.get());
  return writers;
}

absl::StatusOr<std::vector<ConvertedShard>> ConversionOutput::Finish(const std::vector<std::string>& provenance) {
  std::vector<ConvertedShard> finished;
  for (std::size_t i = 0; i < shards_.size(); ++i) {
    Shard& shard = shards_[i];
    ConvertedShard& result = finished.emplace_back();
    result.path = shard.path;
    if (shard.published) {
      // Its writer is long gone: report and gates get the index from the file.
      Q4_ASSIGN_OR_RETURN(const std::unique_ptr<Q4Reader> reader, Q4Reader::Open(fs_, shard.path));
      result.seal = reader->seal();
      result.index = reader->index();
      continue;
    }
    Q4_ASSIGN_OR_RETURN(result.seal, shard.writer->Finish(provenance[i]));
    // Open() reserved the size of the plan, which data can make smaller; an earlier run may have left a longer file.
    Q4_RETURN_IF_ERROR(shard.file->file().Truncate(result.seal.file_bytes));
    result.index = shard.writer->index();
  }
  return finished;
}

absl::Status ConversionOutput::Publish(const std::vector<ConvertedShard>& finished,
                                       const std::vector<SourceDigestState>& digests) {
  // A kill between two renames must not leave half a model that nobody knows how to complete.
  if (shards_.size() > 1 || journal_->exists()) {
    std::vector<Sha256> roots;
    for (const ConvertedShard& shard : finished) roots.push_back(shard.seal.root);
    Q4_RETURN_IF_ERROR(journal_->Seal(roots, [&] { return digests; }));
    sealed_ = true;
  }
  std::vector<std::string> stale;
  if (run_.force) {
    std::vector<std::string> names = ShardPaths(output_, plan_.shards.size());
    if (names.size() > 1) names.push_back(Q4ShardIndexName(output_));
    Q4_ASSIGN_OR_RETURN(stale, StaleFiles(fs_, InputsOf(checkpoint_), output_, names));
  }
  // From here on a kill leaves a sealed journal, until the last line removes it.
  for (const Shard& shard : shards_) {
    if (!shard.published) Q4_RETURN_IF_ERROR(shard.file->Publish());
  }
  if (shards_.size() > 1) {
    const bool list_is_ours =
        std::all_of(shards_.begin(), shards_.end(), [](const Shard& shard) { return shard.published; });
    Q4_RETURN_IF_ERROR(PublishShardList(fs_, Q4ShardIndexName(output_), finished, run_.force || list_is_ours));
  }
  for (const std::string& path : stale) Q4_RETURN_IF_ERROR(fs_.Remove(path));
  return journal_->Remove();
}

absl::Status ConversionOutput::Abandon(const absl::Status& status) {
  // Without a journal, partial files say nothing to another run. leftover_ counts too: its journal is still there when
  // this run fails before it has opened it.
  kept_ = (IsWorthResuming(status) || sealed_) && (journal_->exists() || !leftover_.owners.empty());
  for (const Shard& shard : shards_) {
    if (kept_ && shard.file != nullptr) shard.file->LeavePartial();
  }
  return status;
}

}  // namespace q4
