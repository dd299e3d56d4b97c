// The checks of a container against the checkpoint it was made from.
#pragma once

#include <functional>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "formats/base/file.h"
#include "formats/q4/reader.h"
#include "formats/source/checkpoint.h"
#include "libconvert/base/name_pattern.h"
#include "libconvert/verify/context.h"
#include "libconvert/verify/piece.h"
#include "libconvert/verify/sample.h"

namespace q4 {

// Pairs the tensors by name and reports those without a partner, or with one of another shape or dtype. Tensors of
// shards that were not opened are not missed; tensors whose name `only` does not match are left out on both sides.
// `keep_dtype` is the --keep-dtype of the conversion.
std::vector<TensorPair> PairTensors(const Q4Model& model, const Checkpoint& source, const NamePattern* only,
                                    std::optional<DType> keep_dtype, FindingList* findings);

// Bytes of the source that CompareTensors() compares.
std::uint64_t BytesToCompare(const std::vector<TensorPair>& pairs, const SlabSample& sample);

// Called with the source bytes that were compared since the last call, and whether a tensor ended with them.
using SlabDone = std::function<void(std::uint64_t bytes, bool ends_tensor)>;

// What is compared with what.
struct Comparison {
  const Checkpoint& source;
  const std::vector<TensorPair>& pairs;  // in the order of the model's tensors
  const SlabSample& sample;
  bool embeddings_are_tied = false;  // as the configuration says
};

// Reads the sampled slabs of every pair once, front to back, and compares them bit for bit: codes, scales and
// statistics are computed again from the source. Sets what the report says of these tensors: what was compared and, of
// those compared whole, statistics and worst blocks. Equal tensors of the source must be equal (tied.h). Fails only if
// the source cannot be read or on cancellation.
absl::Status CompareTensors(const Comparison& comparison, const VerifyContext& context, const SlabDone& done);

// Compares the embedded files with those beside the source.
absl::Status CompareFiles(FileSystem& fs, const Q4Model& model, const Checkpoint& source, FindingList* findings);

}  // namespace q4
