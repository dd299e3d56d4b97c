// The policy is asked three times, each time with another recipe: the user's, none, and the user's with a last rule
// that keeps everything. The differences tell what counts and what may be kept, without knowing why the policy said so.
#include "libconvert/budget/candidates.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <string>
#include <utility>

#include "formats/base/status.h"
#include "libconvert/policy/calibrated.h"
#include "libconvert/policy/fused_layers.h"
#include "libconvert/policy/module_names.h"

namespace q4 {
namespace {

constexpr std::uint32_t kBlockSizes[] = {256, 128, 64, 32};

// Whether a rule has said what this tensor is. An encoder alone says nothing of its bits.
bool IsFixed(const std::optional<Recipe>& recipe, std::string_view name) {
  return recipe && std::any_of(recipe->rules.begin(), recipe->rules.end(), [&](const RecipeRule& rule) {
           return (rule.scheme || rule.block_size || rule.double_quant || rule.keep) && rule.match.Matches(name);
         });
}

// "model.layers.3.mlp.experts" of "model.layers.3.mlp.experts.12.up_proj.weight", and of a weight of all experts in
// one;
// "" of all else, shared experts among it. GGUF: "blk.3.experts" of "blk.3.ffn_up_exps.weight".
std::string ExpertsOf(const SourceTensor& tensor) {
  const std::string_view name = tensor.name;
  for (std::size_t begin = 0, end; begin < name.size(); begin = end + 1) {
    end = std::min(name.find('.', begin), name.size());
    const std::string_view part = name.substr(begin, end - begin);
    if (part.ends_with("_exps")) return std::string(name.substr(0, begin)) + "experts";
    if (!part.ends_with("experts") || end == name.size()) continue;
    const char next = name[end + 1 < name.size() ? end + 1 : end];
    if ((next >= '0' && next <= '9') || tensor.shape.size() == 3) return std::string(name.substr(0, end));
  }
  return {};
}

// The bytes that hold a tensor; two tensors of the same ones are one weight under two names.
std::string PlaceOf(const SourceTensor& tensor) {
  std::string place;
  for (const SourceExtent& extent : tensor.extents) {
    place +=
        std::to_string(extent.file) + ":" + std::to_string(extent.offset) + ":" + std::to_string(extent.bytes) + " ";
  }
  return place;
}

// Sets of indices that are joined pair by pair.
class Joined {
 public:
  explicit Joined(std::size_t count) : parent_(count) { std::iota(parent_.begin(), parent_.end(), std::size_t{0}); }
  std::size_t RootOf(std::size_t i) {
    while (parent_[i] != i) i = parent_[i] = parent_[parent_[i]];
    return i;
  }
  // The root is always the smallest of its set.
  void Join(std::size_t a, std::size_t b) {
    a = RootOf(a);
    b = RootOf(b);
    parent_[std::max(a, b)] = std::min(a, b);
  }

