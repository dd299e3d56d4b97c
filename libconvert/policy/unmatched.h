// Whether the rules that a user gave do anything: a misspelt pattern would otherwise ship a model that is not the one
// that was asked for.
#pragma once

#include <vector>

#include "absl/status/statusor.h"
#include "formats/base/note.h"
#include "formats/tensor/source_tensor.h"
#include "libconvert/policy/policy.h"

namespace q4 {

// Asks every --include and --exclude of `options` and every rule of its recipe which tensors it matches. `decisions`:
// those of DecideTensors(), in the order of `tensors`. One that matches no tensor is an error (kPatternUnmatched, exit
// code 1) that names the nearest tensors, or with options.allow_unmatched a note. One that matches only tensors on
// which it has no effect is a warning: it wants them quantized, and none can be; or it says how, and none is.
//
// For a model without tensors nothing is asked. Cost: each pattern is searched in each name once.
absl::StatusOr<std::vector<Note>> CheckPatterns(const std::vector<SourceTensor>& tensors,
                                                const std::vector<Decision>& decisions, const PolicyOptions& options);

}  // namespace q4
