// One chunk to one zstd frame and back, strictly. The only file that reaches libzstd.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace q4 {

inline constexpr int kMinZstdLevel = 1;
inline constexpr int kMaxZstdLevel = 19;  // above it, memory grows and the window may pass limits::kZstdWindowLog

// One frame that states its content size and carries neither checksum nor dictionary id. A pure function of `raw`,
// `level` and the version of libzstd: one thread, no history. REQUIRES: kMinZstdLevel <= level <= kMaxZstdLevel.
absl::StatusOr<std::vector<std::uint8_t>> CompressZstd(std::span<const std::uint8_t> raw, int level);

// Exactly the inverse. `frame` must be one frame from first byte to last: content size stated and equal to
// `expected_raw_bytes`, window within limits::kZstdWindowLog, no dictionary, no skippable frame, nothing after it.
// `expected_raw_bytes` is what the caller computed from validated fields; it alone decides what is allocated. Errors
// have exit code 6 and name no file: see InFile().
absl::StatusOr<std::vector<std::uint8_t>> DecompressZstd(std::span<const std::uint8_t> frame,
                                                         std::uint64_t expected_raw_bytes);

// The same into memory of the caller, all of which the frame must fill.
absl::Status DecompressZstdInto(std::span<const std::uint8_t> frame, std::span<std::uint8_t> raw);

}  // namespace q4
