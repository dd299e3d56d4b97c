// Proves that a container is intact and, given the checkpoint it was made from, that it holds what it must.
//
// Without a source: every byte is under a digest that is checked, or is a checked constant; scales are finite, padding
// nibbles are those of zero, recorded statistics do not contradict each other. With one: each code, scale, statistic,
// unquantized tensor and embedded file is computed again and compared bit for bit (docs/q4verify.md lists the checks).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/base/file.h"
#include "formats/source/checkpoint.h"
#include "kernels/kernels.h"
#include "libconvert/base/name_pattern.h"
#include "libconvert/base/progress.h"
#include "libconvert/judge/baseline.h"
#include "libconvert/judge/gate.h"
#include "libconvert/judge/verify_report.h"

namespace q4 {

struct VerifyOptions {
  std::string against;  // the original checkpoint, as OpenCheckpoint() takes it; "" for integrity alone
  OpenOptions source_options;
  std::optional<NamePattern> only;  // compare only tensors with such names; integrity is checked whole in any case
  // Percent of the slabs (4 Mi elements) that are compared, in (0, 100]: one of each tensor at least, chosen by a hash
  // of artifact, tensor and slab. Statistics are then those recorded, which the sample must not contradict.
  double sample_percent = 100;
  unsigned threads = 0;                               // 0: all cores
  std::uint64_t max_memory = std::uint64_t{2} << 30;  // bytes; fewer threads work when it is small, at least one does
  // Limits, on recomputed statistics where there are any, else on the recorded ones. Each judges for itself.
  std::optional<double> max_nmse;       // per tensor and for the model
  std::optional<double> min_sqnr_db;    // per tensor and for the model
  std::optional<double> max_abs_error;  // per tensor and for the model
  std::vector<Gate> gates;
  std::optional<Baseline> baseline;
  const KernelTable* kernels = &BestCpuKernels();
  CancelFlag* cancel = nullptr;
};

// Verifies the container `path` (a file, a shard, or NAME.q4.index.json). What is wrong with the container is in the
// report; a status is returned only if it cannot be opened or read, if the source cannot be, or if `options.cancel` was
// set. The report is the same for any number of threads.
absl::StatusOr<VerifyReport> VerifyModel(FileSystem& fs, const std::string& path, const VerifyOptions& options,
                                         const ProgressCallback& progress = {});

}  // namespace q4
