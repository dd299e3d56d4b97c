// The checks of a container against the checkpoint it was made from. Internal to libconvert/verify*.cc.
#pragma once

#include <functional>
#include <vector>

#include "absl/status/status.h"
#include "formats/base/file.h"
#include "formats/q4/reader.h"
#include "formats/source/checkpoint.h"
#include "libconvert/base/name_pattern.h"
#include "libconvert/judge/verify_findings.h"
#include "libconvert/verify/integrity.h"
#include "libconvert/verify/piece.h"
#include "libconvert/verify/sample.h"
#include "libconvert/verify/verify.h"

namespace q4 {

// Pairs the tensors by name and reports those without a partner, or with one of another shape or dtype. Tensors of
// shards that were not opened are not missed; tensors whose name `only` does not match are left out on both sides.
// `keep_dtype` is the --keep-dtype of the conversion.
std::vector<TensorPair> PairTensors(const Q4Model& model, const Checkpoint& source, const NamePattern* only,
                                    std::optional<DType> keep_dtype, FindingList* findings);

// Bytes of the source that CompareTensors() compares.
std::uint64_t BytesToCompare(const std::vector<TensorPair>& pairs, const SlabSample& sample);

// How the comparison is done, and what it tells as it goes.
struct CompareContext {
  unsigned threads = 1;
  CancelFlag* cancel = nullptr;
  // Called with the source bytes that were compared since the last call, and whether a tensor ended with them.
  std::function<void(std::uint64_t bytes, bool ends_tensor)> done;
};

// Reads the sampled slabs of every pair once, front to back, and compares them bit for bit: codes, scales and
// statistics are computed again from the source. Sets what `report` says of these tensors: what was compared and, of
// those compared whole, statistics and worst blocks. Equal tensors of the source must be equal (verify_tied.h). Fails
// only if the source cannot be read or on `cancel`.
absl::Status CompareTensors(const Checkpoint& source, const std::vector<TensorPair>& pairs, const SlabSample& sample,
                            bool embeddings_are_tied, const CompareContext& context, FindingList* findings,
                            VerifyReport* report);

// Compares the embedded files with those beside the source.
absl::Status CompareFiles(FileSystem& fs, const Q4Model& model, const Checkpoint& source, FindingList* findings);

}  // namespace q4
