// Digests the source files while the conversion reads them.
//
// One thread digests what the conversion has read, in file order. With many threads and several files it would be the
// slowest stage by far (SHA-256 is sequential in a file and slower than a disk), so then every file has a thread that
// reads it once more: from the page cache, as the conversion reads the same bytes.
//
// A resumed conversion goes on with the digests where the journal left them. What lies between there and the first
// tensor that is still to be converted is read here.
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

class SourceHasher {
 public:
  // `threads`: those of the conversion. `done`: how far an earlier run has come. `first_tensor`: the index of the first
  // tensor whose payload Add() will bring; that of all later ones follows.
  SourceHasher(const Checkpoint& checkpoint, SourceDigest kind, unsigned threads,
               const std::vector<SourceDigestState>& done, std::size_t first_tensor);
  // Gives up what is not done.
  ~SourceHasher();
  SourceHasher(const SourceHasher&) = delete;
  SourceHasher& operator=(const SourceHasher&) = delete;

  // Payload bytes of file `file` from `offset` on, in any order, but each byte once. Those that come early are held
  // until their turn: files in order, and each from its beginning to its end. Tensors tile the payload, as readers
  // guarantee.
  void Add(std::uint32_t file, std::uint64_t offset, std::shared_ptr<const Buffer> bytes);

  // How far each file has come. Empty for XXH3, whose state cannot be saved: a resumed run reads for it what was read
  // before.
  std::vector<SourceDigestState> States();

  // Ends the work: one lower-case hexadecimal digest per file, over its whole content.
  absl::StatusOr<std::vector<std::string>> Finish();

 private:
  struct Piece {
    std::shared_ptr<const Buffer> bytes;
    std::uint64_t skip = 0;  // first bytes, digested by an earlier run
  };
  class FileDigest;

  void Loop();
  FileDigest Begin(std::uint32_t file) const;
  void Note(std::uint32_t file, const FileDigest& digest);
  absl::Status AddUntil(std::uint32_t file, std::uint64_t end, FileDigest* digest);
  absl::Status HashWhatIsRead();
  absl::Status HashFilesApart();

  const Checkpoint& checkpoint_;
  const SourceDigest kind_;
  const std::size_t first_tensor_;
  const std::vector<SourceDigestState> done_;  // by file
  const unsigned apart_;  // files digested at the same time, each by its own thread; 0: by what Add() brings
  std::mutex mutex_;
  std::condition_variable wake_;
  std::map<std::pair<std::uint32_t, std::uint64_t>, Piece> pieces_;  // by file and offset of what is not skipped
  std::vector<SourceDigestState> states_;                            // of files that were begun
  bool finished_ = false;
  std::atomic<bool> given_up_{false};
  absl::Status status_;
  std::vector<std::string> digests_;
  std::thread thread_;
};

}  // namespace q4
