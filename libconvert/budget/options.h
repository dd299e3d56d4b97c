// Measured candidates as items for the allocator: tensors that are chosen alike in one, ways that all of them can take,
// and what each would cost. Internal to choose.cc and its report.
#pragma once

#include <optional>
#include <vector>

#include "libconvert/budget/allocate.h"
#include "libconvert/budget/budget.h"
#include "libconvert/budget/candidates.h"

namespace q4 {

// One way to store one tensor.
struct MeasuredWay {
  Way way;
  Way stored;              // another one where a conversion makes it so (numerics Q5.12)
  std::uint64_t bits = 0;  // that a container holds of it: codes and scales, or elements
  double squared_error = 0;
  double error = 0;  // WeighedError()
};

// A candidate with what was measured of it. `ways` are in the order of Candidate::ways; what cannot hold the tensor is
// not among them.
struct MeasuredTensor {
  const BudgetSource* of = nullptr;
  Candidate candidate;
  std::uint64_t elems = 0;
  double squares = 0;
  std::vector<MeasuredWay> ways;
  bool nonfinite = false;  // kept for that, by --on-nonfinite keep

  const MeasuredWay* Find(const Way& way) const;
  // The way that the tensor takes without any choice.
  const MeasuredWay& usual() const;
};

// What is chosen together: the tensors, and the ways open to all of them.
struct BudgetItem {
  std::vector<std::size_t> tensors;  // indices into the measured ones
  std::vector<Way> ways;
  std::size_t chosen = 0;       // of the ways
  bool most_sensitive = false;  // kept for that
};

// REQUIRES: `errors` are those of `tasks` = TasksFor(...).
std::vector<MeasureTask> TasksFor(const Checkpoint& checkpoint, const std::vector<Candidate>& candidates,
                                  const ConvertOptions& options);
// `all_elems`: of all tensors that count, those of other sources too.
absl::StatusOr<std::vector<MeasuredTensor>> WeighMeasured(const BudgetSource& of,
                                                          const std::vector<Candidate>& candidates,
                                                          const std::vector<MeasureTask>& tasks,
                                                          const std::vector<TensorErrors>& errors,
                                                          std::uint64_t all_elems);

// Groups whose members have no way in common fall apart: the user's recipe has said different things of them.
std::vector<BudgetItem> ItemsFor(const std::vector<MeasuredTensor>& tensors,
                                 const std::vector<std::vector<std::size_t>>& groups);

// The sums of an item in one of its ways.
AllocatorOption SumOf(const std::vector<MeasuredTensor>& tensors, const BudgetItem& item, const Way& way);

}  // namespace q4
