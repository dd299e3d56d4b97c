// Digests the source files while the conversion reads them.
//
// A digest covers a whole file. What the conversion reads of it comes by Add(); what lies between (headers, gaps,
// tensors whose elements are not stored as they are, what an earlier run has converted) is read here.
//
// Storage is never asked twice for a byte. A file's SHA-256 is sequential and slower than a fast disk; several files
// are digested side by side, each by one thread in the order of its bytes: as far as the memory of the conversion lets
// their bytes wait, and, with many threads, ahead of the conversion by the page cache. What is not in it yet is fetched
// into it, but no more than is sure to be there still when the conversion comes to it.
//
// A resumed conversion goes on with the digests where the journal left them. RunningDigest() of file_digest.h digests
// one file with no conversion beside it.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/source/checkpoint.h"
#include "libconvert/base/budget.h"
#include "libconvert/source/digest.h"

namespace q4 {

// Starts its threads when it is made and joins them in Finish() or when it is destroyed. Add() and States() may be
// called from any thread; Finish() once, after the last Add().
class FileHasher {
 public:
  // `threads`: those of the conversion; half as many, but at most 8, digest SHA-256, if there are as many files.
  // `done`: how far an earlier run has come, at most one entry for a file. `first_tensor`: the index of the first
  // tensor that Add() will bring; it brings the whole extent of that one and of all later ones. They are in payload
  // order, as a checkpoint's tensors are: the conversion brings them about in the order in which they are digested, so
  // that the memory of those that wait here is never what the next one waits for. `checkpoint` is not owned and must
  // outlive this.
  //
  // Of a conversion of a part of the tensors: `end_tensor` is the first that Add() will not bring any more, and
  // `wanted` says by file which are digested; empty: all. The others are not touched, and their digest is "".
  FileHasher(const Checkpoint& checkpoint, SourceDigest kind, unsigned threads,
             const std::vector<SourceDigestState>& done, std::size_t first_tensor,
             std::size_t end_tensor = std::numeric_limits<std::size_t>::max(), std::vector<bool> wanted = {});
  // Gives up what is not done: nothing more is read from the files, and a read that has begun is waited for.
  ~FileHasher();
  FileHasher(const FileHasher&) = delete;
  FileHasher& operator=(const FileHasher&) = delete;

  // Bytes of file `file`, an index into Checkpoint::files(), from byte `offset` of that file on, in any order. Those
  // that come early are held, and stay counted by their budget, until their turn: files in order, and each from its
  // beginning to its end. Each byte is digested once, though tensors that share bytes bring it twice. Returns at once.
  // Bytes are dropped where the digest has passed them, and after an error.
  void Add(std::uint32_t file, std::uint64_t offset, std::shared_ptr<const Buffer> bytes);

  // How far each file has come that was begun, for the journal; any digest may be ahead of what the conversion has
  // written. Empty for XXH3, whose state cannot be saved: a resumed run reads for it what was read before.
  std::vector<SourceDigestState> States();

  // Ends the work: waits for the threads and returns one lower-case hexadecimal digest per file, in the order of
  // Checkpoint::files(), over the whole content. Whatever the threads met is returned here, of the first file in that
  // order that met something: I/O errors; kOutOfMemory; kSourceUnread when bytes were never brought; kZipCrc when they
  // are not those that the file's own checksums are of. REQUIRES: called
  // once, and no Add() afterwards.
  absl::StatusOr<std::vector<std::string>> Finish();

 private:
  // By file and offset. A multimap, for tensors that begin at the same byte bring two pieces of one key.
  using Pieces = std::multimap<std::pair<std::uint32_t, std::uint64_t>, std::shared_ptr<const Buffer>>;
  // SHA-256 or XXH3 of one file, and how many bytes it covers.
  class RunningDigest;

  // What the first thread does: HashFiles(), then dropping pieces until Finish().
  void Loop();
  // Where the earlier run left the file, or its first byte.
  RunningDigest Begin(std::uint32_t file) const;
  // Records in `states_` where the digest stands. Takes the lock.
  void Note(std::uint32_t file, const RunningDigest& digest);
  // The two steps of a digest: up to byte `end` of file `number`, from where the digest stands. ReadUntil() reads the
  // file; TakeUntil() waits for Add(), and may go beyond `end` where pieces do.
  absl::Status ReadUntil(std::uint32_t number, std::uint64_t end, RunningDigest* digest);
  absl::Status TakeUntil(std::uint32_t number, std::uint64_t end, RunningDigest* digest);
  // Digests up to 1 MiB, before `end`, that the page cache holds, by way of `bytes`. False where it does not.
  bool TakeCached(std::uint32_t number, std::uint64_t end, RunningDigest* digest, std::vector<std::uint8_t>* bytes);
  // Has the system bring what follows the digest to the page cache, and waits a little for the next piece before `end`.
  // False where that does not come, or may not: the conversion is at this file, or too much was fetched already.
  bool Fetch(std::uint32_t number, std::uint64_t end, const RunningDigest& digest);
  bool MayFetch(std::uint32_t number);
  // The piece that holds byte `at`. REQUIRES: mutex_ is held.
  Pieces::iterator PieceWith(std::uint32_t file, std::uint64_t at);
  // All files on `side_by_side_` threads, which take them in order.
  absl::Status HashFiles();
  absl::StatusOr<std::string> HashFile(std::uint32_t number);
  absl::StatusOr<std::string> HashFileOrFail(std::uint32_t number);
  absl::Status OutOfMemory(std::string_view what) const;

  // Not owned, as the files in it.
  const Checkpoint& checkpoint_;
  const SourceDigest kind_;
  const std::size_t first_tensor_, end_tensor_;
  const std::vector<bool> wanted_;             // by file, or empty
  const std::vector<SourceDigestState> done_;  // by file
  const unsigned side_by_side_;                // files digested at the same time, each by its own thread
  const std::uint64_t ahead_limit_;  // bytes that may be fetched before the conversion comes to them; 0: never ahead
  // Guards all members from pieces_ to first_failed_.
  std::mutex mutex_;
  // Told of every piece, of Finish(), and of an error. Only the threads here wait on it.
  std::condition_variable wake_;
  Pieces pieces_;                          // by file and offset
  std::vector<std::uint64_t> taken_;       // by file: up to where its digest has what it needs
  std::vector<bool> brought_;              // by file: whether anything was brought of it
  std::vector<SourceDigestState> states_;  // of files that were begun
  std::uint64_t ahead_bytes_ = 0;          // digested by the page cache, and not brought yet
  bool finished_ = false;
  std::uint32_t first_failed_ = UINT32_MAX;  // of the files; those behind it need not go on
  // Set by the destructor, so that ReadUntil() ends between two pieces.
  std::atomic<bool> given_up_{false};
  // Written by the first thread, read after it was joined.
  absl::Status status_;
  std::vector<std::string> digests_;
  std::thread thread_;
};

}  // namespace q4
