// What config.json of a bitsandbytes export says: which settings most weights have, and which modules transformers must
// not replace by 4-bit ones. Internal to libconvert/export/.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/tensor/tensor.h"
#include "libconvert/export/export.h"
#include "libconvert/export/model_part.h"

namespace q4 {

// The fields of quantization_config that depend on the model.
struct BnbConfig {
  std::string quant_type = "nf4";  // of most quantized weights; each weight's quant_state has its own
  bool double_quant = false;       // likewise
  // What the quantized weights were, and so what is computed in: that of most elements, where they differ.
  DType weights_dtype = DType::kF32;
  // Modules that transformers must leave alone; nullopt when those are exactly the ones that it leaves alone by itself.
  std::optional<std::vector<std::string>> skip_modules;
  std::vector<std::string> warnings;  // about loaders that will not do with the model what the list says
};

// Of a part whose weights in 4 bits were all taken over from bitsandbytes: its config.json as it came, since it says
// how they load. Only what a flag asks for is changed in it. nullopt for any other part, for one that a flag
// dequantizes weights of, and where config.json says nothing of the quantization. Fails for a text that is no JSON
// (exit code 3).
struct KeptBnbConfig {
  std::string text;
  BnbConfig config;  // what the text says
};
absl::StatusOr<std::optional<KeptBnbConfig>> KeepBnbConfig(const ModelPart& part, const ExportOptions& options);

// Goes over all tensors of a part that is a model of its own and has weights in 4 bits, those that --tensor leaves out
// included: config.json speaks of the whole model. Fails for a quantized weight that transformers stores transposed, or
// takes apart or joins while it loads it (exit code 5), and for a text that is no JSON (3).
absl::StatusOr<BnbConfig> MakeBnbConfig(const ModelPart& part, const ExportOptions& options);

// The part's config.json with quantization_config added, as save_pretrained writes it. A model dtype is added if the
// configuration names none and all quantized weights have the same. Fails for a text that is no JSON object (exit code
// 3).
absl::StatusOr<std::string> BnbConfigText(const ModelPart& part, const BnbConfig& config, const ExportOptions& options);

}  // namespace q4
