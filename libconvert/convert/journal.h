// The journal of a conversion: which parts of its output are on the disk for good, so that an interrupted run can be
// gone on with (docs/architecture.md, "Interrupted runs").
//
// OUTPUT.journal lies beside OUTPUT.partial. A record in it exists only for bytes of the partial file that were synced
// before the record was written. It is a private file between two runs of one version of q4, no exchange format:
// little-endian,
//   header   magic "Q4JRNL\r\n", run id (32 bytes), XXH3-64 of both
//   record   u32 bytes of the payload, u8 kind, payload, u64 XXH3-64 of all before it, seeded with run id and the
//   record's number,
// so that a record cannot be repeated, moved or taken from another run. Whatever is torn or changed ends what is
// believed.
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

// One tensor or embedded file that is written completely.
struct JournalOwner {
  // How a tensor ended up, which only its data could tell.
  enum class Treatment : std::uint8_t { kAsPlanned = 0, kKept = 1, kPlainScales = 2 };

  std::uint32_t shard = 0;
  std::uint64_t number = 0;  // in the shard's order of writing: embedded files first, then tensors
  Treatment treatment = Treatment::kAsPlanned;
  float nested_offset = 0;
  std::optional<Q4Stats> stats;
  std::string note;             // for people, or ""
  std::vector<Q4Chunk> chunks;  // as the writer has placed them

  // Where the journal stands after this record, once parsed.
  std::uint64_t records_end = 0, bytes_end = 0;
};

// What a journal says.
struct Journal {
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

// When what was written is made durable. An interruption costs at most this much work, and the tensor in progress.
struct JournalPace {
  std::uint64_t bytes = std::uint64_t{256} << 20;  // of output
  std::chrono::milliseconds time{2000};
};

// Writes the journal of one conversion. The file is created with the first record: short conversions have none. Not
// thread-safe.
class JournalWriter {
 public:
  // Where the output of one shard goes. Both outlive this object; null once the shard is published.
  struct Shard {
    Q4Writer* writer = nullptr;
    WritableFile* file = nullptr;
  };
  using DigestStates = std::function<std::vector<SourceDigestState>()>;

  JournalWriter(FileSystem& fs, std::string path, const Sha256& run_id, JournalPace pace);
  ~JournalWriter();
  JournalWriter(const JournalWriter&) = delete;
  JournalWriter& operator=(const JournalWriter&) = delete;

  // Locks the file that an earlier run left, and cuts it after the records of `journal`, so that more can follow.
  absl::Status Resume(const Journal& journal);
  void SetShards(std::vector<Shard> shards) { shards_ = std::move(shards); }

  // Notes what was just appended. When the pace says so, all that was noted is synced and recorded, by a thread of its
  // own, while more is appended; an error of that is returned by a later call.
  absl::Status Add(JournalOwner owner, const DigestStates& digests);
  // The same at once, to the end. Without effect while there is no journal yet.
  absl::Status AddPending(const DigestStates& digests);
  // Everything is appended and flushed: syncs the shards, records the rest and the roots.
  absl::Status Seal(const std::vector<Sha256>& roots, const DigestStates& digests);

  // Whether the file exists, so that a partial file beside it is worth keeping.
  bool exists() const { return file_ != nullptr; }
  // Removes the file.
  absl::Status Remove();

 private:
  std::vector<std::uint8_t> TakePending(const DigestStates& digests);
  void Record(std::uint8_t kind, std::span<const std::uint8_t> payload, std::vector<std::uint8_t>* out);
  absl::Status Commit(const DigestStates& digests, bool wait);
  absl::Status Create();
  absl::Status Finished();  // of the sync under way, waiting for it

  FileSystem& fs_;
  const std::string path_;
  const Sha256 run_id_;
  const JournalPace pace_;
  std::unique_ptr<WritableFile> file_;
  std::vector<Shard> shards_;
  std::uint64_t records_ = 0, bytes_ = 0;  // in the file, those under way included
  std::vector<JournalOwner> pending_;
  std::uint64_t pending_bytes_ = 0;      // of output
  std::vector<std::uint64_t> digested_;  // bytes of each source file that the last record of it states
  std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
  std::future<absl::Status> syncing_;
};

}  // namespace q4
