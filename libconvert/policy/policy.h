// The policy: which tensors of a checkpoint are quantized, with which settings, and why.
//
// The default is what transformers would quantize with load_in_4bit for the same architecture, decided without the
// model's code: from config.json, tensor names, shapes and dtypes. docs/policy.md has the rule in words, its
// deviations and the table checked against transformers; rules.cc has the names.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/source/modules.h"
#include "formats/tensor/source_tensor.h"
#include "libconvert/policy/recipe.h"
#include "libconvert/scheme/quant_settings.h"

namespace q4 {

// --include or --exclude: an RE2 regular expression, searched anywhere in a tensor's name.
struct PatternRule {
  bool include = false;
  std::string regex;
};

// Which of the default settings somebody asked for. What was not asked for gives way where codes are taken over.
struct AskedSettings {
  bool scheme = false, block_size = false, nested = false, encoder = false;
};

struct PolicyOptions {
  QuantSettings defaults;             // --type, --block-size, --double-quant, --encoder
  AskedSettings asked;                // which of these were given
  std::vector<PatternRule> patterns;  // in the order of the command line: the last one that matches wins
  std::optional<Recipe> recipe;       // applied before the patterns, so that the command line has the last word
  bool allow_unmatched = false;       // a pattern or rule that matches no tensor is a note, no error (unmatched.h)
};

// What happens to one tensor. `settings` count only when `quantize` is true.
struct Decision {
  bool quantize = false;
  QuantSettings settings;
  // A short phrase for people, shown by --dry-run: "linear weight", "output head", "kept: --exclude 'mlp'". It may
  // quote the user's pattern, never the checkpoint's text.
  std::string reason;
};

// One decision for each tensor, in the same order. `configs` has the texts of config.json; without one the rules that
// are tied to a model type do not apply. Tensors of module folders are decided folder by folder (DefaultVerdicts()),
// patterns and recipes see their whole names.
//
// A tensor is only ever quantized when its dtype is F32, F16 or BF16 and it has elements: patterns and recipes
// cannot force others, and `reason` says so. Fails for a regular expression that does not compile (exit code 1) and
// for a config.json that is not JSON (3).
//
// Where any tensor is taken over with its codes (SourceTensor::bnb), nothing is left to decide: it has the settings
// that its source has, with the encoder kNone, and all others are kept. Fails then for what was asked for and is not
// so: kTakenOverSettings, kTakenOverRules (exit code 1).
absl::StatusOr<std::vector<Decision>> DecideTensors(const std::vector<SourceTensor>& tensors,
                                                    const ModelConfigs& configs, const PolicyOptions& options);

}  // namespace q4
