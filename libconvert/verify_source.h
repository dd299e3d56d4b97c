// The checks of a container against the checkpoint it was made from. Internal to libconvert/verify*.cc.
#pragma once

#include "absl/status/status.h"
#include "formats/base/file.h"
#include "formats/checkpoint.h"
#include "formats/q4_reader.h"
#include "libconvert/verify.h"
#include "libconvert/verify_findings.h"
#include "libconvert/verify_integrity.h"

namespace q4 {

// A tensor that both sides have, with equal shape and a dtype that the conversion may have given it.
struct TensorPair {
  const Q4Reader* reader = nullptr;
  const Q4Tensor* stored = nullptr;
  const TensorInfo* source = nullptr;
  std::size_t report = 0;  // index into VerifyReport::tensors
};

// Pairs the tensors by name and reports those without a partner, or with one of another shape or dtype. Tensors of
// shards that were not opened are not missed. `keep_dtype` is the --keep-dtype of the conversion.
std::vector<TensorPair> PairTensors(const Q4Model& model, const Checkpoint& source, std::optional<DType> keep_dtype,
                                    FindingList* findings);

// Reads every pair once, front to back, and compares it bit for bit: codes, scales and statistics are computed again
// from the source. Sets `compared` and the statistics in `report`. Fails only if the source cannot be read or on
// `cancel`.
absl::Status CompareTensors(const Checkpoint& source, const std::vector<TensorPair>& pairs, unsigned threads,
                            CancelFlag* cancel, const BytesDone& done, FindingList* findings, VerifyReport* report);

// Compares the embedded files with those beside the source.
absl::Status CompareFiles(FileSystem& fs, const Q4Model& model, const Checkpoint& source, FindingList* findings);

}  // namespace q4
