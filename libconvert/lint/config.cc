// Rules are about what loaders do with config.json; each is silent where an unusual model might be right.
//
// What loaders do was established with transformers 5.23 and bitsandbytes 0.50. transformers builds every Linear that
// is not skipped as a 4-bit module before it looks at any tensor; then each weight's own quant_state decides type,
// block size and nesting. So a wrong list of skipped modules is an error, and a wrong type in config.json only a
// warning: other loaders may believe it.
//
// Three groups of rules: Quantization() holds quantization_config against the tensors, of checkpoints only; Layers()
// and Embeddings() hold the sizes of the model against them, of containers too.
#include "libconvert/lint/config.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <string_view>
#include <utility>

#include "fmt/format.h"
#include "formats/base/counted.h"
#include "formats/base/json_value.h"
#include "formats/base/status.h"
#include "formats/bnb/layout.h"
#include "libconvert/lint/skip_list.h"
#include "libconvert/policy/experts.h"
#include "libconvert/policy/fused_layers.h"
#include "libconvert/policy/module_names.h"
#include "libconvert/scheme/quant_settings.h"
#include "libconvert/scheme/scheme.h"

namespace q4 {
namespace {

constexpr LintRule kLintConfigMalformed{
    {6552, ExitCode::kCheckFailed, "config.json cannot be read"},
    "config-malformed",
    "Loaders stop.",
    "Download it again.",
};
// What is left when somebody copies config.json from the original model to the quantized one.
constexpr LintRule kLintConfigNotQuantized{
    {6553, ExitCode::kCheckFailed, "tensors are quantized, config.json does not say so"},
    "config-not-quantized",
    "Loaders expect plain weights and fail on the packed shapes.",
    "Add quantization_config.",
};
// The reverse: weights were dequantized or replaced, config.json stayed.
constexpr LintRule kLintConfigQuantized{
    {6554, ExitCode::kCheckFailed, "config.json says 4 bits, but no tensor is quantized"},
    "config-quantized",
    "Loaders expect packed weights and fail on the plain ones.",
    "Remove quantization_config, or publish the quantized weights.",
};
// The library's default is fp4; a config.json that was written without the key says nothing and is not compared.
constexpr LintRule kLintConfigType{
    {6555, ExitCode::kOk, "bnb_4bit_quant_type differs from the tensors"},
    "config-type",
    "Loaders that believe config.json decode with the other code book.",
    "Correct config.json: the tensors' own quant_state decides.",
};
constexpr LintRule kLintConfigDoubleQuant{
    {6556, ExitCode::kOk, "bnb_4bit_use_double_quant differs from the tensors"},
    "config-double-quant",
    "Loaders that believe config.json look for other tensors.",
    "Correct config.json: the tensors' own quant_state decides.",
};
// FSDP flattens the parameters of a module into one tensor, for which all must have one dtype; that is what
// bnb_4bit_quant_storage is for. Loading for inference ignores it, hence a warning.
constexpr LintRule kLintConfigStorage{
    {6557, ExitCode::kOk, "bnb_4bit_quant_storage differs from the tensors"},
    "config-storage",
    "Sharded training (FSDP) mixes dtypes.",
    "Correct config.json.",
};
// Checkpoints that keep sensitive layers in 16 bits, such as dynamic 4-bit ones, depend on this list. transformers
// loads the weight into a 4-bit module without quant_state, and only the first forward pass fails an assertion; vLLM's
// loader silently quantizes the weight itself.
constexpr LintRule kLintSkipNotListed{
    {6558, ExitCode::kCheckFailed, "weight is unquantized, but llm_int8_skip_modules does not list it"},
    "skip-not-listed",
    "The loader makes a 4-bit module for it, and the first forward pass fails.",
    "Add the module to llm_int8_skip_modules.",
};
// Made by q4export --experts keep4bit, and by writers that quantize every matrix they see.
constexpr LintRule kLintExpertsQuantized{
    {6550, ExitCode::kOk, "experts are in 4 bits"},
    "experts-quantized",
    "transformers holds them fused and cannot load them in 4 bits; vLLM with vllm-bnb-plugin reads one NF4 matrix per "
    "expert.",
    "For transformers, export with --experts dequantize.",
};
// Entries match more than people think: "proj" skips every module whose name ends so.
constexpr LintRule kLintSkipButQuantized{
    {6559, ExitCode::kCheckFailed, "weight is quantized, but llm_int8_skip_modules lists it"},
    "skip-but-quantized",
    "The loader makes a plain module, and the packed weight does not fit.",
    "Remove the entry from llm_int8_skip_modules.",
};
// transformers loads them as they are. Left by writers that keep single layers for their error; q4convert warns of it
// and has --fused-alike.
constexpr LintRule kLintFusedMixed{
    {6650, ExitCode::kOk, "layers that vLLM joins are quantized in part"},
    "fused-mixed",
    "vLLM makes one layer of q, k and v, and of gate and up, and cannot mix 4 and 16 bits in it; transformers can.",
    "For vLLM, quantize or keep all parts.",
};
// transformers saves tied tensors once. If config.json later loses the flag that ties them, the loader initializes a
// new output embedding.
constexpr LintRule kLintHeadMissing{
    {6560, ExitCode::kCheckFailed, "embeddings are not tied, but there is no output embedding"},
    "head-missing",
    "The output embedding stays random: the model answers noise.",
    "Set tie_word_embeddings, or add the tensor.",
};
// Equal in size, the two may be copies, and nothing is said. transformers ties them if they are equal and else keeps
// both; others drop one.
constexpr LintRule kLintTiedTwice{
    {6561, ExitCode::kOk, "embeddings are tied, but stored twice and unequal in size"},
    "tied-twice",
    "One of the two is dropped when loading.",
    "Correct tie_word_embeddings.",
};
// Found in pruned models whose num_hidden_layers was not corrected, and in downloads that lack a shard and the index
// that would name it.
constexpr LintRule kLintLayerMissing{
    {6562, ExitCode::kCheckFailed, "config.json counts a layer that has no tensors"},
    "layer-missing",
    "The layer stays random.",
    "A shard is missing, or num_hidden_layers is wrong.",
};
// Tokens were added, or rows padded to a multiple that GPUs like, without a change of config.json.
constexpr LintRule kLintVocabulary{
    {6563, ExitCode::kCheckFailed, "vocab_size differs from the embedding's rows"},
    "vocabulary",
    "Loading stops, or token numbers point outside the table.",
    "Correct vocab_size.",
};

// Where a model's repeated layers are; each needs 0 to num_hidden_layers - 1. Llama and those like it, BERT without and
// with its prefix, GPT-2. A model with other names is not judged, rather than guessed at.
constexpr std::string_view kLayerPrefixes[] = {"model.layers.", "encoder.layer.", "bert.encoder.layer.",
                                               "transformer.h."};
constexpr std::uint64_t kMostLayers = 10'000;  // far more than any model has; config.json is untrusted
constexpr std::string_view kInputEmbeddings[] = {"model.embed_tokens.weight", "embeddings.word_embeddings.weight",
                                                 "bert.embeddings.word_embeddings.weight", "transformer.wte.weight"};
constexpr std::string_view kHead = "lm_head.weight";

// These three take a member of another type for an absent one: what cannot be compared is not judged.
std::string Text(const Json& object, const char* key) {
  const auto at = object.find(key);
  return at != object.end() && at->is_string() ? at->get<std::string>() : std::string();
}

std::optional<bool> Bool(const Json& object, const char* key) {
  const auto at = object.find(key);
  return at != object.end() && at->is_boolean() ? std::optional<bool>(at->get<bool>()) : std::nullopt;
}

std::optional<std::uint64_t> Number(const Json& object, const char* key) {
  const auto at = object.find(key);
  return at != object.end() && at->is_number_unsigned() ? std::optional<std::uint64_t>(at->get<std::uint64_t>())
                                                        : std::nullopt;
}

// "model.layers.#.mlp.up_proj.weight": the same for all layers, and for all experts of a layer. Components that are
// numbers become '#'; digits inside a component, as in "w1", tell roles apart and stay.
std::string RoleOf(std::string_view name) {
  std::string role;
  for (std::size_t i = 0; i < name.size(); ++i) {
    const bool digit = name[i] >= '0' && name[i] <= '9';
    const bool starts_component = i == 0 || name[i - 1] == '.';
    if (digit && starts_component) {
      const std::size_t end = name.find_first_not_of("0123456789", i);
      if (end == std::string_view::npos || name[end] == '.') {
        role += '#';
        i = (end == std::string_view::npos ? name.size() : end) - 1;
        continue;
      }
    }
    role += name[i];
  }
  return role;
}

// The rules, each a member function; what they look up together are the members. References live as long as the call of
// LintConfig().
class ConfigLint {
 public:
  ConfigLint(const Json& config, const std::string& text, const std::vector<LintWeight>& weights,
             std::vector<bool> experts, LintFindings* findings)
      : config_(config), names_(text), weights_(weights), experts_(std::move(experts)), findings_(*findings) {}

