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

// A row as one source has it.
struct PlannedRow {
  std::uint64_t bytes = 0;
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

// What a component without a calibration has in a row of others that have one.
Q4Encoder EncoderFor(const BudgetSource& source, Q4Encoder encoder) {
  while (!source.component.empty() && source.options->calibration == nullptr && IsCalibrated(encoder)) {
    encoder = FindQ4Encoder(encoder)->otherwise;
  }
  return encoder;
}

absl::StatusOr<PlannedRow> PlanRow(const BudgetSource& source, QuantSettings settings,
                                   std::map<std::uint32_t, WeightInput>* inputs) {
  const Checkpoint& checkpoint = *source.checkpoint;
  const ConvertOptions& options = *source.options;
  settings.encoder = EncoderFor(source, settings.encoder);
  ConvertOptions own = options;
  own.policy.defaults = settings;
  // A row that has no use for it: given to a conversion with these settings, it would be refused.
  if (!IsCalibrated(settings.encoder) && !RecipeIsCalibrated(options) && !options.policy.asked.encoder) {
    own.calibration = nullptr;
  }
  Q4_ASSIGN_OR_RETURN(const ConversionPlan plan, PlanConversion(checkpoint, *source.configs, own));
  PlannedRow planned;
  planned.bytes = plan.output_bytes;
  // Settings of weights that are taken over with their codes are what they are.
  if (checkpoint.taken_over()) return planned;
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

std::uint64_t BytesOf(const Checkpoint& checkpoint) {
  std::uint64_t bytes = 0;
  for (const SourceTensor& tensor : checkpoint.tensors()) bytes += tensor.bytes;
  return bytes;
}

double Ratio(double error, double squares) { return error == 0 ? 0 : error / squares; }

// What is known of one source.
struct MeasuredSource {
  const BudgetSource* of = nullptr;
  std::vector<PlannedRow> rows;  // by settings
  std::map<std::uint32_t, WeightInput> inputs;
  AllAsked asked;
  std::vector<TensorErrors> errors;
};

// Adds up what was measured of a row's tensors, in the order of their names, as the totals of a container; components
// in their own order.
class RowSum {
 public:
  RowSum(const QuantSettings& settings, std::uint64_t all_elems) : all_elems_(all_elems) { row_.settings = settings; }

  absl::Status Add(const MeasuredSource& measured, PlannedRow planned) {
    const Checkpoint& checkpoint = *measured.of->checkpoint;
    const ConvertOptions& options = *measured.of->options;
    const std::vector<SourceTensor>& sources = checkpoint.tensors();
    std::sort(planned.tensors.begin(), planned.tensors.end(),
              [&](const RowTensor& a, const RowTensor& b) { return sources[a.source].name < sources[b.source].name; });
    row_.bytes += planned.bytes;
    row_.bytes_exact = row_.bytes_exact && !options.compression.zstd;
    for (const RowTensor& tensor : planned.tensors) {
      const SourceTensor& source = sources[tensor.source];
      const Asked& asked = measured.asked.at({tensor.source, tensor.encoder});
      const TensorErrors& errors = measured.errors[asked.task];
      if (errors.bad) {
        if (!options.keep_nonfinite) {
          return Fail(kNonFinite, checkpoint.FileOf(source).path(),
                      fmt::format("tensor '{}', element {}", source.name, *errors.bad));
        }
        row_.bytes_exact = false;
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
        tensor_bits = 8 * StoredBytes(PlanTensor(source, decision, options));
        row_.bytes_exact = false;
      }
      const MeasuredRecord& record = errors.records[format];
      ++row_.tensors;
      row_.weights += source.elems;
      bits_ += tensor_bits;
      e2_ += record.e2;
      x2_ += record.x2;
      row_.core_seconds += record.seconds;
      if (const double nmse = Ratio(record.e2, record.x2); nmse > row_.worst_nmse) {
        row_.worst_nmse = nmse;
        row_.worst_tensor = (measured.of->component.empty() ? "" : measured.of->component + "/") + source.name;
      }
      if (errors.weighted_squares > 0) {
        output_ += WeighedError(record.weighted, errors.weighted_squares, source.elems, all_elems_);
        named_elems_ += source.elems;
      }
    }
    return absl::OkStatus();
  }

  ComparedRow Row() && {
    row_.nmse = Ratio(e2_, x2_);
    if (row_.weights != 0) row_.bits_per_weight = static_cast<double>(bits_) / static_cast<double>(row_.weights);
    // The mean over those that count alone.
    if (named_elems_ != 0) {
      row_.output_nmse = output_ * (static_cast<double>(all_elems_) / static_cast<double>(named_elems_));
    }
    return std::move(row_);
  }

 private:
  const std::uint64_t all_elems_;
  ComparedRow row_;
  std::uint64_t bits_ = 0, named_elems_ = 0;
  double e2_ = 0, x2_ = 0, output_ = 0;
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

// The rows of one source, and all that any of them needs of its tensors. `run`: its progress is the source's.
absl::StatusOr<MeasuredSource> MeasureSource(const BudgetSource& source, const std::vector<QuantSettings>& settings,
                                             const MeasureRun& run) {
  MeasuredSource measured;
  measured.of = &source;
  for (const QuantSettings& each : settings) {
    Q4_ASSIGN_OR_RETURN(PlannedRow row, PlanRow(source, each, &measured.inputs));
    for (const RowTensor& tensor : row.tensors) Ask(tensor, &measured.asked);
    measured.rows.push_back(std::move(row));
  }
  std::vector<MeasureTask> tasks;
  for (auto& [key, one] : measured.asked) {
    one.task = tasks.size();
    MeasureTask& task = tasks.emplace_back();
    task.source = &source.checkpoint->tensors()[key.first];
    task.encoder = key.second;
    task.formats = one.formats;
    task.record = true;
    task.blind = !IsCalibrated(key.second);
    if (const auto input = measured.inputs.find(key.first); input != measured.inputs.end()) {
      task.calibration = source.options->calibration.get();
      task.input = input->second;
    }
  }
  Q4_ASSIGN_OR_RETURN(measured.errors, MeasureTensors(*source.checkpoint, tasks, source.options->effort, run));
  return measured;
}

// The options by which rows are made: of a component that has a calibration, if one has.
const ConvertOptions& OptionsOfRows(const std::vector<BudgetSource>& sources) {
  for (const BudgetSource& source : sources) {
    if (source.options->calibration != nullptr) return *source.options;
  }
  return *sources.front().options;
}

}  // namespace

absl::StatusOr<Comparison> CompareSettings(const std::vector<BudgetSource>& sources, const MeasureRun& run) {
  const std::vector<QuantSettings> settings = SettingsToCompare(OptionsOfRows(sources));
  std::vector<MeasuredSource> measured;
  Comparison comparison;
  std::uint64_t before = 0, behind = 0;
  for (const BudgetSource& source : sources)
    behind += source.checkpoint->taken_over() ? 0 : BytesOf(*source.checkpoint);
  for (const BudgetSource& source : sources) {
    std::uint64_t own = 0;
    MeasureRun each = run;
    behind -= source.checkpoint->taken_over() ? 0 : BytesOf(*source.checkpoint);
    if (run.progress) {
      each.progress = [&](Progress progress) {
        own = progress.total_bytes;
        progress.done_bytes += before;
        progress.total_bytes += before + behind;
        run.progress(progress);
      };
    }
    Q4_ASSIGN_OR_RETURN(MeasuredSource one, MeasureSource(source, settings, each));
    before += own;
    comparison.calibrated = comparison.calibrated || !one.inputs.empty();
    for (const SourceTensor& tensor : source.checkpoint->tensors()) comparison.source_bytes += tensor.stored_bytes();
    measured.push_back(std::move(one));
  }
  for (std::size_t i = 0; i < settings.size(); ++i) {
    std::uint64_t all_elems = 0;
    for (const MeasuredSource& one : measured) {
      for (const RowTensor& tensor : one.rows[i].tensors) {
        all_elems += one.of->checkpoint->tensors()[tensor.source].elems;
      }
    }
    if (all_elems == 0) return Fail(kNothingToChoose, sources.front().checkpoint->path(), {});
    RowSum sum(settings[i], all_elems);
    for (MeasuredSource& one : measured) Q4_RETURN_IF_ERROR(sum.Add(one, std::move(one.rows[i])));
    comparison.rows.push_back(std::move(sum).Row());
  }
  std::stable_sort(comparison.rows.begin(), comparison.rows.end(), [](const ComparedRow& a, const ComparedRow& b) {
    return std::tuple(a.bytes, a.error()) < std::tuple(b.bytes, b.error());
  });
  MarkBest(&comparison.rows);
  comparison.chosen = Choose(comparison.rows);
  return comparison;
}

}  // namespace q4
