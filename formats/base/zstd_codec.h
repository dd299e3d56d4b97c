// One chunk to one zstd frame and back, strictly (F4.2). A frame has one valid form, and nothing is allocated that only
// the frame claims. The only file that reaches libzstd. Thread-safe: each call has its own context.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace q4 {

// The levels that may be asked for. Above 19 memory grows and the window may pass limits::kZstdWindowLog.
inline constexpr int kMinZstdLevel = 1;
inline constexpr int kMaxZstdLevel = 19;

// One frame that states its content size and carries neither checksum nor dictionary id. A pure function of `raw`,
// `level` and the version of libzstd: one thread, no history. REQUIRES: kMinZstdLevel <= level <= kMaxZstdLevel.
// kZstdEncode (exit code 4) if libzstd fails. The result's buffer is larger than its content: it was allocated for the
// worst case.
absl::StatusOr<std::vector<std::uint8_t>> CompressZstd(std::span<const std::uint8_t> raw, int level);

// Exactly the inverse. `frame` must be one frame from first byte to last: content size stated and equal to
// `expected_raw_bytes`, window within limits::kZstdWindowLog, no dictionary, no skippable frame, nothing after it.
// `expected_raw_bytes` is what the caller computed from validated fields; it alone decides what is allocated. Errors
// (kZstdFrame, kZstdSize, kZstdDecode) have exit code 6 and name no file: see InFile().
absl::StatusOr<std::vector<std::uint8_t>> DecompressZstd(std::span<const std::uint8_t> frame,
                                                         std::uint64_t expected_raw_bytes);

// The same into memory of the caller, all of which the frame must fill. After an error `raw` is unspecified.
absl::Status DecompressZstdInto(std::span<const std::uint8_t> frame, std::span<std::uint8_t> raw);

}  // namespace q4
