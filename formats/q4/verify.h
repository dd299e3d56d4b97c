// The check of every byte of an open container, whose header, index and footer Q4Reader::Open() has checked (F7.6). A
// loader that trusts its disk needs only Open() and the digests of what it reads.
//
// q4verify does the same on all cores and compares with the source besides (libconvert/verify); this is the plain form
// that fuzzers, tests and small programs use.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "formats/q4/reader.h"

namespace q4 {

// One chunk: its digests, the padding before it, that it decodes, and F3.6. Errors name tensor and chunk; exit code 6,
// or 2 if the file cannot be read. Reads the chunk twice and holds it once. Thread-safe, so that a container can be
// verified on all cores: this for every chunk, and Q4Reader::VerifyTail() once.
absl::Status VerifyQ4Chunk(const Q4Reader& reader, std::uint64_t chunk);

// The same, and its bytes before compression: for who reads a chunk to write it elsewhere. Reads it once.
absl::StatusOr<std::vector<std::uint8_t>> ReadVerifiedQ4Chunk(const Q4Reader& reader, std::uint64_t chunk);

// All chunks and all padding, in file order. Calls `problem` for each that fails and returns their number. It goes on
// after a problem, so that all damage is known at once.
std::uint64_t VerifyQ4Container(const Q4Reader& reader, const std::function<void(const absl::Status&)>& problem);

// The first problem in file order, or OK.
absl::Status VerifyQ4Container(const Q4Reader& reader);

}  // namespace q4
