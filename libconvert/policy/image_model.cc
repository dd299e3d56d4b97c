// Names are those of the original code of LDM, SGM, SD3, Flux, Wan, HunyuanVideo and Lumina, which ComfyUI keeps. Its
// own quantizers leave the same layers alone.
#include "libconvert/policy/image_model.h"

#include <algorithm>
#include <span>
#include <string_view>
#include <utility>

#include "libconvert/policy/module_names.h"
#include "libconvert/policy/rules.h"

namespace q4 {
namespace {

enum class ImagePart { kDiffusion, kVae, kText, kOther };

constexpr std::string_view kVaeReason = "VAE";
constexpr std::string_view kOutsideImageModel = "outside of diffusion model and text encoders";

// The first that a name begins with says which part it belongs to.
constexpr std::pair<std::string_view, ImagePart> kImagePrefixes[] = {
    {"model.diffusion_model.", ImagePart::kDiffusion},
    {"diffusion_model.", ImagePart::kDiffusion},
    {"control_model.", ImagePart::kDiffusion},
    {"first_stage_model.", ImagePart::kVae},
    {"vae.", ImagePart::kVae},
    {"audio_vae.", ImagePart::kVae},
    {"cond_stage_model.", ImagePart::kText},
    {"conditioner.embedders.", ImagePart::kText},
    {"text_encoders.", ImagePart::kText},
};

// What the names of a diffusion model without a prefix begin with: both of a pair.
constexpr std::pair<std::string_view, std::string_view> kBareModels[] = {
    {"double_blocks.0.", "single_blocks.0."},  // Flux, HunyuanVideo
    {"joint_blocks.0.", "x_embedder."},        // Stable Diffusion 3
    {"input_blocks.0.", "middle_block."},      // U-Nets
};

// Of the diffusion model, without its prefix. `models` is not looked at.
constexpr PolicyRule kDiffusionRules[] = {
    {"",
     "^*embed*.** ^*_emb.** ^img_in.** ^txt_in.** ^time_in.** ^vector_in.** ^guidance_in.** ^byt5_in.** ^vision_in.** "
     "^time_projection.** ^patchify_proj ^adaln_single.** ^caption_projection.** ^distilled_guidance_layer.**",
     false, kEmbedding},
    {"", "^final_layer.** ^out.** ^norm_out.** ^proj_out.** ^head.** ^last_layer.**", false, kOutputHead},
};

// Of text encoders. T5 keeps a layer in fp32; the projection at the end of CLIP's is the last module of the model.
constexpr PolicyRule kTextRules[] = {
    {"", "DenseReluDense.wo", false, kFullPrecision},
    {"", "text_projection", false, "last module of the model"},
};

std::pair<ImagePart, std::string_view> PartOf(std::string_view name, bool bare) {
  for (const auto& [prefix, part] : kImagePrefixes) {
    if (name.starts_with(prefix)) return {part, name.substr(prefix.size())};
  }
  return {bare ? ImagePart::kDiffusion : ImagePart::kOther, name};
}

bool HasPrefix(const std::vector<SourceTensor>& tensors, std::string_view prefix) {
  return std::any_of(tensors.begin(), tensors.end(),
                     [prefix](const SourceTensor& tensor) { return tensor.name.starts_with(prefix); });
}

bool IsPrefixed(const std::vector<SourceTensor>& tensors) {
  return HasPrefix(tensors, "model.diffusion_model.") || HasPrefix(tensors, "diffusion_model.");
}

const PolicyRule* FindImageRule(std::span<const PolicyRule> rules, std::string_view module) {
  const auto found = std::find_if(rules.begin(), rules.end(),
                                  [module](const PolicyRule& rule) { return MatchesModule(rule.modules, module); });
  return found == rules.end() ? nullptr : &*found;
}

DefaultVerdict DecideDiffusion(const SourceTensor& tensor, std::string_view name) {
  const std::string_view module = ModuleOf(name);
  if (module.size() == name.size()) return {false, "not a layer's weight"};
  if (tensor.shape.size() != 2) return {false, "not a 2-D weight"};
  const PolicyRule* const rule = FindImageRule(kDiffusionRules, module);
  return rule == nullptr ? DefaultVerdict{true, kLinear} : DefaultVerdict{rule->quantize, rule->reason};
}

}  // namespace

bool IsImageModel(const std::vector<SourceTensor>& tensors) {
  if (IsPrefixed(tensors)) return true;
  return std::any_of(std::begin(kBareModels), std::end(kBareModels), [&](const auto& names) {
    return HasPrefix(tensors, names.first) && HasPrefix(tensors, names.second);
  });
}

std::vector<DefaultVerdict> ImageModelVerdicts(const std::vector<SourceTensor>& tensors) {
  const bool bare = !IsPrefixed(tensors);
  const DefaultPolicy text(tensors, {});
  std::vector<DefaultVerdict> verdicts;
  verdicts.reserve(tensors.size());
  for (const SourceTensor& tensor : tensors) {
    const auto [part, name] = PartOf(tensor.name, bare);
    switch (part) {
      case ImagePart::kDiffusion:
        verdicts.push_back(DecideDiffusion(tensor, name));
        break;
      case ImagePart::kText: {
        const PolicyRule* const rule = FindImageRule(kTextRules, ModuleOf(name));
        verdicts.push_back(rule == nullptr ? text.Decide(tensor) : DefaultVerdict{rule->quantize, rule->reason});
        break;
      }
      case ImagePart::kVae:
        verdicts.push_back({false, kVaeReason});
        break;
      case ImagePart::kOther:
        verdicts.push_back({false, kOutsideImageModel});
    }
  }
  return verdicts;
}

}  // namespace q4
