// The encoder `feedback` (docs/numerics.md Q17): the scales of `weighted`, and codes that make up for each other's
// errors in what a layer puts out. Scales are chosen slab by slab, as those of any encoder that searches; codes depend
// on a whole row and on the Hessian of the inputs, so they are chosen of a whole tensor, when all scales are settled.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/statusor.h"
#include "formats/calibration/calibration.h"
#include "formats/q4/container.h"
#include "kernels/kernels.h"
#include "libconvert/encode/encoder.h"
#include "libconvert/encode/feedback_factors.h"

namespace q4 {

// Whether the codes of a tensor of this encoder come from ChooseFeedbackCodes(). What its Encoder object chooses are
// the nearest ones, which a row keeps that nothing better is found for.
inline bool CodesNeedWholeTensor(Q4Encoder encoder) { return FindQ4Encoder(encoder)->needs_hessian; }

// Coordinate descent after the first pass (Q17.5): two took the error of MiniLM's layers from 0.279 to 0.262 of
// absmax'.
inline constexpr int kFeedbackDescents = 2;

// How one tensor is worked on.
struct FeedbackRun {
  const KernelTable& kernels;
  const Calibration& calibration;
  unsigned threads = 1;
  std::function<bool()> interrupted;  // asked often; what was begun is then dropped
  // Of tensors with the same input; nullptr where each makes its own. REQUIRES: they have begun the tensor.
  FeedbackFactors* factors = nullptr;
};

struct FeedbackResult {
  bool interrupted = false;               // nothing else counts then
  std::uint64_t rows = 0, kept_rows = 0;  // of all, and those with the nearest codes
  std::uint64_t raised = 0;               // matrices whose damping was raised (Q17.3),
  int most_raises = 0;                    // and how often at the most
};

// Chooses the codes of a whole tensor: codes[PackedBytes(tensor.elems)]. `x`: its elements, all finite; `decoded`: its
// scales as a reader will get them, one a block. The same for any number of threads. Errors: those of
// Calibration::ReadHessian(), and kHessianNotPositive. REQUIRES: the input fits the tensor and has Hessians.
absl::StatusOr<FeedbackResult> ChooseFeedbackCodes(const FeedbackRun& run, const Q4Tensor& tensor,
                                                   const WeightInput& calibrated, const std::uint8_t* x,
                                                   const float* decoded, std::uint8_t* codes);

// kHessianNotPositive, of a matrix that no damping helps.
absl::Status HessianNotPositive(const Calibration& calibration, const InputStatistics& input, std::uint64_t matrix,
                                const std::string& tensor);

// What to tell people of it: "" where there is nothing.
std::string FeedbackNote(const Q4Tensor& tensor, const FeedbackResult& result);

// Bytes that ChooseFeedbackCodes() takes beside what it is given, and beside the room of FeedbackFactors.
std::uint64_t FeedbackMemory(const WeightInput& calibrated, unsigned threads);

}  // namespace q4
