// A block is a mapping of its own, on huge pages where the system grants them: making and clearing its pages is the
// larger part of a load from the page cache. There are no copy queues: threads read into the block itself. Dequantizing
// runs on the CPU kernels, in pieces of all tensors of a batch at once.
#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "fmt/format.h"
#include "libconvert/base/parallel.h"
#include "libconvert/load/load_issues.h"
#include "libconvert/load/memory.h"
#include "libconvert/scheme/scheme.h"

namespace q4 {
namespace {

// A block of 0 bytes has no mapping: mmap() refuses that size.
class HostBlock final : public MemoryBlock {
 public:
  HostBlock(std::uint8_t* data, std::uint64_t bytes) : MemoryBlock(data, bytes) {}
  ~HostBlock() override {
    if (data() != nullptr) ::munmap(data(), bytes());
  }
};

// Elements that one thread dequantizes at a time: whole groups of 256 blocks of every block size, and no more than
// needed for that, since the largest block has 4096 elements. Not the slabs of a conversion, which are four times as
// large.
constexpr std::uint64_t kPieceElems = std::uint64_t{1} << 20;

struct PieceOfJob {
  const DequantizeJob* job;
  std::uint64_t first;  // element
};

// Scales are decoded piece by piece, into memory that stays in the cache, and not for the whole tensor. fp32 scales are
// used where they lie.
void DequantizePiece(const KernelTable& kernels, const PieceOfJob& piece) {
  const DequantizeJob& job = *piece.job;
  const std::uint64_t elems = std::min(kPieceElems, job.elems - piece.first);
  const std::uint64_t first_block = piece.first / job.block_size;
  std::vector<float> memory;
  const float* const scales =
      DecodedScales(kernels, job.scales.Skip(first_block), BlockCount(elems, job.block_size), &memory);
  kernels.dequantize(CodeBookOf(job), job.codes + piece.first / 2, scales, elems, job.block_size, job.out_type,
                     job.out + piece.first * FloatSize(job.out_type));
}

class HostMemory final : public LoadMemory {
 public:
  explicit HostMemory(const KernelTable& kernels) : kernels_(kernels) {}

  std::string name() const override { return "host"; }
  bool host_writable() const override { return true; }

  absl::StatusOr<std::unique_ptr<MemoryBlock>> Allocate(std::uint64_t bytes) override {
    if (bytes == 0) return std::make_unique<HostBlock>(nullptr, 0);
    // Not malloc(): advice about huge pages must come before the pages are touched, and pages that are never written
    // cost nothing.
    void* const data = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data == MAP_FAILED) return Fail(kLoadHostMemory, {}, {}, fmt::format("{} bytes wanted", bytes));
    ::madvise(data, bytes, MADV_HUGEPAGE);  // advice; failing changes nothing
    return std::make_unique<HostBlock>(static_cast<std::uint8_t*>(data), bytes);
  }

  absl::StatusOr<std::unique_ptr<CopyQueue>> NewQueue(unsigned, std::uint64_t) override {
    // The loader asks host_writable() first.
    return absl::InternalError("host memory is written in place");
  }

  absl::Status Dequantize(std::span<const DequantizeJob> jobs, unsigned threads) override {
    // The slabs of all jobs in one list, so that small tensors do not leave threads idle.
    std::vector<PieceOfJob> slabs;
    for (const DequantizeJob& job : jobs) {
      for (std::uint64_t first = 0; first < job.elems; first += kPieceElems) slabs.push_back({&job, first});
    }
    return ParallelInOrder(
        slabs.size(), threads,
        [&](std::uint64_t slab) {
          // Threads take over the float environment of the program that loads; its rounding mode must not change
          // values.
          const ScopedFloatEnvironment environment;
          DequantizePiece(kernels_, slabs[slab]);
          return absl::OkStatus();
        },
        [](std::uint64_t, const absl::Status& status) { return status; });
  }

  absl::Status CopyToHost(const void* from, std::span<std::uint8_t> to) override {
    if (!to.empty()) std::memcpy(to.data(), from, to.size());
    return absl::OkStatus();
  }

 private:
  const KernelTable& kernels_;
};

}  // namespace

std::unique_ptr<LoadMemory> MakeHostMemory(const KernelTable& kernels) { return std::make_unique<HostMemory>(kernels); }

}  // namespace q4
