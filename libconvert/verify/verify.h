// Proves that a container is intact and, given the checkpoint it was made from, that it holds what it must. The front
// door of this wing, and all that q4verify calls.
//
// Without a source: every byte is under a digest that is checked, or is a checked constant; scales are finite, padding
// nibbles are those of zero, recorded statistics do not contradict each other. With one: each code, scale, statistic,
// kept tensor and embedded file is computed again and compared bit for bit (docs/q4verify.md lists the checks).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/base/digest.h"
#include "formats/base/file.h"
#include "formats/calibration/calibration.h"
#include "formats/source/checkpoint.h"
#include "kernels/kernels.h"
#include "libconvert/base/name_pattern.h"
#include "libconvert/base/progress.h"
#include "libconvert/judge/baseline.h"
#include "libconvert/judge/evaluation_reader.h"
#include "libconvert/judge/gate.h"
#include "libconvert/judge/verify_report.h"

namespace q4 {

// What is verified, how, and by which limits. Defaults: integrity alone, on all cores, without limits.
struct VerifyOptions {
  // Path of the original checkpoint, as OpenCheckpoint() takes it; "" for integrity alone.
  std::string against;
  // The folder of the adapter that was merged into it (MergeAdapter()); "" for none.
  std::string adapter;
  // The calibration file that was used, with `against`: tensors of calibrated encoders are then computed again.
  // nullptr: they are held to their bounds.
  std::shared_ptr<const Calibration> calibration;
  // How the checkpoint is opened: whether links are followed.
  OpenOptions source_options;
  // Compare only tensors with such names with the source. Integrity is checked whole in any case.
  std::optional<NamePattern> only;
  // The root that the container must have; nullopt: any.
  std::optional<Sha256> root;
  // Percent of the slabs (4 Mi elements) that are compared, in (0, 100]: one of each tensor at least, chosen by a hash
  // of seed, artifact, tensor and slab. Statistics are then those recorded, which the sample must not contradict.
  double sample_percent = 100;
  // nullopt: drawn from the operating system, so that nobody knows the sample who made the container. The report has
  // it.
  std::optional<std::uint64_t> sample_seed;
  // Whether a tensor whose encoder cannot be computed again fails although its codes and error are within their bounds.
  bool require_proof = false;
  // Whether the error of each tensor is also measured beside what absmax makes of the same source (AbsmaxComparison).
  // Costs as much as converting with absmax; of nested scales the source is read once more.
  bool compare_absmax = false;
  // 0: what this process may use of the machine (machine.h).
  unsigned threads = 0;
  // In bytes. Fewer threads work when it is small, but at least one does: this is a wish and no budget.
  // 0: 2 GiB, or less where the machine has less (machine.h).
  std::uint64_t max_memory = 0;
  // Limits, on recomputed statistics where there are any, else on the recorded ones. Each judges for itself.
  // Each of these three holds for every tensor and for the model; nullopt: no limit. NMSE is a ratio, SQNR in dB.
  std::optional<double> max_nmse;
  std::optional<double> min_sqnr_db;
  // In units of the weights.
  std::optional<double> max_abs_error;
  // Those of a gate file, judged after the three above.
  std::vector<Gate> gates;
  // An earlier report that this one is held against; nullopt: none.
  std::optional<Baseline> baseline;
  // What the model computes, measured by q4.evaluate; its numbers are under the gates too. nullopt: none.
  std::optional<EvaluationDocument> evaluation;
  // What computes codes and statistics again. All backends give the same bits, so the report does not depend on it.
  const KernelTable* kernels = &BestCpuKernels();
  // May be nullptr. Set from another thread or a signal handler, it ends the run with kVerifyInterrupted.
  CancelFlag* cancel = nullptr;
};

// All limits of the options as gates, so that one rule judges those of flags and of a file.
std::vector<Gate> GatesOf(const VerifyOptions& options);

// Verifies the container `path` (a file, a shard, or NAME.q4.index.json) and blocks until it is done. What is wrong
// with the container is in the report. A status is returned only if it cannot be opened or read, if the source cannot
// be, changed meanwhile, or has no tensor that `only` selects (kNothingSelected), if the evaluation is of another
// container (kEvaluationOther) or the calibration not the recorded one (kCalibrationNotRecorded, kCalibrationDiffers),
// or if `options.cancel` was set. The report is the same for any number of threads.
// `progress` is called by one thread at a time, with bytes and tensors done and in all.
absl::StatusOr<VerifyReport> VerifyModel(FileSystem& fs, const std::string& path, const VerifyOptions& options,
                                         const ProgressCallback& progress = {});

}  // namespace q4
