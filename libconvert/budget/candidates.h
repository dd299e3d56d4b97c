// What can be chosen for each tensor: from the policy's decisions and the options, before anything is measured.
//
// Counted is every tensor that the policy would quantize: by default, or because a pattern or recipe says so. What
// --exclude takes out is out of the account; what a rule of the user's recipe keeps is in it, with its 16 bits.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/calibration/calibration.h"
#include "formats/source/checkpoint.h"
#include "libconvert/plan/plan.h"
#include "libconvert/policy/policy.h"
#include "libconvert/scheme/quant_settings.h"

namespace q4 {

// A way to store a tensor: a format, or kRaw to keep it unquantized.
using Way = QuantFormat;

// A tensor that counts, and the ways that are open to it: at least one. One way alone is a tensor for which a rule of
// the user's recipe has said type, block size, double_quant or keep.
struct Candidate {
  std::uint32_t source = 0;  // index into Checkpoint::tensors()
  QuantSettings settings;    // of the policy's decision; the encoder is that of every way
  // The encoder that does it: another one where a calibration file does not name the tensor; and what that file says.
  Q4Encoder encoder = Q4Encoder::kAbsmax;
  WeightInput input;
  std::vector<Way> ways;
  // What the tensor is without any choice: one of the ways, and what a choice is compared with.
  Way usual;
  bool fixed = false;  // by the user's recipe
};

// Which settings the options leave open for a tensor with rows of `columns` elements: all of those that were not asked
// for. 32 to 256 are the block sizes that pay (docs/quality.md); of these the ones that divide a row, because
// bitsandbytes on a CPU with AVX-512 decodes others wrongly (docs/export_bnb.md), and the default's. Where none divides
// it, all.
std::vector<Way> OpenWays(const PolicyOptions& options, std::uint64_t columns);

// In the order of the source; none of a checkpoint whose weights are taken over with their codes. Errors: those of
// DecideTensors() and ApplyCalibration().
absl::StatusOr<std::vector<Candidate>> FindCandidates(const Checkpoint& checkpoint, const ModelConfigs& configs,
                                                      const ConvertOptions& options);

// How a container holds the tensor so: bits, or the dtype that it is kept as.
Q4Tensor StoredAs(const SourceTensor& source, const Candidate& candidate, const Way& way,
                  const ConvertOptions& options);

// Tensors that are chosen alike, as indices into `candidates`, each in one group: experts of a layer, names for the
// same bytes, and with `fused_alike` the layers that vLLM joins. In the order of their first members.
std::vector<std::vector<std::size_t>> GroupAlike(const Checkpoint& checkpoint, const std::vector<Candidate>& candidates,
                                                 bool fused_alike);

}  // namespace q4
