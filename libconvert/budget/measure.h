// The measuring pass: what each way to store a tensor would lose, as the sum of its squared errors. Whole tensors, by
// the encoder that will convert them and the kernels that take a container's statistics: a tensor that is then
// converted so has this error in its statistics, but for the last digits of a sum.
//
// The source is read once, in pieces, on all threads, however many tasks one tensor has; an encoder whose nested scales
// depend on all scales of a tensor (absmax, numerics Q5.1) looks at a tensor twice, and reads one that does not fit
// half of the memory twice. Where scales are searched, one search serves plain and nested scales.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/calibration/calibration.h"
#include "formats/source/checkpoint.h"
#include "formats/tensor/source_tensor.h"
#include "kernels/kernels.h"
#include "libconvert/base/bound_of.h"
#include "libconvert/base/progress.h"
#include "libconvert/scheme/quant_settings.h"

namespace q4 {

// How the work is done; none of it changes a result.
struct MeasureRun {
  unsigned threads = 1;
  std::uint64_t max_memory = std::uint64_t{2} << 30;
  BoundOf bound_of;                      // for messages
  const KernelTable* kernels = nullptr;  // nullptr: BestCpuKernels()
  ProgressCallback progress;             // in bytes of elements, one thread at a time
  CancelFlag* cancel = nullptr;
};

// What is asked of one tensor: F32, F16 or BF16, with at least one element.
struct MeasureTask {
  const SourceTensor* source = nullptr;  // of the checkpoint
  Q4Encoder encoder = Q4Encoder::kAbsmax;
  std::vector<QuantFormat> formats;
  std::optional<DType> kept_as;  // measure what this dtype loses, too: one of the three
  // What the tensor's errors count, from a calibration file; nullptr: all of them 1.
  const Calibration* calibration = nullptr;
  WeightInput input;
  // Whether the encoder does not look at that, so that `records` alone are weighed by it.
  bool blind = false;
  bool record = false;  // wants TensorErrors::records
};

// What a container records of a tensor in one format, to the bit, and what else is known of it.
struct MeasuredRecord {
  double e2 = 0, x2 = 0;  // the sums of Q8 of squared errors and of squares
  double weighted = 0;    // squared errors weighed as MeasureTask::calibration says; without one 0
  // Of the cores: what choosing scales and codes and taking statistics took. Formats that differ in nested scales alone
  // share most of it, and each has the whole.
  double seconds = 0;
  bool absmax = false;  // left to absmax (numerics Q9.9)
};

// With a calibration, squares are weighed as it says: these are errors of the layer's output.
struct TensorErrors {
  // The smallest index of a NaN or infinite element. Then nothing else is known.
  std::optional<std::uint64_t> bad;
  double squares = 0;  // of all elements
  // The sums of squared errors, by format; nullopt where the format cannot hold the tensor (numerics Q5.12).
  std::vector<std::optional<double>> formats;
  std::optional<double> kept;  // of kept_as; nullopt where an element would become infinite, or nobody asked
  // By format, if they were asked for; meaningless where `formats` has nullopt.
  std::vector<MeasuredRecord> records;
  double weighted_squares = 0;  // the squares of the elements, weighed; 0 without a calibration or records
};

// One result for each task, in the same order. Tasks of one tensor that follow each other share its pieces. `effort`:
// of encoders that search. The same for any number of threads, any bound and any backend. Errors: those of
// SourceReader::Read(), kInterruptedRun, and kMemoryTooSmall where there are so many tasks that what is gathered of
// them exceeds half of the bound.
absl::StatusOr<std::vector<TensorErrors>> MeasureTensors(const Checkpoint& checkpoint,
                                                         const std::vector<MeasureTask>& tasks, int effort,
                                                         const MeasureRun& run);

}  // namespace q4
