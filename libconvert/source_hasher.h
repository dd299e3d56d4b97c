// Digests the source files while the conversion reads them, on a thread of its own.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/checkpoint.h"
#include "libconvert/budget.h"
#include "libconvert/plan.h"

namespace q4 {

class SourceHasher {
 public:
  SourceHasher(const Checkpoint& checkpoint, SourceDigest kind);
  ~SourceHasher();
  SourceHasher(const SourceHasher&) = delete;
  SourceHasher& operator=(const SourceHasher&) = delete;

  // The next payload bytes of file `file`. REQUIRES: per file in file order, files in order. Readers guarantee that tensors
  // tile the payload, so payload order is file order.
  void Add(std::uint32_t file, std::shared_ptr<const Buffer> bytes);

  // Ends the work: one lower-case hexadecimal digest per file, over its whole content.
  absl::StatusOr<std::vector<std::string>> Finish();

 private:
  struct Piece {
    std::uint32_t file;
    std::shared_ptr<const Buffer> bytes;
  };
  void Loop();
  absl::Status HashAll();

  const Checkpoint& checkpoint_;
  const SourceDigest kind_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Piece> pieces_;
  bool finished_ = false;
  absl::Status status_;
  std::vector<std::string> digests_;
  std::thread thread_;
};

}  // namespace q4
