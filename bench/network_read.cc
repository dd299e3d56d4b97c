// Reads a file at a URL from its beginning to its end, as a conversion does, and does nothing with it:
//   network_read URL [THREADS [MIB]]
// prints bytes and seconds. Threads share the file, a slab of 8 MiB at a time. bench/network_bench.py runs it.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "formats/base/status.h"
#include "formats/net/net_file_system.h"

namespace {

[[noreturn]] void Give(const absl::Status& status) {
  std::fprintf(stderr, "network_read: %s\n", q4::MessageOf(status).c_str());
  std::exit(1);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) return 1;
  constexpr std::uint64_t kSlab = std::uint64_t{8} << 20;
  const int threads = argc > 2 ? std::atoi(argv[2]) : 1;
  const std::uint64_t memory = static_cast<std::uint64_t>(argc > 3 ? std::atoi(argv[3]) : 256) << 20;
  q4::NetFileSystem fs(q4::PosixFileSystem(), memory, nullptr);
  const auto path = fs.Adopt(argv[1]);
  if (!path.ok()) Give(path.status());
  const auto file = fs.OpenForRead(*path);
  if (!file.ok()) Give(file.status());
  const std::uint64_t size = (*file)->size();
  const auto begin = std::chrono::steady_clock::now();
  std::atomic<std::uint64_t> next{0};
  std::vector<std::thread> readers;
  for (int i = 0; i < threads; ++i) {
    readers.emplace_back([&] {
      std::vector<std::uint8_t> slab(kSlab);
      for (std::uint64_t at = next.fetch_add(kSlab); at < size; at = next.fetch_add(kSlab)) {
        const absl::Status status = (*file)->ReadAt(at, std::span(slab).first(std::min(kSlab, size - at)));
        if (!status.ok()) Give(status);
      }
    });
  }
  for (std::thread& reader : readers) reader.join();
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  std::printf("%llu %.6f\n", static_cast<unsigned long long>(size), took.count());
  return 0;
}
