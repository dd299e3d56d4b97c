// From tensor entries to a report: what a tensor is, which groups it belongs to, and the groups' totals. In this order:
// DescribeTensor for each tensor, AssignGroups once for the whole model, SumUpStats once statistics are final.
#pragma once

#include <vector>

#include "formats/q4/reader.h"
#include "libconvert/judge/verify_report.h"

namespace q4 {

// What the index says of a tensor. Layer and role are AssignGroups()'. Statistics are the recorded ones, if any.
// REQUIRES: `tensor` is one of the index.
VerifyTensor DescribeTensor(const Q4Index& index, const Q4Tensor& tensor);

// Sets layer and role of all tensors of a model (tensor_groups.h). Needs all tensors at once: what a role is called
// depends on the other names (docs/gates.md).
void AssignGroups(std::vector<VerifyTensor>* tensors);

// Sets the totals (Q8.11) of the quantized tensors with statistics: of the model, and of the groups, layers in natural
// order and then roles in bytewise order. REQUIRES: the report's tensors are bytewise sorted by name.
void SumUpStats(VerifyReport* report);

}  // namespace q4
