// The order of questions: which versions differ, which tensors of such files are vouched for by a digest, is the digest
// still right. A digest over the first bytes of a file stands in the journal as the state of SHA-256, which is compared
// by finishing both. XXH3 has no state to keep and could be forged: with it, another version means to begin again.
#include "libconvert/convert/source_check.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <span>
#include <utility>

#include "formats/base/base_issues.h"
#include "formats/base/counted.h"
#include "formats/base/digest.h"
#include "formats/base/status.h"
#include "formats/base/text.h"
#include "formats/source/companions.h"
#include "libconvert/base/parallel.h"
#include "libconvert/base/run_issues.h"
#include "libconvert/convert/convert_issues.h"
#include "libconvert/source/file_digest.h"

namespace q4 {
namespace {

// Digests are read and computed in turn, so that more threads than these would only wait for the storage.
constexpr unsigned kMostDigests = 8;

// How many of the first bytes of each file are known: all where the version is the same, else what was digested.
std::vector<std::uint64_t> KnownBytes(const Checkpoint& checkpoint, const Journal& journal) {
  std::vector<std::uint64_t> known(checkpoint.files().size());
  for (std::size_t i = 0; i < known.size(); ++i) {
    const bool same = checkpoint.files()[i].file->version() == journal.sources[i];
    known[i] = same ? std::numeric_limits<std::uint64_t>::max() : 0;
  }
  for (const SourceDigestState& state : journal.digests) {
    known[state.file] = std::max(known[state.file], state.sha256.bytes);
  }
  return known;
}

// The first owner that was made of bytes which are not known; as many as there are if all are.
std::size_t FirstUnknown(const Conversion& conversion, const Journal& journal,
                         const std::vector<std::uint64_t>& known) {
  const auto is_unknown = [&](const JournalOwner& owner) {
    const PlannedShard& shard = conversion.plan.shards[owner.shard];
    // Embedded files are a part of the run's identity.
    if (owner.number < shard.files.size()) return false;
    const SourceTensor& source =
        conversion.checkpoint.tensors()[shard.tensors[owner.number - shard.files.size()].source];
    return std::any_of(source.extents.begin(), source.extents.end(),
                       [&](const SourceExtent& extent) { return extent.end() > known[extent.file]; });
  };
  const auto found = std::find_if(journal.owners.begin(), journal.owners.end(), is_unknown);
  return static_cast<std::size_t>(found - journal.owners.begin());
}

// How many of the first `owners` are tensors.
std::size_t TensorsIn(const ConversionPlan& plan, const Journal& journal, std::size_t owners) {
  return static_cast<std::size_t>(
      std::count_if(journal.owners.begin(), journal.owners.begin() + static_cast<std::ptrdiff_t>(owners),
                    [&](const JournalOwner& owner) { return owner.number >= plan.shards[owner.shard].files.size(); }));
}

// Whether the first bytes of `file` are those that `state` is of.
absl::StatusOr<bool> HasDigest(const RandomAccessFile& file, const Sha256State& state, CancelFlag* cancel) {
  Sha256Stream digest;
  std::vector<std::uint8_t> piece(std::size_t{1} << 20);
  for (std::uint64_t at = 0; at < state.bytes; at += piece.size()) {
    if (cancel != nullptr && cancel->load()) return Fail(kInterruptedRun, file.path(), {});
    piece.resize(std::min<std::uint64_t>(piece.size(), state.bytes - at));
    Q4_RETURN_IF_ERROR(file.ReadAt(at, piece));
    digest.Update(piece);
  }
  return digest.Finish() == Sha256Stream(state).Finish();
}

}  // namespace

std::vector<FileVersion> SourceVersions(const Checkpoint& checkpoint) {
  std::vector<FileVersion> versions;
  for (const CheckpointFile& file : checkpoint.files()) versions.push_back(file.file->version());
  return versions;
}

absl::StatusOr<SourceCheck> ConfirmSources(const Conversion& conversion, unsigned threads, Journal* journal) {
  const std::vector<CheckpointFile>& files = conversion.checkpoint.files();
  const std::size_t good = FirstUnknown(conversion, *journal, KnownBytes(conversion.checkpoint, *journal));
  // A seal is about the whole output, and without a single tensor there is nothing to go on with.
  if (good < journal->owners.size() && (journal->sealed || TensorsIn(conversion.plan, *journal, good) == 0)) {
    return SourceCheck{{},
                       "source files have other times or inodes than in the interrupted run, which kept no digest "
                       "of what it had read"};
  }
  journal->CutAfter(good);
  std::vector<SourceDigestState> asked;
  std::uint64_t bytes = 0;
  for (const SourceDigestState& state : journal->digests) {
    if (files[state.file].file->version() == journal->sources[state.file]) continue;
    asked.push_back(state);
    bytes += state.sha256.bytes;
  }
  SourceCheck check;
  const absl::Status status = ParallelInOrder(
      asked.size(), std::clamp(threads, 1u, kMostDigests),
      [&](std::uint64_t i) { return HasDigest(*files[asked[i].file].file, asked[i].sha256, conversion.run.cancel); },
      [&](std::uint64_t i, const absl::StatusOr<bool>& equal) -> absl::Status {
        Q4_RETURN_IF_ERROR(equal.status());
        if (*equal) return absl::OkStatus();
        check.why = Printable(files[asked[i].file].file->path()) + " holds other content than the interrupted run read";
        return absl::CancelledError();
      });
  if (!check.why.empty()) return check;
  Q4_RETURN_IF_ERROR(status);
  if (!asked.empty()) {
    check.note = fmt::format(
        "{} other times or inodes than in the interrupted run: what it had read, {}, "
        "was digested again and is the same",
        Counted(asked.size(), "source file has", "source files have"), HumanBytes(bytes));
  }
  return check;
}

absl::Status ConfirmUnchanged(const Conversion& conversion, const std::vector<std::string>& digests,
                              std::vector<std::string>* notes) {
  const std::string kind = conversion.options.source_digest == SourceDigest::kSha256 ? "sha256" : "xxh3";
  const std::vector<CheckpointFile>& files = conversion.checkpoint.files();
  for (std::size_t i = 0; i < files.size(); ++i) {
    if (digests[i].empty()) continue;  // not read
    const RandomAccessFile& file = *files[i].file;
    Q4_ASSIGN_OR_RETURN(const FileVersion now, file.VersionNow());
    if (now == file.version()) continue;
    if (now.size != file.size()) return file.CheckUnchanged();
    Q4_ASSIGN_OR_RETURN(const std::string digest, FileDigest(file, kind, conversion.run.cancel, kInterruptedRun));
    if (digest != digests[i]) return Fail(kFileChanged, file.path(), kind, GotExpected(digest, digests[i]));
    notes->push_back(Printable(file.path()) +
                     ": its times changed during the conversion; digested again, and its content is the same");
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<RandomAccessFile>> OpenCompanion(FileSystem& fs, const CompanionFile& companion) {
  Q4_ASSIGN_OR_RETURN(std::unique_ptr<RandomAccessFile> file, OpenCarried(fs, companion));
  // The plan's size stands in the index, and what decided the plan was read of this version.
  if (const std::uint64_t size = file->version().size; size != companion.version.size) {
    return Fail(kFileChanged, companion.path, "size",
                GotExpected(std::to_string(size), std::to_string(companion.version.size)));
  }
  if (file->version() != companion.version) return Fail(kFileChanged, companion.path, "time of modification or change");
  return file;
}

}  // namespace q4
