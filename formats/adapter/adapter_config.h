// adapter_config.json of PEFT, as far as a merge asks it: docs/q4convert.md, "An adapter".
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/base/note.h"

namespace q4 {

inline constexpr std::uint64_t kMostAdapterRank = 65536;

// What PEFT calls LoraConfig.
struct AdapterConfig {
  std::uint64_t rank = 8;   // r, 1 to kMostAdapterRank
  double alpha = 8;         // lora_alpha; finite
  bool rslora = false;      // use_rslora: the scale is alpha / sqrt(r), not alpha / r
  bool dora = false;        // use_dora
  bool bias = false;        // lora_bias
  bool keeps_ties = false;  // ensure_weight_tying: what is trained of an embedding is the output head's as well
  // Weights of the modules are stored as (in, out); PEFT writes what the last module was that it looked at.
  bool fan_in_fan_out = false;
  // By module, a regular expression of Python for each, in the order of the file: the first that fits a module counts.
  std::vector<std::pair<std::string, std::uint64_t>> rank_pattern;
  std::vector<std::pair<std::string, double>> alpha_pattern;
  // modules_to_save: ends of names of modules that were trained whole, as copies.
  std::vector<std::string> copies;
  std::string base_model;   // base_model_name_or_path; "" for none. Untrusted
  std::vector<Note> notes;  // members that nobody knows, which PEFT ignores too
};

// `path` is named in errors: kAdapterConfig; kAdapterMethod for another method than LoRA, and for options of it that
// change more than the weights, whose tensors are others, or that PEFT's own merge refuses; those of ParseModelJson().
absl::StatusOr<AdapterConfig> ParseAdapterConfig(std::string_view text, std::string_view path);

// The factor before the product, as PEFT computes it: in fp64, then once to fp32.
float AdapterScale(const AdapterConfig& config, double alpha, std::uint64_t rank);

}  // namespace q4
