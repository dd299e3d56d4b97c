// The checks that need the container alone.
#pragma once

#include <functional>
#include <string>

#include "absl/status/status.h"
#include "formats/q4/container.h"
#include "formats/q4/reader.h"
#include "libconvert/verify/context.h"

namespace q4 {

// Called after each chunk with its stored bytes.
using BytesDone = std::function<void(std::uint64_t bytes)>;

// Every chunk of every shard: digests, padding, that it decompresses, that scales are finite and of the right sign, and
// the padding nibble of an odd element count (Q3.2). Sets the spread of each tensor's scales in the report. Fails only
// if a file cannot be read or on cancellation.
absl::Status CheckChunks(const Q4Model& model, const VerifyContext& context, const BytesDone& done);

// What is impossible in the recorded statistics of one tensor, or "" if they may be true: counts against the shape,
// sums against each other, and the bound of Q8.8 where it holds for every element.
std::string ContradictionIn(const Q4Tensor& tensor);

// Q8.8: for the absmax encoder with fp32 scales no element is clipped and none lies farther from its value than half a
// step. Says what breaks that, or "".
std::string BoundBrokenBy(const Q4Tensor& tensor, const Q4Stats& stats);

}  // namespace q4