 private:
  std::vector<std::size_t> parent_;
};

}  // namespace

std::vector<Way> OpenWays(const PolicyOptions& options, std::uint64_t columns) {
  const QuantSettings& defaults = options.defaults;
  const auto divides = [columns](std::uint32_t block_size) { return columns % block_size == 0; };
  const bool any = std::any_of(std::begin(kBlockSizes), std::end(kBlockSizes), divides);
  std::vector<std::uint32_t> sizes;
  for (const std::uint32_t block_size : kBlockSizes) {
    if (!any || divides(block_size) || block_size == defaults.block_size) sizes.push_back(block_size);
  }
  if (options.asked.block_size) sizes = {defaults.block_size};
  std::vector<Way> ways;
  for (const Scheme& scheme : Schemes()) {
    if (options.asked.scheme && scheme.id != defaults.scheme) continue;
    for (const bool nested : {true, false}) {
      if (options.asked.nested && nested != defaults.nested) continue;
      for (const std::uint32_t block_size : sizes) ways.push_back({scheme.id, block_size, nested});
    }
  }
  return ways;
}

absl::StatusOr<std::vector<Candidate>> FindCandidates(const Checkpoint& checkpoint, const ModelConfigs& configs,
                                                      const ConvertOptions& convert) {
  const PolicyOptions& options = convert.policy;
  if (checkpoint.taken_over()) return std::vector<Candidate>();
  const std::vector<SourceTensor>& tensors = checkpoint.tensors();
  PolicyOptions bare = options, keeping = options;
  bare.recipe.reset();
  if (!keeping.recipe) keeping.recipe.emplace();
  Q4_ASSIGN_OR_RETURN(NamePattern any, NamePattern::Parse("(?s).", {}));
  keeping.recipe->rules.push_back({std::move(any), {}, {}, {}, {}, true});
  Q4_ASSIGN_OR_RETURN(const std::vector<Decision> decided, DecideTensors(tensors, configs, options));
  Q4_ASSIGN_OR_RETURN(const std::vector<Decision> without, DecideTensors(tensors, configs, bare));
  Q4_ASSIGN_OR_RETURN(const std::vector<Decision> kept, DecideTensors(tensors, configs, keeping));
  std::vector<Decision> done = decided;
  CalibratedDecisions calibrated;
  if (convert.calibration != nullptr) {
    Q4_ASSIGN_OR_RETURN(calibrated, ApplyCalibration(*convert.calibration, tensors, &done));
  }
  calibrated.inputs.resize(tensors.size());
  std::vector<Candidate> candidates;
  for (std::uint32_t i = 0; i < tensors.size(); ++i) {
    if (!decided[i].quantize && !without[i].quantize) continue;
    Candidate& candidate = candidates.emplace_back();
    candidate.source = i;
    candidate.settings = decided[i].settings;
    candidate.encoder = done[i].settings.encoder;
    candidate.input = calibrated.inputs[i];
    candidate.fixed = !decided[i].quantize || IsFixed(options.recipe, tensors[i].name);
    if (decided[i].quantize) candidate.usual = decided[i].settings;
    if (candidate.fixed) {
      candidate.ways = {candidate.usual};
      continue;
    }
    candidate.ways = OpenWays(options, tensors[i].shape.empty() ? 1 : tensors[i].shape.back());
    // The last word has --include: what it quantizes, no rule can keep.
    if (!kept[i].quantize) candidate.ways.push_back({});
  }
  return candidates;
}

Q4Tensor StoredAs(const SourceTensor& source, const Candidate& candidate, const Way& way,
                  const ConvertOptions& options) {
  Decision decision;
  decision.quantize = way.quantized();
  decision.settings = QuantSettings(way, candidate.encoder);
  return PlanTensor(source, decision, options);
}

std::vector<std::vector<std::size_t>> GroupAlike(const Checkpoint& checkpoint, const std::vector<Candidate>& candidates,
                                                 bool fused_alike) {
  Joined joined(candidates.size());
  std::map<std::string, std::size_t> experts, places, modules;
  std::vector<std::string> names;
  for (std::size_t i = 0; i < candidates.size(); ++i) {
    const SourceTensor& tensor = checkpoint.tensors()[candidates[i].source];
    if (const std::string layer = ExpertsOf(tensor); !layer.empty())
      joined.Join(experts.emplace(layer, i).first->second, i);
    joined.Join(places.emplace(PlaceOf(tensor), i).first->second, i);
    names.emplace_back(ModuleOf(tensor.name));
    modules.emplace(names.back(), i);
  }
  if (fused_alike) {
    for (const FusedLayer& layer : FusedLayers(names, std::vector<bool>(names.size(), true))) {
      std::optional<std::size_t> first;
      for (const std::string_view part : layer.quantized) {
        const auto at = modules.find(layer.parent + "." + std::string(part));
        if (at == modules.end()) continue;
        if (!first) first = at->second;
        joined.Join(*first, at->second);
      }
    }
  }
  std::map<std::size_t, std::vector<std::size_t>> groups;
  for (std::size_t i = 0; i < candidates.size(); ++i) groups[joined.RootOf(i)].push_back(i);
  std::vector<std::vector<std::size_t>> alike;
  for (auto& [root, members] : groups) alike.push_back(std::move(members));
  return alike;
}

}  // namespace q4
