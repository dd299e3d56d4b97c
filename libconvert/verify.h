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
#include "formats/checkpoint.h"
#include "formats/q4_container.h"
#include "libconvert/model_stats.h"
#include "libconvert/progress.h"

namespace q4 {

struct VerifyOptions {
  std::string against;  // the original checkpoint, as OpenCheckpoint() takes it; "" for integrity alone
  OpenOptions source_options;
  unsigned threads = 0;                               // 0: all cores
  std::uint64_t max_memory = std::uint64_t{2} << 30;  // bytes; fewer threads work when it is small, at least one does
  // Limits, on recomputed statistics where there are any, else on the recorded ones.
  std::optional<double> max_nmse;     // per tensor and for the model
  std::optional<double> min_sqnr_db;  // per tensor and for the model
  std::optional<double> max_abs_error;
  CancelFlag* cancel = nullptr;
};

// One thing that is wrong.
struct VerifyFinding {
  int issue = 0;        // the number after Q4-
  std::string tensor;   // name of the tensor concerned; "" when it is none
  std::string message;  // the whole error line but the tool's name; fit for a terminal
};

struct VerifyTensor {
  std::string name;
  Q4Scheme scheme = Q4Scheme::kRaw;
  std::uint64_t elems = 0;
  bool passed = true;      // no finding names it
  bool compared = false;   // with the source, whole
  bool has_stats = false;  // recorded, or recomputed when `compared`
  Q4Stats stats;
};

// Everything that was looked at. Complete even when findings are many: only their listing is capped.
struct VerifyReport {
  std::string path, source;
  Sha256 root{};                  // the artifact's identity
  std::uint32_t shards = 0;       // files verified
  std::uint32_t shard_count = 0;  // files the model has; more than `shards` when one was given alone
  std::uint64_t file_bytes = 0;   // of these shards
  std::uint64_t chunks = 0;
  std::uint64_t source_bytes = 0;     // tensor bytes of the source that were compared
  std::vector<VerifyTensor> tensors;  // bytewise sorted by name
  std::uint64_t embedded_files = 0;
  bool stats_recomputed = false;        // of every quantized tensor
  ModelStats model;                     // of the tensors that have statistics
  std::vector<VerifyFinding> findings;  // the first kMaxFindings, in file order, then name order
  std::uint64_t finding_count = 0;      // all of them

  bool passed() const { return finding_count == 0; }
};
inline constexpr std::size_t kMaxFindings = 100;

// Verifies the container `path` (a file, a shard, or NAME.q4.index.json). What is wrong with the container is in the
// report; a status is returned only if it cannot be opened or read, if the source cannot be, or if `options.cancel` was
// set. The report is the same for any number of threads.
absl::StatusOr<VerifyReport> VerifyModel(FileSystem& fs, const std::string& path, const VerifyOptions& options,
                                         const ProgressCallback& progress = {});

}  // namespace q4
