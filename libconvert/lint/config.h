// The rules that hold config.json against the tensors. Internal to libconvert/lint/.
#pragma once

#include <string>
#include <vector>

#include "libconvert/lint/findings.h"
#include "libconvert/lint/weights.h"

namespace q4 {

enum class LintLayout {
  kCheckpoint,  // safetensors: what config.json says of quantization must hold for the tensors
  kContainer,   // .q4: config.json is that of the source
};

// `config` is the text of config.json; `weights` are all of the model's, bytewise sorted by name.
void LintConfig(const std::string& config, LintLayout layout, const std::vector<LintWeight>& weights,
                LintFindings* findings);

}  // namespace q4
