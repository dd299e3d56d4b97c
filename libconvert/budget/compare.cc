// Each row's plan says which tensor is stored how; only that is kept of it. All that any row needs of a tensor is then
// measured together, and each row adds up its own.
#include "libconvert/budget/compare.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <tuple>
#include <utility>

#include "formats/base/status.h"
#include "libconvert/budget/budget_issues.h"
#include "libconvert/budget/candidates.h"
#include "libconvert/budget/weigh.h"
#include "libconvert/convert/convert_issues.h"
#include "libconvert/encode/encoder.h"
#include "libconvert/model/stats.h"
#include "libconvert/plan/shard_cut.h"

namespace q4 {
namespace {

bool IsCalibrated(Q4Encoder encoder) { return FindQ4Encoder(encoder)->calibrated; }

// One tensor of a row as its plan has it.
struct RowTensor {
  std::uint32_t source;
  Q4Encoder encoder;
  QuantFormat format;
  std::uint64_t bits;
};

struct PlannedRow {
  ComparedRow row;
  std::vector<RowTensor> tensors;  // quantized ones, in the order of the source
};

// What is asked of one tensor by one encoder, and where the answer is.
struct Asked {
  std::vector<QuantFormat> formats;
  std::size_t task = 0;
};
// By tensor and encoder: what one tensor needs stands together.
using AllAsked = std::map<std::pair<std::uint32_t, Q4Encoder>, Asked>;

bool RecipeIsCalibrated(const ConvertOptions& options) {
  const auto& recipe = options.policy.recipe;
  return recipe && std::any_of(recipe->rules.begin(), recipe->rules.end(),
                               [](const RecipeRule& rule) { return rule.encoder && IsCalibrated(*rule.encoder); });
}

std::vector<QuantSettings> SettingsToCompare(const ConvertOptions& options) {
  std::vector<Q4Encoder> encoders;
  for (const Q4EncoderRow& row : Q4NamedEncoders()) {
    // Codes that follow from a whole tensor are no sums of its pieces.
    if (!row.needs_hessian && (!row.calibrated || options.calibration != nullptr)) encoders.push_back(row.encoder);
  }
  if (options.policy.asked.encoder) encoders = {options.policy.defaults.encoder};
  PolicyOptions policy = options.policy;
  std::vector<QuantSettings> settings;
  // Of no particular rows: all block sizes.
  for (const QuantFormat& format : OpenWays(policy, 0)) {
    for (const Q4Encoder encoder : encoders) settings.emplace_back(format, encoder);
  }
  return settings;
}

absl::StatusOr<PlannedRow> PlanRow(const Checkpoint& checkpoint, const ModelConfigs& configs,
                                   const ConvertOptions& options, const QuantSettings& settings,
                                   std::map<std::uint32_t, WeightInput>* inputs) {
  ConvertOptions own = options;
  own.policy.defaults = settings;
  // A row that has no use for it: given to a conversion with these settings, it would be refused.
  if (!IsCalibrated(settings.encoder) && !RecipeIsCalibrated(options) && !options.policy.asked.encoder) {
    own.calibration = nullptr;
  }
  Q4_ASSIGN_OR_RETURN(const ConversionPlan plan, PlanConversion(checkpoint, configs, own));
  PlannedRow planned;
  planned.row.settings = settings;
  planned.row.bytes = plan.output_bytes;
  planned.row.bytes_exact = !options.compression.zstd;
  for (const PlannedShard& shard : plan.shards) {
    for (const PlannedTensor& each : shard.tensors) {
      const Q4Tensor& tensor = shard.index.tensors[each.tensor];
      if (!tensor.quantized()) continue;
      if (FindQ4Encoder(tensor.encoder)->needs_hessian) {
        return Fail(kCompareFeedback, checkpoint.path(), fmt::format("tensor '{}'", tensor.name));
      }
      planned.tensors.push_back({each.source, tensor.encoder, tensor, 8 * StoredBytes(tensor)});
      if (each.calibrated.input != nullptr) inputs->emplace(each.source, each.calibrated);
    }
  }
  return planned;
}

// Where nested scales overflow, a conversion keeps plain ones (numerics Q5.12).
void Ask(const RowTensor& tensor, AllAsked* asked) {
  std::vector<QuantFormat>& formats = (*asked)[{tensor.source, tensor.encoder}].formats;
  for (QuantFormat format = tensor.format;; format.nested = false) {
    if (std::find(formats.begin(), formats.end(), format) == formats.end()) formats.push_back(format);
    if (!format.nested) break;
  }
}

double Ratio(double error, double squares) { return error == 0 ? 0 : error / squares; }

// Adds up what was measured of a row's tensors, in the order of their names, as the totals of a container.
class RowSum {
 public:
  RowSum(const Checkpoint& checkpoint, const ConvertOptions& options, const AllAsked& asked,
         const std::vector<TensorErrors>& errors)
      : checkpoint_(checkpoint), options_(options), asked_(asked), errors_(errors) {}