  void Quantization() {
    const std::size_t quantized = static_cast<std::size_t>(
        std::count_if(weights_.begin(), weights_.end(), [](const LintWeight& weight) { return weight.quantized(); }));
    const auto at = config_.find("quantization_config");
    if (at == config_.end() || !at->is_object()) {
      if (quantized != 0) findings_.Add(kLintConfigNotQuantized, "config.json", Counted(quantized, "weight"));
      return;
    }
    const std::string method = Text(*at, "quant_method");
    // The library writes both spellings; one is enough.
    const bool four_bits = Bool(*at, "load_in_4bit").value_or(Bool(*at, "_load_in_4bit").value_or(false));
    // Tensors in the layout of bitsandbytes under another method: no loader of that method can read them.
    if ((!method.empty() && method != "bitsandbytes") || !four_bits) {
      if (quantized != 0) findings_.Add(kLintConfigNotQuantized, "quantization_config", "another method");
      return;
    }
    if (quantized == 0) {
      findings_.Add(kLintConfigQuantized, "quantization_config");
      return;
    }
    // Only here do tensors and config.json agree that this is a 4-bit bitsandbytes model.
    Settings(*at);
    Experts();
    Fused();
    const auto skipped = at->find("llm_int8_skip_modules");
    SkippedModules(SkipList(skipped == at->end() ? Json(nullptr) : *skipped));
  }

