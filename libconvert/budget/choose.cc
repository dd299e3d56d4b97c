// The steps of budget.h one after the other. All sums over items are made in the order of the sources.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>
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

// What is to be measured of one source.
struct ToMeasure {
  std::vector<Candidate> candidates;
  std::vector<MeasureTask> tasks;
  std::uint64_t elems = 0;  // of its candidates
};

absl::StatusOr<ToMeasure> AskOf(const BudgetSource& source, bool target) {
  ToMeasure asked;
  Q4_ASSIGN_OR_RETURN(asked.candidates, FindCandidates(*source.checkpoint, *source.configs, *source.options));
  if (!target) {
    // Nothing else is measured than what can become of a tensor.
    for (Candidate& candidate : asked.candidates) {
      if (candidate.fixed) continue;
      const bool may_be_kept = !candidate.ways.back().quantized();
      candidate.ways = {candidate.usual};
      if (may_be_kept) candidate.ways.push_back({});
    }
  }
  asked.tasks = TasksFor(*source.checkpoint, asked.candidates, *source.options);
  for (const MeasureTask& task : asked.tasks) asked.elems += task.source->elems;
  return asked;
}

// One progress over all sources: a source that is to come counts as much as its elements.
class ProgressOfAll {
 public:
  ProgressOfAll(const ProgressCallback& whole, const std::vector<ToMeasure>& asked) : whole_(whole) {
    for (const ToMeasure& each : asked) to_come_ += BytesOf(each);
  }
  ProgressCallback Next(const ToMeasure& asked) {
    before_ += own_;
    own_ = 0;
    to_come_ -= BytesOf(asked);
    if (!whole_) return {};
    return [this](Progress progress) {
      own_ = progress.total_bytes;
      progress.done_bytes += before_;
      progress.total_bytes += before_ + to_come_;
      whole_(progress);
    };
  }

 private:
  static std::uint64_t BytesOf(const ToMeasure& asked) {
    std::uint64_t bytes = 0;
    for (const MeasureTask& task : asked.tasks) bytes += task.source->bytes;
    return bytes;
  }

  const ProgressCallback& whole_;
  std::uint64_t before_ = 0, own_ = 0, to_come_ = 0;
};

}  // namespace

absl::StatusOr<BudgetChoice> ChooseByBudget(const std::vector<BudgetSource>& sources, const BudgetRequest& request,
                                            const MeasureRun& run) {
  const bool target = request.bits_per_weight || request.nmse;
  std::vector<ToMeasure> asked;
  std::uint64_t elems = 0;
  bool any = false;
  for (const BudgetSource& source : sources) {
    Q4_ASSIGN_OR_RETURN(ToMeasure each, AskOf(source, target));
    elems += each.elems;
    any = any || std::any_of(each.candidates.begin(), each.candidates.end(),
                             [](const Candidate& candidate) { return !candidate.fixed; });
    asked.push_back(std::move(each));
  }
  if (!any) return Fail(kNothingToChoose, sources.front().checkpoint->path(), {});
  std::vector<MeasuredTensor> tensors;
  std::vector<std::vector<std::size_t>> groups;
  ProgressOfAll progress(run.progress, asked);
  for (std::size_t s = 0; s < sources.size(); ++s) {
    MeasureRun own = run;
    own.progress = progress.Next(asked[s]);
    const Checkpoint& checkpoint = *sources[s].checkpoint;
    Q4_ASSIGN_OR_RETURN(const std::vector<TensorErrors> errors,
                        MeasureTensors(checkpoint, asked[s].tasks, sources[s].options->effort, own));
    Q4_ASSIGN_OR_RETURN(std::vector<MeasuredTensor> measured,
                        WeighMeasured(sources[s], asked[s].candidates, asked[s].tasks, errors, elems));
    for (std::vector<std::size_t>& group : GroupAlike(checkpoint, asked[s].candidates, request.fused_alike)) {
      for (std::size_t& member : group) member += tensors.size();
      groups.push_back(std::move(group));
    }
    std::move(measured.begin(), measured.end(), std::back_inserter(tensors));
  }
  std::vector<BudgetItem> items = ItemsFor(tensors, groups);
  if (request.keep_most_sensitive > 0) KeepMostSensitive(tensors, request.keep_most_sensitive, &items);
  if (!target) TakeUsual(tensors, &items);

  std::vector<AllocatorItem> choices;
  for (const BudgetItem& item : items) {
    AllocatorItem& choice = choices.emplace_back();
    for (const Way& way : item.ways) choice.push_back(SumOf(tensors, item, way));
  }
  Q4_ASSIGN_OR_RETURN(const Allocation allocation, Allocate(choices, elems, request));
  std::vector<std::vector<ChosenTensor>> chosen(sources.size());
  for (std::size_t i = 0; i < items.size(); ++i) {
    items[i].chosen = allocation.chosen[i];
    for (const std::size_t t : items[i].tensors) {
      // What the user's recipe has said, its rules go on saying.
      const Candidate& candidate = tensors[t].candidate;
      if (candidate.fixed) continue;
      chosen[static_cast<std::size_t>(tensors[t].of - sources.data())].push_back(
          {candidate.source, QuantSettings(items[i].ways[items[i].chosen], candidate.settings.encoder)});
    }
  }
  BudgetChoice choice;
  for (std::size_t s = 0; s < sources.size(); ++s) {
    std::sort(chosen[s].begin(), chosen[s].end(),
              [](const ChosenTensor& a, const ChosenTensor& b) { return a.source < b.source; });
    const std::optional<Recipe>& own = sources[s].options->policy.recipe;
    Q4_ASSIGN_OR_RETURN(Recipe recipe, RecipeFor(*sources[s].checkpoint, chosen[s], own ? *own : Recipe{}));
    choice.recipes.push_back(std::move(recipe));
  }
  ReportChoice({sources, request, tensors, items, RangeOf(choices), allocation, elems}, &choice);
  return choice;
}

}  // namespace q4
