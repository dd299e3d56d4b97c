// One table: a row for each kind. Prefixes are those of PEFT's tuners, and the names that diffusers, kohya's scripts
// and LyCORIS write.
#include "formats/folder/adapters.h"

#include <algorithm>
#include <array>
#include <string>

#include "absl/strings/ascii.h"
#include "formats/base/text.h"

namespace q4 {
namespace {

struct AdapterKind {
  std::string_view name;   // for people
  std::string_view types;  // values of peft_type, in lower case
  // Parts of a tensor's name between its dots. A trailing '*' stands for any rest, one in front for any beginning, and
  // a dot joins two parts that follow one another.
  std::string_view parts;
};

constexpr AdapterKind kKinds[] = {
    {"LoRA adapter", "lora adalora xlora",
     "lora_A lora_B lora_a lora_b lora_E lora_ranknum lora_embedding_A lora_embedding_B lora_magnitude_vector "
     "lora_bias lora_down "
     "lora_up lora_mid dora_scale lora.down lora.up lora_linear_layer *_lora.down *_lora.up *_lora1.down *_lora1.up "
     "*_lora2.down *_lora2.up lora_unet_* lora_te_* lora_te1_* lora_te2_* lora_te3_* lora_transformer_* "
     "lora_prior_unet_*"},
    {"LoHa adapter", "loha", "hada_*"},
    {"LoKr adapter", "lokr", "lokr_* lycoris_*"},
    {"IA3 adapter", "ia3", "ia3_l"},
    {"VeRA adapter", "vera pvera", "vera_lambda_* vera_A vera_B pvera_*"},
    {"OFT adapter", "oft boft hra psoft", "oft_r oft_blocks oft_R oft_s boft_R boft_s hra_u psoft_*"},
    {"prompt or prefix tuning", "prompt_tuning prefix_tuning p_tuning multitask_prompt_tuning cpt cartridge",
     "prompt_embeddings prefix_task_cols prefix_task_rows"},
    {"adaption prompt", "adaption_prompt", "adaption_prompt adaption_gate"},
    {"adapter", "",
     "adamss_* beft_* bone_* c3a_* deft_* delora_* fourierft_* frod_* glora_* gralora_* hira_* lily_* ln_tuning_* "
     "miss_* osf_* peanut_* poly_lora_* randlora_* road_theta road_alpha shira_* supertuning_* tinylora_* "
     "trainable_tokens_* unilora_* vblora_* waveft_*"},
};

constexpr std::array<std::string_view, 2> kPeftWeightNames = {"adapter_model.safetensors", "adapter_model.bin"};

constexpr std::array<std::string_view, 4> kWeightEndings = {".safetensors", ".bin", ".pt", ".npz"};
constexpr std::array<std::string_view, 3> kWeightNames = {"adapter_model", "pytorch_lora_weights", "adapters"};

bool MatchesPart(std::string_view pattern, std::string_view part) {
  if (pattern.starts_with('*')) return part.ends_with(pattern.substr(1));
  if (pattern.ends_with('*')) return part.starts_with(pattern.substr(0, pattern.size() - 1));
  return part == pattern;
}

// Whether the name has `pattern` among its parts: one part, or two in a row.
bool HasPart(std::string_view name, std::string_view pattern) {
  const std::size_t dot = pattern.find('.');
  const std::string_view second = dot == std::string_view::npos ? std::string_view() : pattern.substr(dot + 1);
  bool first_matched = false;
  return AnyItem(name, ".", [&](std::string_view part) {
    if (first_matched && MatchesPart(second, part)) return true;
    const bool matches = MatchesPart(pattern.substr(0, dot), part);
    first_matched = matches && !second.empty();
    return matches && second.empty();
  });
}

}  // namespace

std::span<const std::string_view> PeftWeightNames() { return kPeftWeightNames; }

bool IsAdapterFile(std::string_view name) {
  if (name == kAdapterConfigName) return true;
  return std::any_of(kWeightEndings.begin(), kWeightEndings.end(), [&](std::string_view ending) {
    if (!name.ends_with(ending)) return false;
    const std::string_view stem = name.substr(0, name.size() - ending.size());
    return std::find(kWeightNames.begin(), kWeightNames.end(), stem) != kWeightNames.end();
  });
}

const std::string_view* AdapterKindOf(std::string_view tensor) {
  for (const AdapterKind& kind : kKinds) {
    if (AnyItem(kind.parts, " ", [tensor](std::string_view part) { return HasPart(tensor, part); })) return &kind.name;
  }
  return nullptr;
}

std::string_view AdapterKindOfType(std::string_view peft_type) {
  const std::string lower = absl::AsciiStrToLower({peft_type.data(), peft_type.size()});
  for (const AdapterKind& kind : kKinds) {
    if (AnyItem(kind.types, " ", [&lower](std::string_view type) { return type == lower; })) return kind.name;
  }
  return "adapter";
}

}  // namespace q4