  void Layers() {
    const std::optional<std::uint64_t> layers = Number(config_, "num_hidden_layers");
    if (!layers || *layers > kMostLayers) return;
    // A model with encoder and decoder has layers under several prefixes. A prefix without any tensor is not one of
    // this model.
    for (const std::string_view prefix : kLayerPrefixes) {
      std::set<std::uint64_t> present;
      for (const LintWeight& weight : weights_) {
        if (!weight.name.starts_with(prefix)) continue;
        const std::string digits =
            weight.name.substr(prefix.size(), weight.name.find('.', prefix.size()) - prefix.size());
        // At most five digits, because kMostLayers has five and std::stoul() throws on too many.
        if (digits.empty() || digits.size() > 5 || digits.find_first_not_of("0123456789") != std::string::npos)
          continue;
        present.insert(std::stoul(digits));
      }
      if (present.empty()) continue;
      for (std::uint64_t layer = 0; layer < *layers; ++layer) {
        if (!present.contains(layer)) findings_.Add(kLintLayerMissing, fmt::format("{}{}", prefix, layer));
      }
    }
  }

  void Embeddings() {
    // The head is looked up once, the input embedding under each of its names; a model has one of them.
    const LintWeight* head = Find(kHead);
    for (const std::string_view name : kInputEmbeddings) {
      const LintWeight* embedding = Find(name);
      if (embedding == nullptr || embedding->shape.size() != 2) continue;
      const std::optional<std::uint64_t> rows = Number(config_, "vocab_size");
      if (rows && embedding->shape[0] != *rows) {
        findings_.Add(kLintVocabulary, name,
                      GotExpected(fmt::format("{} rows", embedding->shape[0]), fmt::to_string(*rows)));
      }
      const std::optional<bool> tied = Bool(config_, "tie_word_embeddings");
      // The default of tie_word_embeddings depends on the architecture, so an absent flag is not judged.
      if (!tied || !IsCausalLm()) continue;
      if (!*tied && head == nullptr) findings_.Add(kLintHeadMissing, kHead);
      if (*tied && head != nullptr && head->shape != embedding->shape) {
        findings_.Add(kLintTiedTwice, kHead, GotExpected(ShapeString(head->shape), ShapeString(embedding->shape)));
      }
    }
  }

 private:
  // Sorted by name, as LintConfig() requires.
  const LintWeight* Find(std::string_view name) const {
    const auto at = std::lower_bound(weights_.begin(), weights_.end(), name,
                                     [](const LintWeight& weight, std::string_view key) { return weight.name < key; });
    return at != weights_.end() && at->name == name ? &*at : nullptr;
  }

  // Of models whose head is named lm_head and made from the tensor names above.
  bool IsCausalLm() const {
    const auto names = config_.find("architectures");
    return names != config_.end() && names->is_array() && !names->empty() && names->front().is_string() &&
           names->front().get_ref<const std::string&>().ends_with("ForCausalLM");
  }

  void Settings(const Json& quantization) {
    const std::string type = Text(quantization, "bnb_4bit_quant_type");
    const std::optional<bool> nested = Bool(quantization, "bnb_4bit_use_double_quant");
    const std::string storage = Text(quantization, "bnb_4bit_quant_storage");
    for (const LintWeight& weight : weights_) {
      if (!weight.quantized()) continue;
      const std::string_view book = Q4SchemeName(weight.scheme);
      if (!type.empty() && type != book) findings_.Add(kLintConfigType, weight.name, GotExpected(type, book));
      if (nested && *nested != weight.nested) {
        findings_.Add(kLintConfigDoubleQuant, weight.name,
                      GotExpected(*nested ? "true" : "false", weight.nested ? "true" : "false"));
      }
      if (!storage.empty() && storage != TorchDTypeName(weight.dtype)) {
        findings_.Add(kLintConfigStorage, weight.name, GotExpected(storage, TorchDTypeName(weight.dtype)));
      }
    }
  }

