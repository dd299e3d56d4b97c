// Digests the source files while the conversion reads them.
//
// A digest covers a whole file. What the conversion reads of it comes by Add(); what lies between (headers, gaps,
// tensors whose elements are not stored as they are, what an earlier run has converted) is read here.
//
// One thread digests in file order. With many threads and several files it would be the slowest stage by far (SHA-256
// is sequential in a file and slower than a disk), so then every file has a thread that reads it once more: from the
// page cache, as the conversion reads the same bytes.
//
// A resumed conversion goes on with the digests where the journal left them.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/source/checkpoint.h"
#include "libconvert/base/budget.h"
#include "libconvert/source/digest.h"

namespace q4 {

class FileHasher {
 public:
  // `threads`: those of the conversion. `done`: how far an earlier run has come. `first_tensor`: the index of the first
  // tensor that Add() will bring, its extent and those of all later ones. They are in payload order, as a checkpoint's
  // tensors are: the conversion brings them about in the order in which they are digested, so that the memory of those
  // that wait here is never what the next one waits for.
  FileHasher(const Checkpoint& checkpoint, SourceDigest kind, unsigned threads,
             const std::vector<SourceDigestState>& done, std::size_t first_tensor);
  // Gives up what is not done.
  ~FileHasher();
  FileHasher(const FileHasher&) = delete;
  FileHasher& operator=(const FileHasher&) = delete;

  // Bytes of file `file` from `offset` on, in any order. Those that come early are held until their turn: files in
  // order, and each from its beginning to its end. Each byte is digested once, though tensors that share bytes bring it
  // twice.
  void Add(std::uint32_t file, std::uint64_t offset, std::shared_ptr<const Buffer> bytes);

  // How far each file has come. Empty for XXH3, whose state cannot be saved: a resumed run reads for it what was read
  // before.
  std::vector<SourceDigestState> States();

  // Ends the work: one lower-case hexadecimal digest per file, over its whole content.
  absl::StatusOr<std::vector<std::string>> Finish();

 private:
  using Pieces = std::multimap<std::pair<std::uint32_t, std::uint64_t>, std::shared_ptr<const Buffer>>;
  class RunningDigest;

  void Loop();
  RunningDigest Begin(std::uint32_t file) const;
  void Note(std::uint32_t file, const RunningDigest& digest);
  absl::Status ReadUntil(std::uint32_t number, std::uint64_t end, RunningDigest* digest);
  absl::Status TakeUntil(std::uint32_t number, std::uint64_t end, RunningDigest* digest);
  Pieces::iterator PieceWith(std::uint32_t file, std::uint64_t at);
  absl::Status HashWhatIsRead();
  absl::Status HashFilesApart();

  const Checkpoint& checkpoint_;
  const SourceDigest kind_;
  const std::size_t first_tensor_;
  const std::vector<SourceDigestState> done_;  // by file
  const unsigned apart_;  // files digested at the same time, each by its own thread; 0: by what Add() brings
  std::mutex mutex_;
  std::condition_variable wake_;
  Pieces pieces_;                          // by file and offset
  std::vector<std::uint64_t> taken_;       // by file: up to where its digest has what it needs
  std::vector<SourceDigestState> states_;  // of files that were begun
  bool finished_ = false;
  std::atomic<bool> given_up_{false};
  absl::Status status_;
  std::vector<std::string> digests_;
  std::thread thread_;
};

}  // namespace q4