  absl::StatusOr<ComparedRow> Of(PlannedRow planned) const {
    const std::vector<SourceTensor>& sources = checkpoint_.tensors();
    std::sort(planned.tensors.begin(), planned.tensors.end(),
              [&](const RowTensor& a, const RowTensor& b) { return sources[a.source].name < sources[b.source].name; });
    ComparedRow& row = planned.row;
    std::uint64_t bits = 0, all_elems = 0, named_elems = 0;
    for (const RowTensor& tensor : planned.tensors) all_elems += sources[tensor.source].elems;
    double e2 = 0, x2 = 0, output = 0;
    for (const RowTensor& tensor : planned.tensors) {
      const SourceTensor& source = sources[tensor.source];
      const Asked& asked = asked_.at({tensor.source, tensor.encoder});
      const TensorErrors& errors = errors_[asked.task];
      if (errors.bad) {
        if (!options_.keep_nonfinite) {
          return Fail(kNonFinite, checkpoint_.FileOf(source).path(),
                      fmt::format("tensor '{}', element {}", source.name, *errors.bad));
        }
        row.bytes_exact = false;
        continue;
      }
      const auto at = [&](const QuantFormat& format) {
        return static_cast<std::size_t>(std::find(asked.formats.begin(), asked.formats.end(), format) -
                                        asked.formats.begin());
      };
      std::size_t format = at(tensor.format);
      std::uint64_t tensor_bits = tensor.bits;
      if (!errors.formats[format] && tensor.format.nested) {
        QuantFormat plain = tensor.format;
        plain.nested = false;
        format = at(plain);
        Decision decision;
        decision.quantize = true;
        decision.settings = QuantSettings(plain, tensor.encoder);
        tensor_bits = 8 * StoredBytes(PlanTensor(source, decision, options_));
        row.bytes_exact = false;
      }
      const MeasuredRecord& record = errors.records[format];
      ++row.tensors;
      row.weights += source.elems;
      bits += tensor_bits;
      e2 += record.e2;
      x2 += record.x2;
      row.core_seconds += record.seconds;
      if (const double nmse = Ratio(record.e2, record.x2); nmse > row.worst_nmse) {
        row.worst_nmse = nmse;
        row.worst_tensor = source.name;
      }
      if (errors.weighted_squares > 0) {
        output += WeighedError(record.weighted, errors.weighted_squares, source.elems, all_elems);
        named_elems += source.elems;
      }
    }
    row.nmse = Ratio(e2, x2);
    if (row.weights != 0) row.bits_per_weight = static_cast<double>(bits) / static_cast<double>(row.weights);
    // The mean over those that count alone.
    if (named_elems != 0) {
      row.output_nmse = output * (static_cast<double>(all_elems) / static_cast<double>(named_elems));
    }
    return std::move(row);
  }

 private:
  const Checkpoint& checkpoint_;
  const ConvertOptions& options_;
  const AllAsked& asked_;
  const std::vector<TensorErrors>& errors_;
};

// By bits and not by bytes of the file: in these, names of settings in a header would decide.
void MarkBest(std::vector<ComparedRow>* rows) {
  for (ComparedRow& row : *rows) {
    row.best = std::none_of(rows->begin(), rows->end(), [&row](const ComparedRow& other) {
      const bool as_small = other.bits_per_weight <= row.bits_per_weight;
      return (as_small && other.error() < row.error()) ||
             (other.bits_per_weight < row.bits_per_weight && other.error() == row.error());
    });
  }
}

std::size_t Choose(const std::vector<ComparedRow>& rows) {
  const auto worth = [](const ComparedRow& row) {
    const double decibels = row.error() == 0 ? std::numeric_limits<double>::infinity() : -10 * std::log10(row.error());
    return decibels - kDecibelsPerBit * row.bits_per_weight;
  };
  return static_cast<std::size_t>(
      std::max_element(rows.begin(), rows.end(),
                       [&](const ComparedRow& a, const ComparedRow& b) { return worth(a) < worth(b); }) -
      rows.begin());
}

}  // namespace

absl::StatusOr<Comparison> CompareSettings(const Checkpoint& checkpoint, const ModelConfigs& configs,
                                           const ConvertOptions& options, const MeasureRun& run) {
  if (checkpoint.taken_over()) return Fail(kNothingToChoose, checkpoint.path(), {});
  std::vector<PlannedRow> planned;
  std::map<std::uint32_t, WeightInput> inputs;
  AllAsked asked;
  for (const QuantSettings& settings : SettingsToCompare(options)) {
    Q4_ASSIGN_OR_RETURN(PlannedRow row, PlanRow(checkpoint, configs, options, settings, &inputs));
    if (row.tensors.empty()) return Fail(kNothingToChoose, checkpoint.path(), {});
    for (const RowTensor& tensor : row.tensors) Ask(tensor, &asked);
    planned.push_back(std::move(row));
  }
  std::vector<MeasureTask> tasks;
  for (auto& [key, one] : asked) {
    one.task = tasks.size();
    MeasureTask& task = tasks.emplace_back();
    task.source = &checkpoint.tensors()[key.first];
    task.encoder = key.second;
    task.formats = one.formats;
    task.record = true;
    task.blind = !IsCalibrated(key.second);
    if (const auto input = inputs.find(key.first); input != inputs.end()) {
      task.calibration = options.calibration.get();
      task.input = input->second;
    }
  }
  Q4_ASSIGN_OR_RETURN(const std::vector<TensorErrors> errors, MeasureTensors(checkpoint, tasks, options.effort, run));
  Comparison comparison;
  comparison.calibrated = !inputs.empty();
  for (const SourceTensor& tensor : checkpoint.tensors()) comparison.source_bytes += tensor.stored_bytes();
  const RowSum sum(checkpoint, options, asked, errors);
  for (PlannedRow& row : planned) {
    Q4_ASSIGN_OR_RETURN(ComparedRow compared, sum.Of(std::move(row)));
    comparison.rows.push_back(std::move(compared));
  }
  std::stable_sort(comparison.rows.begin(), comparison.rows.end(), [](const ComparedRow& a, const ComparedRow& b) {
    return std::tuple(a.bytes, a.error()) < std::tuple(b.bytes, b.error());
  });
  MarkBest(&comparison.rows);
  comparison.chosen = Choose(comparison.rows);
  return comparison;
}

}  // namespace q4
