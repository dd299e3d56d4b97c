#include "kernels/codebook.h"

#include <span>

#include "kernels/kernels.h"

namespace q4 {

std::span<const float, 16> CodeValues(CodeBook book) { return book == CodeBook::kNf4 ? kNf4Values : kFp4Values; }

std::span<const float, 256> NestedMap() { return kNestedMap; }

}  // namespace q4
