// What every step of one verification shares: how the work is done, and where what is found goes. The steps stand in
// integrity.h, source.h and digests.h; verify.cc calls them and owns everything that a context points at.
#pragma once

#include "kernels/kernels.h"
#include "libconvert/base/progress.h"
#include "libconvert/judge/verify_findings.h"

namespace q4 {

// Points at what the caller of a step owns, and is copied freely. A step runs on any number of threads; of these, only
// the one that commits a result may write findings and report. Two steps that run side by side need lists of their own.
struct VerifyContext {
  // The kernels that compute codes, scales and statistics again. All backends give the same bits, so any will do.
  const KernelTable* kernels = nullptr;
  // How many threads a step may use, its caller's among them; at least 1.
  unsigned threads = 1;
  // May be nullptr. Once it is set, steps end with kVerifyInterrupted.
  CancelFlag* cancel = nullptr;
  // Where what is wrong is listed. Steps also ask it which tensors failed before, to leave these out.
  FindingList* findings = nullptr;
  // Its tensors are those of the model in its order, described before the first step.
  VerifyReport* report = nullptr;

  // Asked once a chunk or slab, so that an interruption takes effect within a fraction of a second.
  bool cancelled() const { return cancel != nullptr && cancel->load(); }
};

}  // namespace q4
