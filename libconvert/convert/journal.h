// The journal of a conversion: how much of its output is on the disk for good, so that a later run can resume it
// (docs/architecture.md, "Interrupted runs").
//
// OUTPUT.journal lies beside OUTPUT.partial. A record in it exists only for bytes of the partial file that were synced
// before the record was written. It is a private file between two runs of one version of q4, no exchange format:
// little-endian,
//   header   magic "Q4JRNL\r\n", run id (32 bytes), XXH3-64 of both
//   record   u32 bytes of the payload, u8 kind, payload, u64 XXH3-64 of all before it, seeded with run id and the
//   record's number,
// so that a record cannot be repeated, moved or taken from another run. Whatever is torn or changed ends what is
// believed.
//
// Here are the file and its records. Whether a journal fits the plan and the partial files is judged in resume.h.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "formats/base/digest.h"
#include "formats/base/file.h"
#include "formats/q4/container.h"
#include "formats/q4/writer.h"
#include "libconvert/source/digest.h"

namespace q4 {

// One tensor or embedded file that is written completely: what a later run needs in order not to look at its data
// again. It takes the bytes of its statistics and of a record for each chunk.
struct JournalOwner {
  // How a tensor ended up, which only its data could tell. kPlainScales: fp32 scales where nested ones were planned.
  // kLeftToAbsmax: nested ones of another encoder (numerics Q9.9). The values are stored.
  enum class Treatment : std::uint8_t { kAsPlanned = 0, kKept = 1, kPlainScales = 2, kLeftToAbsmax = 3 };

  std::uint32_t shard = 0;   // index into ConversionPlan::shards
  std::uint64_t number = 0;  // in the shard's order of writing: embedded files first, then tensors
  Treatment treatment = Treatment::kAsPlanned;
  float nested_offset = 0;       // 0 unless the tensor has nested scales
  std::optional<Q4Stats> stats;  // of a quantized tensor
  std::string note;              // for people, or ""
  std::vector<Q4Chunk> chunks;   // as the writer has placed them: offsets in the partial file

  // Where the journal stands after this record, once parsed: records and bytes from the beginning of the file. Not
  // stored.
  std::uint64_t records_end = 0, bytes_end = 0;
};

// What a journal says.
struct Journal {
  std::vector<FileVersion> sources;           // of the source files, when the last run that wrote to it opened them
  std::vector<JournalOwner> owners;           // in the order in which they were written
  std::vector<SourceDigestState> digests;     // the latest of each file, by file
  std::optional<std::vector<Sha256>> sealed;  // the roots of all shards: everything is written, publishing has begun
  std::uint64_t records = 0, bytes = 0;       // valid ones, and the bytes up to the end of the last

  // Believes only the first `count` owners, 1 or more, and nothing that came after them.
  void CutAfter(std::size_t count);
};

// The longest valid beginning of a journal; empty, with `bytes` 0, when it is of another run or no journal. Never
// allocates more than a small multiple of `bytes`.
Journal ParseJournal(std::span<const std::uint8_t> bytes, const Sha256& run_id);

// When what was written is made durable: when one of the two is reached. An interruption costs at most this much work,
// and the tensor in progress.
struct JournalPace {
  std::uint64_t bytes = std::uint64_t{256} << 20;  // of output, as stored
  std::chrono::milliseconds time{2000};            // since the last time
};

// Writes the journal of one conversion. The file is created with the first record: short conversions have none. Not
// thread-safe: the committing thread calls it. Errors are those of FileSystem and WritableFile; after one of them the
// journal is not to be added to.
class JournalWriter {
 public:
  // Where the output of one shard goes. Both outlive this object; null once the shard is published.
  struct Shard {
    Q4Writer* writer = nullptr;
    WritableFile* file = nullptr;
  };
  // How far the source files' digests have come. Called on the calling thread, when records are made.
  using DigestStates = std::function<std::vector<SourceDigestState>()>;

  // `path` is that of the journal, `run_id` what RunIdOf() says. Touches no file. `fs` must outlive the object.
  JournalWriter(FileSystem& fs, std::string path, const Sha256& run_id, JournalPace pace);
  // Waits for a sync that is under way. The file stays.
  ~JournalWriter();
  JournalWriter(const JournalWriter&) = delete;
  JournalWriter& operator=(const JournalWriter&) = delete;

  // Locks the file that an earlier run left, and cuts it after the records of `journal`, so that more can follow.
  absl::Status Resume(const Journal& journal);
  // For file systems without locks, where no later run could take over what this one has done: from now on there is no
  // journal, and no call touches a file.
  void Disable() { disabled_ = true; }
  // All shards of the plan and the versions of all source files, in order. Before Add() and Seal().
  void SetFiles(std::vector<Shard> shards, std::vector<FileVersion> sources) {
    shards_ = std::move(shards);
    sources_ = std::move(sources);
  }

  // Notes what was just appended to the owner's shard. When the pace says so, all that was noted is synced and
  // recorded, by a thread of its own, while more is appended; an error of that is returned by a later call.
  absl::Status Add(JournalOwner owner, const DigestStates& digests);
  // The same at once, to the end. Without effect while there is no journal yet.
  absl::Status AddPending(const DigestStates& digests);
  // Everything is appended and flushed, index and footer included: syncs the shards, records the rest and the roots,
  // one for each shard. From then on a rerun may take a published shard with its root for its own. Creates the file if
  // there is none yet.
  absl::Status Seal(const std::vector<Sha256>& roots, const DigestStates& digests);

  // Whether the file exists, so that a partial file beside it is worth keeping.
  bool exists() const { return file_ != nullptr; }
  // Removes the file; without effect if there is none. Waits for a sync that is under way, and returns its error.
  absl::Status Remove();

 private:
  // The records of all that is pending and of the digests that have moved on, ready to be written. The first of a run
  // are headed by its source files.
  std::vector<std::uint8_t> TakePending(const DigestStates& digests);
  // Appends one record to `out`, with the number that follows.
  void Record(std::uint8_t kind, std::span<const std::uint8_t> payload, std::vector<std::uint8_t>* out);
  // Makes all that is pending durable and records it; without `wait`, on a thread of its own.
  absl::Status Commit(const DigestStates& digests, bool wait);
  // The file, locked, with its header and nothing else.
  absl::Status Create();
  absl::Status Finished();  // of the sync under way, waiting for it

  FileSystem& fs_;
  const std::string path_;
  const Sha256 run_id_;
  const JournalPace pace_;
  bool disabled_ = false;
  std::unique_ptr<WritableFile> file_;  // null until there is a first record
  std::vector<Shard> shards_;
  std::vector<FileVersion> sources_;       // recorded once, then empty
  std::uint64_t records_ = 0, bytes_ = 0;  // in the file, those under way included
  std::vector<JournalOwner> pending_;      // noted, not recorded
  std::uint64_t pending_bytes_ = 0;        // of output
  std::vector<std::uint64_t> digested_;    // bytes of each source file that the last record of it states
  std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
  std::future<absl::Status> syncing_;
};

}  // namespace q4
