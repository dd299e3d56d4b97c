#include "tools/job_files.h"

#include <algorithm>

#include "formats/base/status.h"
#include "libconvert/base/machine.h"

namespace q4 {
namespace {

constexpr std::uint64_t kLeastNet = std::uint64_t{8} << 20, kMostNet = std::uint64_t{256} << 20;

std::uint64_t NetMemory(std::uint64_t max_memory) {
  if (max_memory == 0) max_memory = LimitsOfRun(0, 0).max_memory;
  return std::clamp(max_memory / 4, kLeastNet, kMostNet);
}

}  // namespace

JobFiles::JobFiles(std::uint64_t max_memory, CancelFlag* cancel)
    : max_memory_(max_memory), net_(PosixFileSystem(), NetMemory(max_memory), cancel) {}

absl::Status JobFiles::Adopt(std::string* path) {
  Q4_ASSIGN_OR_RETURN(*path, net_.Adopt(*path));
  return absl::OkStatus();
}

std::uint64_t JobFiles::MemoryForWork() const {
  return max_memory_ == 0 ? 0 : std::max<std::uint64_t>(1, max_memory_ - std::min(max_memory_, net_.memory()));
}

std::uint64_t JobFiles::BoundFor(std::uint64_t bytes) const {
  if (net_.memory() == 0) return bytes;
  // What was given, rounded as it was.
  if (max_memory_ != 0 && bytes == MemoryForWork()) return max_memory_;
  // A quarter of the bound is a third of what is left.
  return bytes + std::clamp(bytes / 3, kLeastNet, kMostNet);
}

}  // namespace q4
