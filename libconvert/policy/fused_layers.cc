#include "libconvert/policy/fused_layers.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cstddef>
#include <map>
#include <utility>

#include "formats/base/counted.h"
#include "formats/base/text.h"
#include "libconvert/policy/rules.h"

namespace q4 {
namespace {

// As vLLM's model classes have them in packed_modules_mapping and load_weights. Names that no class joins do no harm.
struct Fusion {
  std::string_view parts;  // a list for MatchesAny()
  std::string_view name;
};
constexpr Fusion kFusions[] = {
    {"q_proj k_proj v_proj", "qkv_proj"},
    {"query key value", "qkv_proj"},  // BERT and its relatives
    {"wq wk wv", "qkv_proj"},         // Mistral's and Meta's own names
    {"to_q to_k to_v", "to_qkv"},     // diffusion transformers
    {"gate_proj up_proj", "gate_up_proj"},
    {"w1 w3", "gate_up_proj"},                            // InternLM, Mistral's own names
    {"c_fc_0 c_fc_1", "gate_up_proj"},                    // EXAONE
    {"wi_0 wi_1", "wi"},                                  // gated T5
    {"q_a_proj kv_a_proj_with_mqa", "fused_qkv_a_proj"},  // DeepSeek
    {"in_proj_qkv in_proj_z", "in_proj_qkvz"},            // gated delta nets: Qwen3-Next, Qwen3.5
    {"in_proj_b in_proj_a", "in_proj_ba"},
};

}  // namespace

std::vector<FusedLayer> FusedLayers(const std::vector<std::string>& modules, const std::vector<bool>& quantized) {
  std::map<std::pair<std::string, std::size_t>, FusedLayer> found;
  for (std::size_t i = 0; i < modules.size(); ++i) {
    const std::string_view name = modules[i];
    const std::size_t dot = name.rfind('.');
    if (dot == std::string_view::npos) continue;
    const std::string_view part = name.substr(dot + 1);
    for (std::size_t row = 0; row < std::size(kFusions); ++row) {
      if (!MatchesAny(kFusions[row].parts, part)) continue;
      FusedLayer& layer = found[{std::string(name.substr(0, dot)), row}];
      layer.parent = name.substr(0, dot);
      layer.name = kFusions[row].name;
      (quantized[i] ? layer.quantized : layer.kept).push_back(part);
    }
  }
  std::vector<FusedLayer> layers;
  for (auto& [place, layer] : found) {
    if (layer.kept.size() + layer.quantized.size() > 1) layers.push_back(std::move(layer));
  }
  return layers;
}

std::string FusedLayersWarning(const std::vector<FusedLayer>& layers) {
  std::size_t mixed = 0;
  const FusedLayer* first = nullptr;
  for (const FusedLayer& layer : layers) {
    if (layer.kept.empty() || layer.quantized.empty()) continue;
    if (mixed++ == 0) first = &layer;
  }
  if (mixed == 0) return {};
  return fmt::format(
      "vLLM joins the parts of a layer and cannot mix: in '{}' {} kept, {} quantized{}; keep all parts or none",
      Printable(first->parent),
      fmt::format("{} {}", fmt::join(first->kept, ", "), first->kept.size() == 1 ? "is" : "are"),
      fmt::format("{} {}", fmt::join(first->quantized, ", "), first->quantized.size() == 1 ? "is" : "are"),
      mixed == 1 ? "" : fmt::format(", and {} like it", Counted(mixed - 1, "more layer")));
}

}  // namespace q4
