// Records there and back, and when they are written.
//
// First the encoding of each kind of record and ParseJournal(), which trusts nothing: it stops at the first record
// whose length, digest or content is wrong and keeps what came before. Then JournalWriter. Its one rule is order: the
// bytes of the output are synced before a record speaks of them, and the record is synced before the next one is begun.
// A sync takes long, so it runs beside the conversion; what is appended meanwhile waits in `pending_` for the next one.
#include "libconvert/convert/journal.h"

#include <algorithm>
#include <array>
#include <map>
#include <system_error>
#include <utility>

#include "formats/base/byte_reader.h"
#include "formats/base/byte_writer.h"
#include "formats/base/status.h"
#include "formats/q4/layout.h"

namespace q4 {
namespace {

// CR and LF, so that a copy in text mode is found out at the first eight bytes.
constexpr std::array<std::uint8_t, 8> kMagic = {'Q', '4', 'J', 'R', 'N', 'L', '\r', '\n'};

enum RecordKind : std::uint8_t { kOwnerRecord = 1, kDigestsRecord = 2, kSealRecord = 3, kSourcesRecord = 4 };

// Ties a record to its run and to its place. A record that is intact but of another run, or written twice, is refused
// by its digest alone; nothing else needs to check for that.
std::uint64_t RecordSeed(const Sha256& run_id, std::uint64_t number) {
  ByteWriter seed;
  seed.Bytes(run_id);
  seed.U64(number);
  return Xxh3(seed.bytes(), 0);
}

// The same bytes for every journal of a run: a reader compares them as a whole.
std::vector<std::uint8_t> EncodeHeader(const Sha256& run_id) {
  ByteWriter out;
  out.Bytes(kMagic);
  out.Bytes(run_id);
  out.U64(Xxh3(out.bytes(), 0));
  return out.Take();
}

// Statistics and chunks have the encoding that the index of a container has, so that there is one copy of it.
std::vector<std::uint8_t> EncodeOwner(const JournalOwner& owner) {
  ByteWriter out;
  out.U32(owner.shard);
  out.U64(owner.number);
  out.U8(static_cast<std::uint8_t>(owner.treatment));
  out.F32(owner.nested_offset);
  out.U8(owner.stats.has_value());
  if (owner.stats) EncodeQ4StatsRecord(*owner.stats, &out);
  out.U32(static_cast<std::uint32_t>(owner.note.size()));
  out.Text(owner.note);
  out.U64(owner.chunks.size());
  for (const Q4Chunk& chunk : owner.chunks) EncodeQ4ChunkRecord(chunk, &out);
  return out.Take();
}

// False if the payload is no such record. Its digest was right; so only a fault of ours leads here, but a number from a
// file is never used as a size before it is checked.
bool DecodeOwner(ByteReader in, JournalOwner* owner) {
  owner->shard = in.U32();
  owner->number = in.U64();
  const std::uint8_t treatment = in.U8();
  owner->nested_offset = in.F32();
  const std::uint8_t has_stats = in.U8();
  if (!in.ok() || treatment > 3 || has_stats > 1) return false;
  owner->treatment = static_cast<JournalOwner::Treatment>(treatment);
  if (has_stats == 1) {
    if (in.remaining() < kQ4StatsRecordBytes) return false;
    DecodeQ4StatsRecord(&in, &owner->stats.emplace());
  }
  const std::span<const std::uint8_t> note = in.Bytes(in.U32());
  owner->note.assign(note.begin(), note.end());
  const std::uint64_t chunks = in.U64();
  // The chunks are all that is left, to the byte. Divided, because a product could overflow.
  if (!in.ok() || in.remaining() % kQ4ChunkRecordBytes != 0 || in.remaining() / kQ4ChunkRecordBytes != chunks)
    return false;
  owner->chunks.resize(chunks);
  return std::all_of(owner->chunks.begin(), owner->chunks.end(),
                     [&](Q4Chunk& chunk) { return DecodeQ4ChunkRecord(&in, &chunk); });
}

// Of one file: number, bytes digested, the eight words of SHA-256, and the block that is not full.
constexpr std::uint64_t kDigestBytes = 4 + 8 + 32 + 64;

void EncodeDigest(const SourceDigestState& state, ByteWriter* out) {
  out->U32(state.file);
  out->U64(state.sha256.bytes);
  for (const std::uint32_t word : state.sha256.chain) out->U32(word);
  out->Bytes(state.sha256.pending);
}

SourceDigestState DecodeDigest(ByteReader* in) {
  SourceDigestState state;
  state.file = in->U32();
  state.sha256.bytes = in->U64();
  for (std::uint32_t& word : state.sha256.chain) word = in->U32();
  const std::span<const std::uint8_t> pending = in->Bytes(state.sha256.pending.size());
  std::copy(pending.begin(), pending.end(), state.sha256.pending.begin());
  return state;
}

std::vector<std::uint8_t> EncodeSources(const std::vector<FileVersion>& sources) {
  ByteWriter out;
  for (const FileVersion& version : sources) {
    out.U64(version.size);
    out.U32(static_cast<std::uint32_t>(version.tag.size()));
    out.Text(version.tag);
  }
  return out.Take();
}

// False if the payload is no such record.
bool DecodeSources(ByteReader in, std::vector<FileVersion>* sources) {
  sources->clear();
  while (in.ok() && in.remaining() > 0) {
    FileVersion& version = sources->emplace_back();
    version.size = in.U64();
    const std::span<const std::uint8_t> tag = in.Bytes(in.U32());
    version.tag.assign(tag.begin(), tag.end());
  }
  return in.ok();
}

// Adds one record, whose digest was right, to what the journal says. False if its content makes no sense. `digests` has
// the latest state of each file; they become a list at the end.
bool AddRecord(std::uint8_t kind, ByteReader payload, Journal* journal,
               std::map<std::uint32_t, SourceDigestState>* digests) {
  switch (kind) {
    case kOwnerRecord: {
      JournalOwner owner;
      if (!DecodeOwner(payload, &owner)) return false;
      journal->owners.push_back(std::move(owner));
      return true;
    }
    case kDigestsRecord:
      // Only files whose digest moved on since the record before: later ones replace earlier ones.
      if (payload.remaining() % kDigestBytes != 0) return false;
      while (payload.remaining() > 0) {
        const SourceDigestState state = DecodeDigest(&payload);
        (*digests)[state.file] = state;
      }
      return true;
    case kSealRecord: {
      if (payload.remaining() % sizeof(Sha256) != 0) return false;
      std::vector<Sha256>& roots = journal->sealed.emplace(payload.remaining() / sizeof(Sha256));
      for (Sha256& root : roots) {
        const std::span<const std::uint8_t> bytes = payload.Bytes(sizeof(Sha256));
        std::copy(bytes.begin(), bytes.end(), root.begin());
      }
      return true;
    }
    case kSourcesRecord:
      // Of the last run: it has found that what those before it had read is in these files too.
      return DecodeSources(payload, &journal->sources);
    default:
      // Of a later version, whose run id differs anyway.
      return false;
  }
}

}  // namespace

Journal ParseJournal(std::span<const std::uint8_t> bytes, const Sha256& run_id) {
  Journal journal;
  const std::vector<std::uint8_t> header = EncodeHeader(run_id);
  if (bytes.size() < header.size() || !std::equal(header.begin(), header.end(), bytes.begin())) return journal;
  journal.bytes = header.size();
  std::map<std::uint32_t, SourceDigestState> digests;
  // Ends at the first record that is torn, changed or not there; past the end, the reader's ok() is false.
  for (;;) {
    const std::span<const std::uint8_t> rest = bytes.subspan(journal.bytes);
    ByteReader in(rest);
    const std::uint32_t payload_bytes = in.U32();
    const std::uint8_t kind = in.U8();
    const std::span<const std::uint8_t> payload = in.Bytes(payload_bytes);
    // The digest covers length and kind too: a length that was changed is found out before it is believed.
    const std::uint64_t covered = in.offset();
    const std::uint64_t digest = in.U64();
    if (!in.ok() || digest != Xxh3(rest.first(covered), RecordSeed(run_id, journal.records))) break;
    if (!AddRecord(kind, ByteReader(payload), &journal, &digests)) break;
    ++journal.records;
    journal.bytes += in.offset();
    if (kind == kOwnerRecord) {
      journal.owners.back().records_end = journal.records;
      journal.owners.back().bytes_end = journal.bytes;
    }
  }
  for (const auto& [file, state] : digests) journal.digests.push_back(state);
  return journal;
}

void Journal::CutAfter(std::size_t count) {
  if (count >= owners.size()) return;
  owners.resize(count);
  // The digests stay, although they may be ahead of the owners: they are of the sources, which are asked for by
  // themselves (source_check.h). The seal goes: it is about all owners.
  sealed.reset();
  records = owners.back().records_end;
  bytes = owners.back().bytes_end;
}

JournalWriter::JournalWriter(FileSystem& fs, std::string path, const Sha256& run_id, JournalPace pace)
    : fs_(fs), path_(std::move(path)), run_id_(run_id), pace_(pace) {}

// The thread of a sync uses files that are about to be closed. Its error no longer matters.
JournalWriter::~JournalWriter() { Finished().IgnoreError(); }

absl::Status JournalWriter::Resume(const Journal& journal) {
  Q4_ASSIGN_OR_RETURN(file_, fs_.OpenLocked(path_));
  records_ = journal.records;
  bytes_ = journal.bytes;
  return file_->Truncate(bytes_);
}

absl::Status JournalWriter::Create() {
  // A file that appeared here meanwhile is overwritten, unless another process holds its lock (kOutputInUse).
  Q4_ASSIGN_OR_RETURN(file_, fs_.OpenLocked(path_));
  Q4_RETURN_IF_ERROR(file_->Truncate(0));
  const std::vector<std::uint8_t> header = EncodeHeader(run_id_);
  Q4_RETURN_IF_ERROR(file_->WriteAt(0, header));
  bytes_ = header.size();
  return absl::OkStatus();
}

// Short of the pace, an owner costs nothing but its place in memory.
absl::Status JournalWriter::Add(JournalOwner owner, const DigestStates& digests) {
  if (disabled_) return absl::OkStatus();
  for (const Q4Chunk& chunk : owner.chunks) pending_bytes_ += chunk.stored_bytes;
  pending_.push_back(std::move(owner));
  if (pending_bytes_ < pace_.bytes && std::chrono::steady_clock::now() - last_ < pace_.time) return absl::OkStatus();
  // One sync at a time: while the disk is busy with the last, more is gathered for the next.
  if (syncing_.valid() && syncing_.wait_for(std::chrono::seconds(0)) != std::future_status::ready)
    return absl::OkStatus();
  return Commit(digests, /*wait=*/false);
}

// A run that ends before its first record has done too little to be worth a journal.
absl::Status JournalWriter::AddPending(const DigestStates& digests) {
  if (!exists()) return absl::OkStatus();
  return Commit(digests, /*wait=*/true);
}

absl::Status JournalWriter::Seal(const std::vector<Sha256>& roots, const DigestStates& digests) {
  if (disabled_) return absl::OkStatus();
  // Creates the file if need be, and leaves no sync under way, so that the rest can be done here, step by step.
  Q4_RETURN_IF_ERROR(Commit(digests, /*wait=*/true));
  ByteWriter payload;
  for (const Sha256& root : roots) payload.Bytes(root);
  std::vector<std::uint8_t> record;
  Record(kSealRecord, payload.bytes(), &record);
  // Index and footer were written since; they must be there before anybody believes the roots.
  for (const Shard& shard : shards_) {
    if (shard.file != nullptr) Q4_RETURN_IF_ERROR(shard.file->Sync());
  }
  Q4_RETURN_IF_ERROR(file_->WriteAt(bytes_, record));
  bytes_ += record.size();
  Q4_RETURN_IF_ERROR(file_->Sync());
  // Shards are renamed next. The journal's own name must be as durable as theirs.
  return fs_.SyncDirectory(DirectoryOf(path_));
}

absl::Status JournalWriter::Remove() {
  Q4_RETURN_IF_ERROR(Finished());
  if (!exists()) return absl::OkStatus();
  file_.reset();  // closes and unlocks it
  Q4_RETURN_IF_ERROR(fs_.Remove(path_));
  return fs_.SyncDirectory(DirectoryOf(path_));
}

// Records are numbered when they are made, in the order in which they will stand in the file.
void JournalWriter::Record(std::uint8_t kind, std::span<const std::uint8_t> payload, std::vector<std::uint8_t>* out) {
  ByteWriter record;
  record.U32(static_cast<std::uint32_t>(payload.size()));
  record.U8(kind);
  record.Bytes(payload);
  record.U64(Xxh3(record.bytes(), RecordSeed(run_id_, records_++)));
  out->insert(out->end(), record.bytes().begin(), record.bytes().end());
}

std::vector<std::uint8_t> JournalWriter::TakePending(const DigestStates& digests) {
  std::vector<std::uint8_t> out;
  if (!sources_.empty()) Record(kSourcesRecord, EncodeSources(std::exchange(sources_, {})), &out);
  for (const JournalOwner& owner : std::exchange(pending_, {})) Record(kOwnerRecord, EncodeOwner(owner), &out);
  ByteWriter moved;
  // With thousands of source files nearly all are done or not begun: only those that moved on are written.
  for (const SourceDigestState& state : digests()) {
    if (state.file >= digested_.size()) digested_.resize(state.file + 1);
    if (digested_[state.file] == state.sha256.bytes) continue;
    digested_[state.file] = state.sha256.bytes;
    EncodeDigest(state, &moved);
  }
  if (moved.size() != 0) Record(kDigestsRecord, moved.bytes(), &out);
  return out;
}

absl::Status JournalWriter::Commit(const DigestStates& digests, bool wait) {
  // The sync before this one has ended, and well: records never stand behind others that may be missing.
  Q4_RETURN_IF_ERROR(Finished());
  const bool is_new = !exists();
  if (is_new) Q4_RETURN_IF_ERROR(Create());
  // Only shards that have something new. Flush() is done here, on the thread that appends; the sync touches the file
  // alone, and more may be appended behind what it covers.
  std::set<std::uint32_t> touched;
  for (const JournalOwner& owner : pending_) touched.insert(owner.shard);
  std::vector<WritableFile*> files;
  for (const std::uint32_t shard : touched) {
    Q4_RETURN_IF_ERROR(shards_[shard].writer->Flush());
    files.push_back(shards_[shard].file);
  }
  std::vector<std::uint8_t> records = TakePending(digests);
  // Counted as written from here on. If the sync fails, the next call returns its error and nothing follows.
  const std::uint64_t at = bytes_;
  bytes_ += records.size();
  pending_bytes_ = 0;
  last_ = std::chrono::steady_clock::now();
  // The order of it all: data durable, then the record of them.
  const auto sync = [this, is_new, at, files = std::move(files), records = std::move(records)]() -> absl::Status {
    for (WritableFile* const file : files) Q4_RETURN_IF_ERROR(file->Sync());
    Q4_RETURN_IF_ERROR(file_->WriteAt(at, records));
    Q4_RETURN_IF_ERROR(file_->Sync());
    return is_new ? fs_.SyncDirectory(DirectoryOf(path_)) : absl::OkStatus();
  };
  if (wait) return sync();
  try {
    syncing_ = std::async(std::launch::async, sync);
  } catch (const std::system_error&) {  // no more threads: then here
    return sync();
  }
  return absl::OkStatus();
}

// get() empties the future, so that each error is returned once.
absl::Status JournalWriter::Finished() { return syncing_.valid() ? syncing_.get() : absl::OkStatus(); }

}  // namespace q4
