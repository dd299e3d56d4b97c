// What every step of one verification shares: how the work is done, and where what is found goes.
#pragma once

#include "kernels/kernels.h"
#include "libconvert/base/progress.h"
#include "libconvert/judge/verify_findings.h"

namespace q4 {

// Points at what the caller of a step owns. A step runs on any number of threads; findings and report are written by
// the calling one alone.
struct VerifyContext {
  const KernelTable* kernels = nullptr;
  unsigned threads = 1;
  CancelFlag* cancel = nullptr;  // may be nullptr; once set, steps end with kVerifyInterrupted
  FindingList* findings = nullptr;
  VerifyReport* report = nullptr;  // its tensors are those of the model in its order

  bool cancelled() const { return cancel != nullptr && cancel->load(); }
};

}  // namespace q4
