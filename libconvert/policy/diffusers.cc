// The rules were derived by running diffusers 0.42.1's own replacement of layers over every model class that it can
// build (tests/python/diffusers_policy_check.py); tests/libconvert/policy/diffusers_test.cc replays the result.
#include "libconvert/policy/diffusers.h"

#include <algorithm>
#include <cstddef>
#include <set>
#include <utility>

#include "fmt/format.h"
#include "formats/base/json_value.h"
#include "formats/base/status.h"
#include "formats/base/text.h"
#include "libconvert/policy/default.h"
#include "libconvert/policy/policy_issues.h"

namespace q4 {
namespace {

constexpr std::string_view kSpecialDiffusersClass = "special linear class, which diffusers leaves alone";

constexpr PolicyRule kRules[] = {
    // Modules in the classes' _keep_in_fp32_modules.
    {"WanTransformer3DModel WanVACETransformer3DModel WanAnimateTransformer3DModel SkyReelsV2Transformer3DModel "
     "ChronoEditTransformer3DModel AnyFlowTransformer3DModel AnyFlowFARTransformer3DModel HeliosTransformer3DModel "
     "JoyImageEditTransformer3DModel JoyImageEditPlusTransformer3DModel Cosmos3OmniTransformer "
     "MiniMaxH3Transformer3DModel",
     "time_embedder.**", false, kFullPrecision},
    {"WanAnimate2Transformer3DModel", "time_embedding.# time_projection.#", false, kFullPrecision},
    {"Kandinsky5Transformer3DModel Kandinsky6Transformer3DModel Kandinsky6SRTransformer3DModel",
     "*time_embeddings.** *modulation.**", false, kFullPrecision},
    {"MiniMaxH3Transformer3DModel", "^proj_in ^proj_out ^audio_proj_in ^audio_proj_out", false, kFullPrecision},
    {"AutoencoderKLMiniMaxH3Audio", "^pre_block.**", false, kFullPrecision},
    {"RFD4ProteinaTransformer", "cond_factory.linear_out", false, kFullPrecision},

    // Matrices of classes that are not nn.Linear.
    {"WanAnimateTransformer3DModel", "motion_network.#", false, kSpecialDiffusersClass},
    {"HiDreamImageTransformer2DModel", "ff_i.gate", false, kRouter},
    {"ConsistencyDecoderVAE MiniMaxMusic3Transformer1DModel", "time_proj", false, kParameter},
    {"AnimaTextConditioner", "^embed", false, kEmbedding},
    {"HunyuanVideo15Transformer3DModel", "cond_type_embed", false, kEmbedding},
    {"HunyuanDiT2DModel HunyuanDiT2DControlNetModel", "time_extra_emb.style_embedder", false, kEmbedding},
    {"Ideogram4Transformer2DModel", "embed_image_indicator", false, kEmbedding},
    {"RFD4ProteinaTransformer",
     "feature_modules.cath_code.* feature_modules.atom_charge feature_modules.atomic_element "
     "feature_modules.secondary_structure feature_modules.token_type",
     false, kEmbedding},
    // Linear layers under a name that is an embedding's elsewhere.
    {"AceStepAudioTokenDetokenizer AceStepAudioTokenizer AceStepConditionEncoder", "embed_tokens", true, kLinear},

    // Of every class, those that are not known yet included.
    {"",
     "class_embedding pos_embedding position_encoding *token_embedding embed_tokens embedding_table audio_embeddings "
     "embed.embeddings "
     "quantize.embedding",
     false, kEmbedding},
};

// The last of the dotted parts.
std::string_view LeafOf(std::string_view module) { return module.substr(module.rfind('.') + 1); }

// Whether the entry `entry` of a skip list makes diffusers leave `module` alone.
bool Catches(std::string_view entry, std::string_view module) {
  return module == entry || LeafOf(module) == entry || module.find(std::string(entry) + ".") != std::string_view::npos;
}

}  // namespace

std::string DiffusersClassOf(std::string_view config_json) {
  if (config_json.empty()) return {};
  const auto config = ParseModelJson(config_json, "config.json");
  if (!config.ok() || !config->is_object()) return {};
  // Every model of transformers names its type; some of its configurations have taken over keys of diffusers.
  if (config->contains("model_type") || config->contains("architectures")) return {};
  const auto name = config->find("_class_name");
  return name != config->end() && name->is_string() ? name->get<std::string>() : std::string();
}

std::span<const PolicyRule> DiffusersRules() { return kRules; }

std::string DiffusersTensorName(std::string_view tensor) {
  const std::size_t dot = tensor.rfind('.');
  if (dot == std::string_view::npos) return std::string(tensor);
  return DiffusersModuleName(tensor.substr(0, dot)) + std::string(tensor.substr(dot));
}

std::string DiffusersModuleName(std::string_view module) {
  static constexpr std::pair<std::string_view, std::string_view> kRenamed[] = {
      {"query", "to_q"}, {"key", "to_k"}, {"value", "to_v"}, {"proj_attn", "to_out.0"}};
  // Only the attention blocks of VAEs and of the first unconditional UNets: "mid_block.attentions.0.query".
  constexpr std::string_view kBlock = "attentions.#";
  const std::string_view leaf = LeafOf(module);
  const std::string_view block = module.substr(0, module.size() - leaf.size() - (leaf.size() < module.size()));
  for (const auto& [old_name, new_name] : kRenamed) {
    if (leaf == old_name && MatchesModule(kBlock, block)) return fmt::format("{}.{}", block, new_name);
  }
  return std::string(module);
}

absl::StatusOr<std::vector<std::string>> DiffusersModulesToSkip(const std::vector<SourceTensor>& tensors,
                                                                const std::vector<bool>& quantized,
                                                                const std::vector<bool>& defaults) {
  std::set<std::string> skip;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    if (defaults[i] && !quantized[i]) skip.insert(DiffusersModuleName(ModuleOf(tensors[i].name)));
  }
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    if (!quantized[i]) continue;
    const std::string module = DiffusersModuleName(ModuleOf(tensors[i].name));
    const auto caught =
        std::find_if(skip.begin(), skip.end(), [&module](const std::string& entry) { return Catches(entry, module); });
    if (caught != skip.end()) return Fail(kSkipCatches, {}, tensors[i].name, "kept: '" + *caught + "'");
  }
  return std::vector<std::string>(skip.begin(), skip.end());
}

}  // namespace q4
