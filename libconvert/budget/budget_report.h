// A choice for people and as JSON. Internal to choose.cc.
#pragma once

#include <vector>

#include "libconvert/budget/budget.h"
#include "libconvert/budget/options.h"

namespace q4 {

// All that is known when the choice is made.
struct MadeChoice {
  const std::vector<BudgetSource>& sources;
  const BudgetRequest& request;
  const std::vector<MeasuredTensor>& tensors;
  const std::vector<BudgetItem>& items;
  AllocatorRange range;
  const Allocation& allocation;
  std::uint64_t elems;  // of all tensors together
};

// Sets text, table and json.
void ReportChoice(const MadeChoice& made, BudgetChoice* choice);

}  // namespace q4