  void Experts() {
    for (std::size_t i = 0; i < weights_.size(); ++i) {
      if (experts_[i] && weights_[i].quantized()) findings_.Add(kLintExpertsQuantized, weights_[i].name);
    }
  }

  void Fused() {
    std::vector<std::string> modules;
    std::vector<bool> quantized;
    for (const LintWeight& weight : weights_) {
      if (!weight.quantized() && weight.shape.size() != 2) continue;
      modules.emplace_back(ModuleOf(weight.name));
      quantized.push_back(weight.quantized());
    }
    for (const FusedLayer& layer : FusedLayers(modules, quantized)) {
      if (layer.kept.empty() || layer.quantized.empty()) continue;
      findings_.Add(kLintFusedMixed, layer.parent,
                    fmt::format("{} of {} parts kept", layer.kept.size(), layer.kept.size() + layer.quantized.size()));
    }
  }

  // The list is about modules, so each weight is judged by the names that it has in memory. A Linear is told from other
  // weights by its namesakes in other layers, some quantized, this one not; and the output head by its name.
  void SkippedModules(const SkipList& skipped) {
    if (!skipped.known()) return;
    constexpr std::string_view kWeight = ".weight";
    std::set<std::string> quantized_roles, beginnings;
    for (const LintWeight& weight : weights_) {
      if (weight.quantized()) quantized_roles.insert(RoleOf(weight.name));
      beginnings.insert(weight.name.substr(0, weight.name.find('.')));
      for (const std::string& module : names_.InMemory(weight.name)) {
        beginnings.insert(module.substr(0, module.find('.')));
      }
    }
    // A class with a head loads checkpoints of the model without one too: it puts a part before the names that is not
    // there, but in the list.
    const SkipList listed = skipped.WithoutPrefixes(beginnings);
    const bool tied = Bool(config_, "tie_word_embeddings").value_or(false);
    for (std::size_t i = 0; i < weights_.size(); ++i) {
      const LintWeight& weight = weights_[i];
      if (!weight.name.ends_with(kWeight) || experts_[i]) continue;
      const std::string_view module = std::string_view(weight.name).substr(0, weight.name.size() - kWeight.size());
      const std::vector<std::string> places = names_.InMemory(module);
      const auto is_in = [](const SkipList& list) {
        return [&list](const std::string& place) { return !list.is_default() && list.Matches(place); };
      };
      if (weight.quantized() && std::any_of(places.begin(), places.end(), is_in(skipped))) {
        findings_.Add(kLintSkipButQuantized, weight.name);
      }
      // A weight is judged only if it is a matrix of a float dtype. Embeddings are such matrices too, but have no
      // quantized namesake.
      const bool is_matrix = IsQuantizable(weight.dtype) && weight.shape.size() == 2;
      if (weight.quantized() || !is_matrix || std::all_of(places.begin(), places.end(), is_in(listed))) continue;
      // The loader spares the head by itself only if there is no list.
      const bool is_head = places.front() == "lm_head" && !skipped.is_default() && !tied;
      if (is_head || quantized_roles.contains(RoleOf(weight.name))) findings_.Add(kLintSkipNotListed, weight.name);
    }
  }

  const Json& config_;
  const ModuleNames names_;
  const std::vector<LintWeight>& weights_;
  const std::vector<bool> experts_;  // of weights_, in the same order: those that transformers holds fused
  LintFindings& findings_;
};

// No module is made for fused experts, so rules on modules are silent about them.
std::vector<bool> ExpertsAmong(const std::vector<LintWeight>& weights, const std::string& config) {
  std::vector<SourceTensor> tensors(weights.size());
  for (std::size_t i = 0; i < weights.size(); ++i) {
    tensors[i].name = weights[i].name;
    tensors[i].shape = weights[i].shape;
  }
  // The text has been parsed before.
  return FusedExperts(tensors, config).value_or(std::vector<bool>(weights.size()));
}

}  // namespace

void LintConfig(const std::string& config, LintLayout layout, const std::vector<LintWeight>& weights,
                LintFindings* findings) {
  // The depth is bounded as everywhere; a parser without a bound would overflow the stack on "[[[[...".
  const absl::StatusOr<Json> json = ParseModelJson(config, {});
  if (!json.ok() || !json->is_object()) {
    const std::string problem = json.ok() ? "not an object" : MessageOf(json.status());
    findings->Add(kLintConfigMalformed, "config.json", Shown{problem});
    return;
  }
  ConfigLint lint(*json, config, weights, ExpertsAmong(weights, config), findings);
  if (layout == LintLayout::kCheckpoint) lint.Quantization();
  lint.Layers();
  lint.Embeddings();
}

}  // namespace q4
