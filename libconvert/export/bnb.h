// What is particular to a bitsandbytes export: the tensors of each weight, config.json, and what its readers get wrong.
// Internal to libconvert/export*.cc.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "formats/q4/reader.h"
#include "libconvert/export/export.h"
#include "libconvert/export/pieces.h"

namespace q4 {

// Adds the targets of all of plan->sources, one group per source. Fails for packed codes that are no whole number of
// options.quant_storage items (exit code 5).
absl::Status PlanBnbTargets(const ExportOptions& options, ExportPlan* plan);

// The fields of quantization_config that depend on the model.
struct BnbConfig {
  std::string quant_type = "nf4";  // of most quantized weights; each weight's quant_state has its own
  bool double_quant = false;       // likewise
  // Modules that transformers must leave alone; nullopt when those are exactly the ones that it leaves alone by itself.
  std::optional<std::vector<std::string>> skip_modules;
};

// `config_json` is the embedded config.json, or "". Fails if that is not JSON (3), and for a weight that transformers
// stores transposed but that was quantized as it was (5).
absl::StatusOr<BnbConfig> MakeBnbConfig(const Q4Model& model, const std::string& config_json);

// `config_json` with quantization_config added, as save_pretrained writes it. A model dtype is added if the
// configuration names none and all quantized weights have the same. Fails if `config_json` is no JSON object (3).
absl::StatusOr<std::string> BnbConfigText(const Q4Model& model, const std::string& config_json, const BnbConfig& config,
                                          const ExportOptions& options);

// Defects of current readers that this export would meet; a line each, fit for a terminal.
std::vector<std::string> BnbWarnings(const ExportPlan& plan, const std::string& config_json);

}  // namespace q4
