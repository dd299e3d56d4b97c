// The steps of budget.h one after the other. All sums over items are made in the order of the source.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "formats/base/status.h"
#include "libconvert/budget/budget.h"
#include "libconvert/budget/budget_issues.h"
#include "libconvert/budget/budget_report.h"
#include "libconvert/budget/effective_recipe.h"

namespace q4 {
namespace {

// Marks the items that stay unquantized because they lose most by weight, as long as they are no more than `percent` of
// all weights; one that is too large is passed over.
void KeepMostSensitive(const std::vector<MeasuredTensor>& tensors, double percent, std::vector<BudgetItem>* items) {
  struct Loss {
    double by_weight;
    std::size_t item;
    std::uint64_t elems;
  };
  std::vector<Loss> losses;
  std::uint64_t all = 0;
  for (std::size_t i = 0; i < items->size(); ++i) {
    const BudgetItem& item = (*items)[i];
    Loss loss{0, i, 0};
    bool quantized = false;
    for (const std::size_t t : item.tensors) {
      loss.by_weight += tensors[t].usual().error;
      loss.elems += tensors[t].elems;
      quantized = quantized || tensors[t].candidate.usual.quantized();
    }
    all += loss.elems;
    const bool may_be_kept = std::find(item.ways.begin(), item.ways.end(), Way{}) != item.ways.end();
    loss.by_weight /= static_cast<double>(loss.elems);
    if (may_be_kept && quantized && item.ways.size() > 1) losses.push_back(loss);
  }
  std::stable_sort(losses.begin(), losses.end(),
                   [](const Loss& a, const Loss& b) { return a.by_weight > b.by_weight; });
  auto left = static_cast<std::uint64_t>(percent / 100 * static_cast<double>(all));
  for (const Loss& loss : losses) {
    if (loss.elems > left) continue;
    left -= loss.elems;
    (*items)[loss.item].ways = {Way{}};
    (*items)[loss.item].most_sensitive = true;
  }
}

// Without a target, whatever is not kept is what it is by default.
void TakeUsual(const std::vector<MeasuredTensor>& tensors, std::vector<BudgetItem>* items) {
  for (BudgetItem& item : *items) {
    const Way usual = tensors[item.tensors.front()].candidate.usual;
    const auto at = std::find(item.ways.begin(), item.ways.end(), usual);
    if (at != item.ways.end()) item.ways = {usual};
  }
}

// Rounded so that what is printed can be asked for.
double Up(double value, double digits) { return std::ceil(value * digits) / digits; }
double Down(double value, double digits) { return std::floor(value * digits) / digits; }

absl::StatusOr<Allocation> Allocate(const std::vector<AllocatorItem>& items, std::uint64_t elems,
                                    const BudgetRequest& request) {
  const AllocatorRange range = RangeOf(items);
  const auto weights = static_cast<double>(elems);
  if (request.bits_per_weight) {
    const double least = static_cast<double>(range.least_bits) / weights;
    const double most = static_cast<double>(range.most_bits) / weights;
    if (*request.bits_per_weight < least || *request.bits_per_weight > Up(most, 1e4)) {
      return Fail(kTargetOutOfReach, {}, fmt::format("--target-bpw {}", *request.bits_per_weight),
                  GotExpected(fmt::format("{}", *request.bits_per_weight),
                              fmt::format("{:.4f} to {:.4f} bits per weight", Up(least, 1e4), Up(most, 1e4))));
    }
    const auto bits = static_cast<std::uint64_t>(std::floor(*request.bits_per_weight * weights));
    return WithinBits(items, std::max(bits, range.least_bits));
  }
  if (request.nmse) {
    if (*request.nmse < range.least_error || *request.nmse > Up(range.most_error, 1e6)) {
      return Fail(kTargetOutOfReach, {}, fmt::format("--target-nmse {}", *request.nmse),
                  GotExpected(fmt::format("{}", *request.nmse),
                              fmt::format("an NMSE from {:g} to {:g}", Up(range.least_error, 1e9),
                                          Down(range.most_error, 1e6))));
    }
    return WithinError(items, *request.nmse);
  }
  // One way is left of each.
  return WithinBits(items, range.most_bits);
}

}  // namespace

absl::StatusOr<BudgetChoice> ChooseByBudget(const Checkpoint& checkpoint, const ModelConfigs& configs,
                                            const ConvertOptions& options, const BudgetRequest& request,
                                            const MeasureRun& run) {
  Q4_ASSIGN_OR_RETURN(std::vector<Candidate> candidates, FindCandidates(checkpoint, configs, options));
  const bool target = request.bits_per_weight || request.nmse;
  if (!target) {
    // Nothing else is measured than what can become of a tensor.
    for (Candidate& candidate : candidates) {
      if (candidate.fixed) continue;
      const bool may_be_kept = !candidate.ways.back().quantized();
      candidate.ways = {candidate.usual};
      if (may_be_kept) candidate.ways.push_back({});
    }
  }
  const std::vector<MeasureTask> tasks = TasksFor(checkpoint, candidates, options);
  Q4_ASSIGN_OR_RETURN(const std::vector<TensorErrors> errors, MeasureTensors(checkpoint, tasks, options.effort, run));
  Q4_ASSIGN_OR_RETURN(const std::vector<MeasuredTensor> tensors,
                      WeighMeasured(checkpoint, candidates, tasks, errors, options));
  std::vector<BudgetItem> items = ItemsFor(tensors, GroupAlike(checkpoint, candidates, request.fused_alike));
  if (request.keep_most_sensitive > 0) KeepMostSensitive(tensors, request.keep_most_sensitive, &items);
  if (!target) TakeUsual(tensors, &items);

  std::vector<AllocatorItem> choices;
  std::uint64_t elems = 0;
  for (const MeasuredTensor& tensor : tensors) elems += tensor.elems;
  for (const BudgetItem& item : items) {
    AllocatorItem& choice = choices.emplace_back();
    for (const Way& way : item.ways) choice.push_back(SumOf(tensors, item, way));
  }
  Q4_ASSIGN_OR_RETURN(const Allocation allocation, Allocate(choices, elems, request));
  std::vector<ChosenTensor> chosen;
  for (std::size_t i = 0; i < items.size(); ++i) {
    items[i].chosen = allocation.chosen[i];
    for (const std::size_t t : items[i].tensors) {
      // What the user's recipe has said, its rules go on saying.
      const Candidate& candidate = tensors[t].candidate;
      if (candidate.fixed) continue;
      chosen.push_back({candidate.source, QuantSettings(items[i].ways[items[i].chosen], candidate.settings.encoder)});
    }
  }
  std::sort(chosen.begin(), chosen.end(),
            [](const ChosenTensor& a, const ChosenTensor& b) { return a.source < b.source; });
  BudgetChoice choice;
  Q4_ASSIGN_OR_RETURN(choice.recipe,
                      RecipeFor(checkpoint, chosen, options.policy.recipe ? *options.policy.recipe : Recipe{}));
  ReportChoice({checkpoint, request, options, tensors, items, RangeOf(choices), allocation, elems}, &choice);
  return choice;
}

}  // namespace q4
