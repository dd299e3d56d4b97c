// Digests the source files while the conversion reads them.
//
// One thread digests what the conversion has read, in file order. With many threads and several files it would be the slowest
// stage by far (SHA-256 is sequential in a file and slower than a disk), so then every file has a thread that reads it once more:
// from the page cache, as the conversion reads the same bytes.
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
#include "formats/checkpoint.h"
#include "libconvert/budget.h"
#include "libconvert/plan.h"

namespace q4 {

class SourceHasher {
 public:
  // `threads`: those of the conversion.
  SourceHasher(const Checkpoint& checkpoint, SourceDigest kind, unsigned threads);
  // Gives up what is not done.
  ~SourceHasher();
  SourceHasher(const SourceHasher&) = delete;
  SourceHasher& operator=(const SourceHasher&) = delete;

  // Payload bytes of file `file` from `offset` on, in any order, but each byte once. Those that come early are held until their
  // turn: files in order, and each from its beginning to its end. Tensors tile the payload, as readers guarantee.
  void Add(std::uint32_t file, std::uint64_t offset, std::shared_ptr<const Buffer> bytes);

  // Ends the work: one lower-case hexadecimal digest per file, over its whole content.
  absl::StatusOr<std::vector<std::string>> Finish();

 private:
  void Loop();
  absl::Status HashWhatIsRead();
  absl::Status HashFilesApart();

  const Checkpoint& checkpoint_;
  const SourceDigest kind_;
  const unsigned apart_;  // files digested at the same time, each by its own thread; 0: by what Add() brings
  std::mutex mutex_;
  std::condition_variable wake_;
  std::map<std::pair<std::uint32_t, std::uint64_t>, std::shared_ptr<const Buffer>> pieces_;  // by file and offset
  bool finished_ = false;
  std::atomic<bool> given_up_{false};
  absl::Status status_;
  std::vector<std::string> digests_;
  std::thread thread_;
};

}  // namespace q4
