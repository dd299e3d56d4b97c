#include "libconvert/budget/options.h"

#include <algorithm>
#include <utility>

#include "fmt/format.h"
#include "formats/base/status.h"
#include "libconvert/budget/weigh.h"
#include "libconvert/convert/convert_issues.h"
#include "libconvert/plan/shard_cut.h"

namespace q4 {
namespace {

Way WithPlainScales(Way way) {
  way.nested = false;
  return way;
}

}  // namespace

const MeasuredWay* MeasuredTensor::Find(const Way& way) const {
  const auto at = std::find_if(ways.begin(), ways.end(), [&](const MeasuredWay& each) { return each.way == way; });
  return at == ways.end() ? nullptr : &*at;
}

const MeasuredWay& MeasuredTensor::usual() const { return nonfinite ? ways.front() : *Find(candidate.usual); }

std::vector<MeasureTask> TasksFor(const Checkpoint& checkpoint, const std::vector<Candidate>& candidates,
                                  const ConvertOptions& options) {
  std::vector<MeasureTask> tasks;
  for (const Candidate& candidate : candidates) {
    MeasureTask& task = tasks.emplace_back();
    task.source = &checkpoint.tensors()[candidate.source];
    task.encoder = candidate.encoder;
    if (candidate.input.input != nullptr) task.calibration = options.calibration.get();
    task.input = candidate.input;
    const auto add = [&](const Way& way) {
      if (std::find(task.formats.begin(), task.formats.end(), way) == task.formats.end()) task.formats.push_back(way);
    };
    for (const Way& way : candidate.ways) {
      if (!way.quantized()) {
        task.kept_as = StoredAs(*task.source, candidate, way, options).dtype;
        continue;
      }
      add(way);
      // Where nested scales would overflow, a conversion keeps plain ones (numerics Q5.12).
      add(WithPlainScales(way));
    }
  }
  return tasks;
}

absl::StatusOr<std::vector<MeasuredTensor>> WeighMeasured(const BudgetSource& of,
                                                          const std::vector<Candidate>& candidates,
                                                          const std::vector<MeasureTask>& tasks,
                                                          const std::vector<TensorErrors>& errors,
                                                          std::uint64_t all_elems) {
  const Checkpoint& checkpoint = *of.checkpoint;
  const ConvertOptions& options = *of.options;
  std::vector<MeasuredTensor> tensors;
  for (std::size_t i = 0; i < candidates.size(); ++i) {
    const SourceTensor& source = *tasks[i].source;
    MeasuredTensor& tensor = tensors.emplace_back();
    tensor.of = &of;
    tensor.candidate = candidates[i];
    tensor.elems = source.elems;
    tensor.squares = errors[i].squares;
    const auto stored = [&](const Way& way) { return StoredAs(source, candidates[i], way, options); };
    if (errors[i].bad) {
      if (!options.keep_nonfinite) {
        return Fail(kNonFinite, checkpoint.FileOf(source).path(),
                    fmt::format("tensor '{}', element {}", source.name, *errors[i].bad));
      }
      // As the conversion will, whatever is chosen.
      tensor.nonfinite = tensor.candidate.fixed = true;
      tensor.ways.push_back({{}, {}, 8 * StoredBytes(stored({})), 0, 0});
      continue;
    }
    const auto measured = [&](const Way& way) -> std::optional<double> {
      if (!way.quantized()) return errors[i].kept;
      const auto at = std::find(tasks[i].formats.begin(), tasks[i].formats.end(), way);
      return errors[i].formats[static_cast<std::size_t>(at - tasks[i].formats.begin())];
    };
    for (const Way& way : candidates[i].ways) {
      Way real = way;
      std::optional<double> squared_error = measured(way);
      if (!squared_error && way.nested) {
        real = WithPlainScales(way);
        squared_error = measured(real);
      }
      if (!squared_error) continue;
      tensor.ways.push_back({way, real, 8 * StoredBytes(stored(real)), *squared_error,
                             WeighedError(*squared_error, tensor.squares, source.elems, all_elems)});
    }
    // --keep-dtype that cannot hold a tensor of which nothing else is left to choose: the conversion says so.
    if (tensor.Find(candidates[i].usual) == nullptr) {
      return Fail(kKeepOverflow, checkpoint.FileOf(source).path(), fmt::format("tensor '{}'", source.name));
    }
  }
  return tensors;
}

std::vector<BudgetItem> ItemsFor(const std::vector<MeasuredTensor>& tensors,
                                 const std::vector<std::vector<std::size_t>>& groups) {
  const auto item_of = [&](const std::vector<std::size_t>& members) {
    BudgetItem item{members, {}, 0, false};
    for (const MeasuredWay& each : tensors[members.front()].ways) {
      if (std::all_of(members.begin(), members.end(),
                      [&](std::size_t i) { return tensors[i].Find(each.way) != nullptr; })) {
        item.ways.push_back(each.way);
      }
    }
    return item;
  };
  std::vector<BudgetItem> items;
  for (const std::vector<std::size_t>& members : groups) {
    BudgetItem item = item_of(members);
    if (!item.ways.empty()) {
      items.push_back(std::move(item));
    } else {
      for (const std::size_t i : members) items.push_back(item_of({i}));
    }
  }
  return items;
}

AllocatorOption SumOf(const std::vector<MeasuredTensor>& tensors, const BudgetItem& item, const Way& way) {
  AllocatorOption sum;
  for (const std::size_t i : item.tensors) {
    const MeasuredWay& each = *tensors[i].Find(way);
    sum.bits += each.bits;
    sum.error += each.error;
  }
  return sum;
}

}  // namespace q4
