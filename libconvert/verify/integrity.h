// The checks that need the container alone: is every byte what its digests say, does it decode, and can the recorded
// statistics be true. They find damage and careless changes. Whoever makes a consistent container from other weights
// passes them; only the source (source.h) tells that.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "formats/q4/container.h"
#include "formats/q4/reader.h"
#include "libconvert/verify/code_facts.h"
#include "libconvert/verify/context.h"

namespace q4 {

// Called after each chunk, in file order and by one thread at a time, with its stored bytes. For progress.
using BytesDone = std::function<void(std::uint64_t bytes)>;

// Checks every chunk of every shard: digests, padding, that it decompresses, that scales are finite and of the right
// sign (F3.6), and the padding nibble of an odd element count (Q3.2). Adds a finding for each chunk that breaks a rule,
// under the issue of that rule (q4_issues.h), and goes on. Sets the spread of each tensor's scales in the report. Reads
// the files in order, and the chunks of group scales twice. Fails only if a file cannot be read, or with
// kVerifyInterrupted on cancellation. `facts`, one for each tensor of the model, is what the codes and scales say that
// were read without a fault.
absl::Status CheckChunks(const Q4Model& model, const VerifyContext& context, const BytesDone& done,
                         std::vector<CodeFacts>* facts);

// What is impossible in the recorded statistics of one tensor, or "" if they may be true: counts against the shape, and
// sums and maxima against each other. Looks at no payload. REQUIRES: tensor.has_stats.
std::string ContradictionIn(const Q4Tensor& tensor);

// Q8.8: for the absmax encoder with fp32 scales no element is clipped and none lies farther from its value than half a
// step. Says what in `stats` breaks that, recorded or recomputed, or "". Of other encoders and of nested scales nothing
// is demanded here; worst.h checks the elements of nested ones.
std::string BoundBrokenBy(const Q4Tensor& tensor, const Q4Stats& stats);

}  // namespace q4
