// The reference of the three loops of the encoder feedback (docs/numerics.md Q17): products added one by one, in
// ascending order, and the columns of a panel one after the other. Rows lie side by side and know nothing of each
// other.
#include <cstdint>

#include "kernels/feedback.h"
#include "kernels/numeric.h"
#include "kernels/scalar_kernels.h"

namespace q4::scalar {

void AddProducts(float* sums, const float* left, const float* right, std::uint64_t terms) {
  for (std::uint64_t c = 0; c < kFeedbackPanel; ++c) {
    for (std::uint64_t r = 0; r < kFeedbackRows; ++r) {
      float sum = sums[c * kFeedbackRows + r];
      for (std::uint64_t j = 0; j < terms; ++j) {
        sum = sum + left[j * kFeedbackRows + r] * right[j * kFeedbackPanel + c];
      }
      sums[c * kFeedbackRows + r] = sum;
    }
  }
}

void SubtractProducts(double* sums, const double* left, const double* right, std::uint64_t terms,
                      std::uint64_t columns) {
  for (std::uint64_t c = 0; c < columns; ++c) {
    for (std::uint64_t r = 0; r < kFeedbackPanel; ++r) {
      double sum = sums[c * kFeedbackPanel + r];
      for (std::uint64_t j = 0; j < terms; ++j)
        sum = sum - left[j * kFeedbackPanel + r] * right[j * kFeedbackPanel + c];
      sums[c * kFeedbackPanel + r] = sum;
    }
  }
}

void FeedbackPanel(CodeBook book, const float* x, const float* scales, const float* matrix, std::uint64_t columns,
                   float* sums, float* errors, std::uint8_t* codes) {
  for (std::uint64_t r = 0; r < kFeedbackRows; ++r) {
    for (std::uint64_t c = 0; c < columns; ++c) {
      const std::uint64_t at = c * kFeedbackRows + r;
      const float scale = scales[at];
      float target = x[at] + sums[at];
      // Q17.6: nothing is made up for where a code has nothing to say, nor after an overflow.
      if (!IsFinite(target) || MagnitudeBits(scale) <= BitsOf(kTiny)) target = x[at];
      const std::uint8_t code = CodeOf(book, target * Reciprocal(SignedDivisor(scale)));
      const float y = CodeValue(book, code) * scale;
      const float error = x[at] - y;
      const float change = error - errors[at];
      for (std::uint64_t later = c + 1; later < columns; ++later) {
        float& sum = sums[later * kFeedbackRows + r];
        sum = sum + change * matrix[c * kFeedbackPanel + later];
      }
      errors[at] = error;
      codes[at] = code;
    }
  }
}

}  // namespace q4::scalar
