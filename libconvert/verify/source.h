// The checks of a container against the checkpoint it was made from: compare the tensors slab by slab, as
// pairs.h has paired them, and the embedded files. Whether the checkpoint is the right one at all is asked in
// digests.h. What a slab must be is in slab.h.
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

// Sets `calibrated` of the pairs whose source has an input in the calibration, if it fits.
void FindInputs(const Calibration& calibration, const Checkpoint& source, std::vector<TensorPair>* pairs);

// Bytes of the source that CompareTensors() reads, for progress.
std::uint64_t BytesToCompare(const std::vector<TensorPair>& pairs, const SlabSample& sample, bool compare_absmax);

// Called by one thread at a time with the source bytes that were read since the last call, and whether the comparison
// of a tensor ended with them.
using SlabDone = std::function<void(std::uint64_t bytes, bool ends_tensor)>;

// What is compared with what. Holds references; all must outlive the comparison.
struct Comparison {
  const Checkpoint& source;
  // In the order of the model's tensors.
  const std::vector<TensorPair>& pairs;
  // Which slabs of each pair are compared.
  const SlabSample& sample;
  // That of the pairs whose `calibrated` is set; may be nullptr where it is not.
  const Calibration* calibration = nullptr;
  // As the configuration says (model/names.h).
  bool embeddings_are_tied = false;
  // As recorded: of encoders that search.
  int effort = kDefaultEffort;
  // Whether each quantized tensor's error is measured beside that of absmax (VerifyTensor::absmax).
  bool compare_absmax = false;
  // Bytes for factors of Hessians that several tensors have in common.
  std::uint64_t factor_room = 0;
};

// Reads the sampled slabs of every pair once, front to back, and compares them bit for bit: codes, scales and
// statistics are computed again from the source. Findings come in the order of the pairs. Sets what the report says of
// these tensors: what was compared and, of those compared whole, statistics and worst blocks. Equal tensors of the
// source must be equal (tied.h). Tensors with damaged chunks, which CheckChunks() reports, are not judged. Fails only
// if the source or the container cannot be read, or with kVerifyInterrupted on cancellation.
absl::Status CompareTensors(const Comparison& comparison, const VerifyContext& context, const SlabDone& done);

// Compares the embedded files with those beside the source: kFileDiffers, kFileMissing and kFileExtra. They lie in
// shard 0; without it nothing is compared. Fails only if a file cannot be read. Holds one file of either side, at most
// 256 MiB each.
absl::Status CompareFiles(FileSystem& fs, const Q4Model& model, const Checkpoint& source, FindingList* findings);

}  // namespace q4
