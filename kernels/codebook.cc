// The tables of kernels/codebook.h that others than the kernels ask for: exporters write them into the files of other
// software.
#include "kernels/codebook.h"

#include <span>

#include "kernels/kernels.h"

namespace q4 {

std::span<const float, 16> CodeValues(CodeBook book) { return TablesOf(book).values; }

std::span<const float, 256> NestedMap() { return kNestedMap; }

}  // namespace q4
