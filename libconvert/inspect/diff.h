// What changed between two models: which tensors and files came, went, were renamed or have other content, and by how
// much. Two conversions with different options are compared this way, or an export with what it was made of.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/base/digest.h"
#include "formats/base/file.h"
#include "formats/source/checkpoint.h"
#include "kernels/kernels.h"
#include "libconvert/inspect/delta.h"
#include "libconvert/model/stats.h"

namespace q4 {

// A tensor that both models have under one name and that is not the same in them.
struct TensorChange {
  std::string name;
  // How it is stored, "[64, 32] nf4 b64 dq of BF16"; equal when only the content differs.
  std::string before, after;
  // Set when it is stored alike with other content; not asked when it is stored differently.
  bool content_differs = false;
  // NMSE against the source as the containers recorded it; nullopt without a record.
  std::optional<double> nmse_before, nmse_after;
  // By how much the decoded values differ; nullopt for other shapes and for types that are no floats.
  std::optional<TensorDelta> delta;
};

// The same content, stored alike, under another name.
struct TensorRename {
  std::string before, after;
};

// The outcome. Lists are in the order of the tensors' names, those of files by name.
struct DiffReport {
  // The two paths as they were given.
  std::string left, right;
  // Of all files of each; of containers the error of all quantized tensors against the source, as it was recorded.
  std::uint64_t left_bytes = 0, right_bytes = 0;
  ModelStats left_error, right_error;
  // Two containers with the same root: the same artifact, if each holds what its index says. The payload was not read.
  bool same_root = false;
  bool containers = false;  // both are
  // Of two containers, where the indices tell it: the identities of what they hold (content_identity.h).
  std::optional<Sha256> left_content, right_content;
  // Tensors that only the left, only the right model has.
  std::vector<std::string> removed, added;
  // These are not among removed and added. Looked for in containers only.
  std::vector<TensorRename> renamed;
  std::vector<TensorChange> changed;
  std::uint64_t equal_tensors = 0;
  // How many of the changed tensors have another encoder, by those before and after. Of two containers.
  std::map<std::pair<Q4Encoder, Q4Encoder>, std::uint64_t> encoders;
  std::vector<std::string> files_removed, files_added, files_changed;
  // False for a container and a checkpoint: a container carries the files of its source, not those of an export.
  bool files_compared = true;
  // Of two containers: they were made in another way, or of other files. No difference in content.
  bool provenance_differs = false;

  // Whether a loader gets the same tensors and files from both.
  bool SameContent() const {
    return removed.empty() && added.empty() && renamed.empty() && changed.empty() && files_removed.empty() &&
           files_added.empty() && files_changed.empty();
  }
};

// How the two are read.
struct DiffOptions {
  // How checkpoints are opened; containers need no options.
  OpenOptions open;
  // The root that the left one must have, if it is a container; nullopt: any.
  std::optional<Sha256> root;
  // What decodes. All backends give the same bits.
  const KernelTable* kernels = &BestCpuKernels();
};

// Compares two models of any kind, on the calling thread, and sets its float environment meanwhile.
//
// Two containers by digests where both sides store a chunk in the same way; only chunks compressed on one side or both
// are read, and all of each tensor that differs, to say by how much. Two checkpoints, or a container and a checkpoint,
// by reading both whole; weights in the bitsandbytes layout are compared with quantized tensors code by code and scale
// by scale.
//
// A difference is no error. Errors: those of OpenModel() for either path; a damaged chunk (exit code 6); a bitsandbytes
// weight that cannot be decoded (kBnbWeight); I/O.
absl::StatusOr<DiffReport> DiffModels(FileSystem& fs, const std::string& left, const std::string& right,
                                      const DiffOptions& options = {});

}  // namespace q4
