// What the fuzz targets share. A target is one file, <target>_fuzz.cc, with one function:
//
//   Q4_FUZZ_TARGET(target) {  // const std::uint8_t* data, std::size_t size
//     ...
//     return 0;
//   }
//
// It must accept any bytes and always return 0. Beyond "no crash" every target has an oracle: something that has to
// hold for whatever the code under test accepts. libFuzzer drives the targets when Q4_BUILD_FUZZERS is on; otherwise
// replay_main.cc runs all of them over testdata/fuzz as an ordinary test.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <span>
#include <string>
#include <string_view>

#include "formats/base/status.h"
#include "formats/base/text.h"

// libFuzzer wants one name for all; where all are in one program (Q4_FUZZ_REPLAY), each has its own.
#ifdef Q4_FUZZ_REPLAY
#define Q4_FUZZ_FUNCTION(target) q4_fuzz_##target
#else
#define Q4_FUZZ_FUNCTION(target) LLVMFuzzerTestOneInput
#endif
#define Q4_FUZZ_TARGET(target)                                                         \
  extern "C" int Q4_FUZZ_FUNCTION(target)(const std::uint8_t* data, std::size_t size); \
  extern "C" int Q4_FUZZ_FUNCTION(target)(const std::uint8_t* data, std::size_t size)

// Ends the process, as a crash does, unless `condition` holds. In any build.
#define Q4_FUZZ_CHECK(condition)                                                          \
  do {                                                                                    \
    if (!(condition)) {                                                                   \
      std::fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #condition); \
      std::abort();                                                                       \
    }                                                                                     \
  } while (false)

namespace q4::fuzz {

inline std::string_view TextOf(const std::uint8_t* data, std::size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

// An error is one of the documented ones, is not a broken invariant, and its one line is fit for a terminal.
inline void CheckError(const absl::Status& status) {
  const std::string message = MessageOf(status);
  const bool documented = IssueNumberOf(status) != 0 && ExitCodeOf(status) != ExitCode::kInternal;
  if (!documented) std::fprintf(stderr, "%s\n", message.c_str());
  Q4_FUZZ_CHECK(!status.ok());
  Q4_FUZZ_CHECK(documented);
  Q4_FUZZ_CHECK(Printable(Shown{message}, std::numeric_limits<std::size_t>::max()) == message);
}

// Takes values from the front of the input; zeros and empty spans once it is used up.
class FuzzInput {
 public:
  FuzzInput(const std::uint8_t* data, std::size_t size) : bytes_(data, size) {}

  std::size_t remaining() const { return bytes_.size(); }
  std::uint8_t Byte() {
    const auto byte = Take(1);
    return byte.empty() ? std::uint8_t{0} : byte[0];
  }
  bool Bool() { return Byte() % 2 != 0; }
  // 0 .. limit - 1; little-endian, of as many bytes as `limit` asks for.
  std::uint64_t Below(std::uint64_t limit) {
    std::uint64_t value = 0;
    int shift = 0;
    for (std::uint64_t rest = limit - 1; rest != 0; rest >>= 8, shift += 8) value |= std::uint64_t{Byte()} << shift;
    return value % limit;
  }
  // The next `count` bytes, or what is left.
  std::span<const std::uint8_t> Take(std::size_t count) {
    const auto out = bytes_.first(std::min(count, bytes_.size()));
    bytes_ = bytes_.subspan(out.size());
    return out;
  }
  std::span<const std::uint8_t> Rest() { return Take(bytes_.size()); }

 private:
  std::span<const std::uint8_t> bytes_;
};

}  // namespace q4::fuzz
