// From the flags of q4verify to what the library is asked for.
#pragma once

#include "absl/status/statusor.h"
#include "libconvert/base/progress.h"
#include "libconvert/verify/verify.h"
#include "tools/options.h"

namespace q4 {

// Reads the files that flags name: a gate, an earlier report, an evaluation. Errors as those of LoadGate(),
// LoadBaseline() and LoadEvaluation(), kGateNeedsEvaluation, and
// kBadFlag for what the parser cannot check. `pipeline`: the container is one, and --calibration names a folder, which
// is left to VerifyPipeline().
absl::StatusOr<VerifyOptions> VerifyOptionsFrom(const VerifyFlags& flags, bool pipeline, CancelFlag* cancel);

}  // namespace q4
