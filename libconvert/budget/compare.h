// Settings side by side: what every type, block size, form of scales and encoder would make of a checkpoint, from one
// reading of it. docs/q4convert.md, "Comparing settings", is the manual.
//
// A row is a conversion with these settings for all tensors that its options leave to them: policy, patterns and recipe
// are those of the options. Sizes are the plan's, errors those that the container would record.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/source/checkpoint.h"
#include "libconvert/budget/budget.h"
#include "libconvert/budget/measure.h"
#include "libconvert/plan/plan.h"
#include "libconvert/scheme/quant_settings.h"

namespace q4 {

struct ComparedRow {
  QuantSettings settings;   // those of the command line; a recipe's are what they are in every row
  std::uint64_t bytes = 0;  // of the files of the container
  // Whether it is that to the byte: else it is the most there can be (compression), or data changes how a tensor is
  // stored.
  bool bytes_exact = true;
  std::uint64_t tensors = 0, weights = 0;  // those that are quantized
  double bits_per_weight = 0;              // of these, scales included
  double nmse = 0;                         // of the model (numerics Q8.11)
  std::string worst_tensor;  // by its own NMSE, the first by name; "" where nothing is lost; of a pipeline
                             // COMPONENT/NAME
  double worst_nmse = 0;
  // With a calibration: the mean over the weights of what tensors that it names lose of their layers' outputs, as
  // budgets count it.
  std::optional<double> output_nmse;
  // What choosing scales and codes took, all threads together. Rows that differ in nested scales alone shared the work,
  // and each has the whole.
  double core_seconds = 0;
  bool best = false;  // no row of as many bits per weight, or fewer, has less error

  double error() const { return output_nmse.value_or(nmse); }
};

struct Comparison {
  std::vector<ComparedRow> rows;  // by bytes, then error
  // By kDecibelsPerBit: the row whose SQNR less that for each bit per weight is the largest; the first of those.
  std::size_t chosen = 0;
  std::uint64_t source_bytes = 0;  // of all tensors in the source's files
  bool calibrated = false;
};

// What a bit more for every weight buys of any quantizer: half the error. Settings that get less for their bits would
// do better to spend them elsewhere.
inline constexpr double kDecibelsPerBit = 6.02;

// What is asked of type, block size, nesting and encoder in `options` is fixed, the rest varied: the types, the block
// sizes 32 to 256, both forms of scales, absmax and mse, with a calibration also weighted. Memory as MeasureTensors().
// Of several sources, the components of a pipeline, a row is all of them with the same settings; one without a
// calibration has mse where others are weighted. REQUIRES: their options differ in calibration alone. Errors:
// kNothingToChoose, kCompareFeedback, kNonFinite, unless ConvertOptions says that such tensors are kept, and those of
// PlanConversion() and MeasureTensors().
absl::StatusOr<Comparison> CompareSettings(const std::vector<BudgetSource>& sources, const MeasureRun& run);

}  // namespace q4
