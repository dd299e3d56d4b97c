// The rules that hold config.json against the tensors. Internal to libconvert/lint/.
//
// Loaders build the model from config.json alone and fill it with tensors afterwards. Where the two disagree, they
// fail, or leave a weight as it was initialized.
#pragma once

#include <string>
#include <vector>

#include "libconvert/lint/findings.h"
#include "libconvert/lint/weights.h"

namespace q4 {

// Which rules apply.
enum class LintLayout {
  kCheckpoint,  // safetensors: what config.json says of quantization must hold for the tensors
  kContainer,   // .q4: config.json is that of the source
};

// Judges `config`, the text of config.json, untrusted. `weights` are all of the model's, bytewise sorted by name: with
// a part of them every absent one would be a finding. Nothing is read and nothing fails; a text that is no JSON object
// is a finding.
void LintConfig(const std::string& config, LintLayout layout, const std::vector<LintWeight>& weights,
                LintFindings* findings);

}  // namespace q4
