// Readers while memory runs out. The input is
//   u8 reader | u8 mode | u16 n | the bytes to read
// and the n-th allocation fails, counted from 0, and all behind it in every second mode. The reader then reports an
// error or throws std::bad_alloc, which the tools turn into their error (tools/tool_main.cc); it neither crashes nor
// leaks. Allocations inside C libraries do not fail. A document that was begun is released too: what frees memory must
// not need any.
//
// Replaces the program's operator new, so this target is not linked together with others.
#include <cstdlib>
#include <new>
#include <utility>

#include "formats/base/json_value.h"
#include "formats/base/limits.h"
#include "formats/q4/reader.h"
#include "formats/q4/verify.h"
#include "formats/safetensors/safetensors.h"
#include "formats/source/shard_index.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/support/bytes.h"
#include "tests/support/memory_file_system.h"

namespace {

constexpr std::uint64_t kUnlimited = std::numeric_limits<std::uint64_t>::max();
thread_local std::uint64_t allocations_left = kUnlimited;
thread_local bool keep_failing = false;

void* AllocateOrNull(std::size_t size) noexcept {
  if (allocations_left == 0) {
    if (!keep_failing) allocations_left = kUnlimited;
    return nullptr;
  }
  if (allocations_left != kUnlimited) --allocations_left;
  return std::malloc(std::max<std::size_t>(size, 1));
}

void* Allocate(std::size_t size) {
  void* const memory = AllocateOrNull(size);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

}  // namespace

void* operator new(std::size_t size) { return Allocate(size); }
void* operator new[](std::size_t size) { return Allocate(size); }
void* operator new(std::size_t size, const std::nothrow_t&) noexcept { return AllocateOrNull(size); }
void* operator new[](std::size_t size, const std::nothrow_t&) noexcept { return AllocateOrNull(size); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete(void* memory, const std::nothrow_t&) noexcept { std::free(memory); }
void operator delete[](void* memory, const std::nothrow_t&) noexcept { std::free(memory); }

namespace q4::fuzz {
namespace {

constexpr char kPath[] = "f";

// Lets the allocation behind the next `count` fail, if there are as many while it lives, and perhaps all behind that.
class FailAfter {
 public:
  FailAfter(std::uint64_t count, bool keep) {
    keep_failing = keep;
    allocations_left = count;
  }
  ~FailAfter() { allocations_left = kUnlimited; }
  FailAfter(const FailAfter&) = delete;
  FailAfter& operator=(const FailAfter&) = delete;
};

absl::Status ReadContainer(MemoryFileSystem& fs) {
  Q4_ASSIGN_OR_RETURN(const std::unique_ptr<Q4Reader> reader, Q4Reader::Open(fs, kPath));
  Q4_RETURN_IF_ERROR(VerifyQ4Container(*reader));
  for (const Q4Tensor& tensor : reader->index().tensors) Q4_RETURN_IF_ERROR(ReadQ4Tensor(*reader, tensor).status());
  return absl::OkStatus();
}

absl::Status ReadShardIndex(std::string_view text) {
  JsonText source(text);
  return ParseShardIndex(source, kPath).status();
}

absl::Status Read(std::uint64_t reader, std::string_view text, MemoryFileSystem& fs) {
  switch (reader) {
    case 0:
      return ParseSafetensors(test::AsBytes(text), kPath).status();
    case 1:
      return ReadShardIndex(text);
    case 3:
      return ParseJson(text, kPath, limits::kConfigJsonDepth).status();
    case 4:
      return ParseModelJson(text, kPath).status();
    default:
      return ReadContainer(fs);
  }
}

}  // namespace
}  // namespace q4::fuzz

Q4_FUZZ_TARGET(alloc_fail) {
  using namespace q4;
  fuzz::FuzzInput input(data, size);
  const std::uint64_t reader = input.Below(5);
  const bool keep = input.Bool();
  const std::uint64_t allocations = input.Below(1 << 16);
  const auto rest = input.Rest();
  MemoryFileSystem fs;
  fs[fuzz::kPath].assign(rest.begin(), rest.end());
  absl::Status status;
  try {
    const fuzz::FailAfter failure(allocations, keep);
    status = fuzz::Read(reader, fuzz::TextOf(rest.data(), rest.size()), fs);
  } catch (const std::bad_alloc&) {
    return 0;
  }
  if (!status.ok()) fuzz::CheckError(status);
  return 0;
}
