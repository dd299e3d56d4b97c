// From tensor entries to a report: what a tensor is, which groups it belongs to, and the groups' totals.
#pragma once

#include <vector>

#include "formats/q4_reader.h"
#include "libconvert/verify_report.h"

namespace q4 {

// What the index says of a tensor. Layer and role are AssignGroups()'.
VerifyTensor DescribeTensor(const Q4Index& index, const Q4Tensor& tensor);

// Sets layer and role of all tensors of a model (tensor_groups.h).
void AssignGroups(std::vector<VerifyTensor>* tensors);

// The layers in natural order, then the roles in bytewise order, that quantized tensors with statistics belong to, with
// their totals (Q8.11). REQUIRES: `tensors` is bytewise sorted by name.
std::vector<VerifyGroup> TotalsOfGroups(const std::vector<VerifyTensor>& tensors);

}  // namespace q4
