// A file on a server as a RandomAccessFile: small files and the beginnings of others from memory, the rest read ahead.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>

#include "formats/base/file.h"
#include "formats/net/read_ahead.h"
#include "formats/net/remote_object.h"

namespace q4 {

// What is kept of files in memory, the oldest given up first.
class HeadCache {
 public:
  explicit HeadCache(std::uint64_t bytes) : bytes_(bytes) {}
  // Files of at most this many bytes are kept whole.
  std::uint64_t small_bytes() const { return bytes_ / 4; }
  // The head of `object` is `bytes` long.
  void Add(const std::shared_ptr<const RemoteObject>& object, std::uint64_t bytes);

 private:
  struct Kept {
    std::shared_ptr<const RemoteObject> object;
    std::uint64_t bytes = 0;
  };
  const std::uint64_t bytes_;
  std::mutex mutex_;
  std::deque<Kept> kept_;
  std::uint64_t used_ = 0;
};

// `pool` and `cache` must outlive the result.
std::unique_ptr<RandomAccessFile> OpenRemoteFile(std::shared_ptr<const RemoteObject> object, FetchPool& pool,
                                                 HeadCache& cache);

// Of the file that a path stands for. No local file has it.
FileIdentity IdentityOfUrl(const std::string& path);

}  // namespace q4
