// What changed between two models.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/base/file.h"
#include "formats/source/checkpoint.h"
#include "kernels/kernels.h"
#include "libconvert/inspect/delta.h"

namespace q4 {

struct TensorChange {
  std::string name;
  std::string before, after;     // how it is stored, "[64, 32] nf4 b64 dq"; equal when only the content differs
  bool content_differs = false;  // not asked when it is stored differently
  std::optional<double> nmse_before, nmse_after;  // against the source, as recorded
  std::optional<TensorDelta> delta;               // by how much; nullopt for other shapes and types
};

// The same content under another name.
struct TensorRename {
  std::string before, after;
};

struct DiffReport {
  std::string left, right;
  bool same_root = false;                   // the same artifact, byte for byte
  std::vector<std::string> removed, added;  // tensors that only the left, only the right has
  std::vector<TensorRename> renamed;        // not among removed and added
  std::vector<TensorChange> changed;
  std::uint64_t equal_tensors = 0;
  std::vector<std::string> files_removed, files_added, files_changed;
  bool files_compared = true;  // a container carries the files of its source, not those of an export
  bool provenance_differs = false;

  // Whether a loader gets the same tensors and files from both.
  bool SameContent() const {
    return removed.empty() && added.empty() && renamed.empty() && changed.empty() && files_removed.empty() &&
           files_added.empty() && files_changed.empty();
  }
};

struct DiffOptions {
  OpenOptions open;  // of checkpoints
  const KernelTable* kernels = &BestCpuKernels();
};

// Compares two models of any kind.
//
// Two containers by digests where both sides store a chunk in the same way; only chunks compressed on one side or both
// are read, and all of each tensor that differs, to say by how much. Two checkpoints, or a container and a checkpoint,
// by reading both whole; weights in the bitsandbytes layout are compared with quantized tensors code by code and scale
// by scale.
absl::StatusOr<DiffReport> DiffModels(FileSystem& fs, const std::string& left, const std::string& right,
                                      const DiffOptions& options = {});

}  // namespace q4
