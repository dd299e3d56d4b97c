// A function for each matter that is worth a note, called by PlanNotes() in the order in which people read: what was
// odd about the input, what is not carried, what was decided.
#include "libconvert/plan/plan_notes.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string_view>
#include <utility>

#include "formats/base/counted.h"
#include "formats/base/text.h"
#include "formats/gguf/gguf.h"
#include "libconvert/policy/diffusers.h"
#include "libconvert/policy/experts.h"
#include "libconvert/policy/fused_layers.h"
#include "libconvert/policy/loadable.h"
#include "libconvert/policy/module_names.h"
#include "libconvert/policy/wrappers.h"

namespace q4 {
namespace {

// One line for those that a loader would miss and one for the others, grouped by reason in the order of their first
// names; the whole list is in the plan and in the report.
void NoteLeftOut(const Checkpoint& checkpoint, bool missed, std::vector<Note>* notes) {
  constexpr std::size_t kShownReasons = 8, kShownNames = 4;
  struct Alike {
    std::string_view reason;
    std::string names;
    std::size_t count = 0;
  };
  std::vector<Alike> groups;
  for (const LeftOutFile& file : checkpoint.left_out()) {
    if (file.warning != missed) continue;
    auto group = std::find_if(groups.begin(), groups.end(), [&](const Alike& a) { return a.reason == file.reason; });
    if (group == groups.end()) group = groups.insert(group, Alike{file.reason, {}, 0});
    if (++group->count <= kShownNames) group->names += (group->count == 1 ? "" : ", ") + Printable(Shown{file.name});
  }
  if (groups.empty()) return;
  std::string text(missed ? "left out, and a loader may miss: " : kLeftOutNote);
  for (std::size_t i = 0; i < std::min(groups.size(), kShownReasons); ++i) {
    text += fmt::format("{}{}", i == 0 ? "" : "; ", groups[i].names);
    if (groups[i].count > kShownNames) text += fmt::format(" and {} more", groups[i].count - kShownNames);
    text += fmt::format(" ({})", groups[i].reason);
  }
  if (groups.size() > kShownReasons)
    text += "; and others for " + Counted(groups.size() - kShownReasons, "more reason");
  if (missed) text += "; copy what is needed into an export";
  notes->push_back({missed, std::move(text)});
}

// A conversion that changes nothing is hardly meant. The reasons with most tensors say why.
void NoteNothingQuantized(const ConversionPlan& plan, std::vector<Note>* notes) {
  if (plan.quantized_tensors > 0 || plan.kept_tensors == 0) return;
  constexpr std::size_t kShown = 4;
  std::map<std::string, std::uint64_t> counts;
  for (const PlannedShard& shard : plan.shards) {
    for (const PlannedTensor& tensor : shard.tensors) ++counts[tensor.decision.reason];
  }
  std::vector<std::pair<std::string, std::uint64_t>> reasons(counts.begin(), counts.end());
  std::stable_sort(reasons.begin(), reasons.end(), [](const auto& a, const auto& b) { return a.second > b.second; });
  std::string text;
  for (std::size_t i = 0; i < std::min(reasons.size(), kShown); ++i) {
    text += fmt::format("{}{} {}", i == 0 ? "" : ", ", reasons[i].second, Printable(reasons[i].first));
  }
  if (reasons.size() > kShown) text += ", ...";
  notes->push_back({true, fmt::format("nothing is quantized: {} kept ({})",
                                      Counted(plan.kept_tensors, "tensor is", "tensors are"), text)});
}

// A warning: the container is right, but no loader of its export finds the weights.
void NoteWrappers(const Checkpoint& checkpoint, std::vector<Note>* notes) {
  const NameWrappers wrappers(checkpoint.tensors());
  if (!wrappers.empty()) notes->push_back({true, wrappers.Note()});
}

// A container holds experts in 4 bits as well as anything else. Who converts in order to export should know now that
// there will be a choice.
void NoteExperts(const Checkpoint& checkpoint, const ModelConfigs& configs, const ConversionPlan& plan,
                 std::vector<Note>* notes) {
  // Planning has read the same text, so there is no error left to meet.
  const auto fused = FusedExperts(checkpoint.tensors(), configs);
  if (!fused.ok()) return;
  std::size_t count = 0;
  for (const PlannedShard& shard : plan.shards) {
    for (const PlannedTensor& tensor : shard.tensors) count += tensor.decision.quantize && (*fused)[tensor.source];
  }
  if (count == 0) return;
  // Of models whose fused experts do not load beside 4-bit layers, only one of the choices is left.
  notes->push_back({false, fmt::format("{} quantized, which transformers cannot load in 4 bits: q4export "
                                       "--to bnb will ask for --experts {}",
                                       Counted(count, "expert tensor is", "expert tensors are"),
                                       SplitsExpertsWhenQuantized(configs)
                                           ? "keep4bit, for other loaders; --to safetensors writes what it loads"
                                           : "dequantize, which it loads, or keep4bit, for other loaders")});
}

// A container holds an embedding in 4 bits as well as a linear layer; a loader of its export does not.
void NoteUnloadable(const Checkpoint& checkpoint, const ModelConfigs& configs, const ConversionPlan& plan,
                    std::vector<Note>* notes) {
  // Planning has read the same text, so there is no error left to meet.
  const auto why = WhyNoLinearLayer(checkpoint.tensors(), configs);
  if (!why.ok()) return;
  std::size_t count = 0;
  std::uint32_t first = 0;
  for (const PlannedShard& shard : plan.shards) {
    for (const PlannedTensor& tensor : shard.tensors) {
      if (!tensor.decision.quantize || (*why)[tensor.source].empty()) continue;
      if (count++ == 0) first = tensor.source;
    }
  }
  if (count == 0) return;
  notes->push_back(
      {true, fmt::format("{} no linear layer's weight (the first is '{}': {}), which transformers "
                         "cannot load in 4 bits: q4export --to bnb will ask for --unloadable dequantize or keep4bit",
                         Counted(count, "quantized tensor is", "quantized tensors are"),
                         Printable(checkpoint.tensors()[first].name), (*why)[first])});
}

// What bitsandbytes' loaders will not do with this choice of weights; q4export --to bnb says or refuses it again.
void NoteLoaders(const Checkpoint& checkpoint, const std::string& config_json, const ConversionPlan& plan,
                 std::vector<Note>* notes) {
  if (!DiffusersClassOf(config_json).empty()) return;
  const ModuleNames names(config_json);
  std::vector<std::string> modules;
  std::vector<bool> quantized;
  std::size_t converted = 0;
  std::string first;
  for (const PlannedShard& shard : plan.shards) {
    for (const PlannedTensor& planned : shard.tensors) {
      const std::string_view module = ModuleOf(checkpoint.tensors()[planned.source].name);
      modules.emplace_back(module);
      quantized.push_back(planned.decision.quantize);
      if (planned.decision.quantize && names.IsConverted(module) && ++converted == 1) first = module;
    }
  }
  if (std::string fused = FusedLayersWarning(FusedLayers(modules, quantized)); !fused.empty()) {
    notes->push_back({true, std::move(fused)});
  }
  if (converted != 0) {
    notes->push_back(
        {false, fmt::format("transformers splits or joins '{}'{} while it loads it, which it cannot do in 4 bits: "
                            "q4export --to bnb will refuse this model, unless --exclude '{}' keeps such weights",
                            Printable(first), converted == 1 ? "" : fmt::format(" (and {} more)", converted - 1),
                            Printable(first.substr(first.rfind('.') + 1)))});
  }
}

}  // namespace

void NoteCalibration(const Checkpoint& checkpoint, const CalibratedDecisions& calibrated, std::vector<Note>* notes) {
  const auto left_to = [&](const CalibratedDecisions::Left& left, std::string_view lacks) {
    constexpr std::size_t kShown = 4;
    const std::size_t count = left.tensors.size();
    if (count == 0) return;
    std::string names;
    for (std::size_t i = 0; i < std::min(count, kShown); ++i) {
      names += fmt::format("{}'{}'", i == 0 ? "" : ", ", Printable(checkpoint.tensors()[left.tensors[i]].name));
    }
    if (count > kShown) names += fmt::format(" and {} more", count - kShown);
    notes->push_back({false, fmt::format("{} no {} in the calibration and {} left to the encoder {}: {}",
                                         Counted(count, "tensor has", "tensors have"), lacks, count == 1 ? "is" : "are",
                                         Q4EncoderName(left.to), names)});
  };
  left_to(calibrated.without_input, "input");
  left_to(calibrated.without_hessian, "Hessian");
  if (!calibrated.of_few_tokens.empty()) {
    const std::size_t count = calibrated.of_few_tokens.size();
    notes->push_back(
        {true, fmt::format("{} a Hessian of fewer tokens than features, such as '{}': what makes up for errors "
                           "there may add to them on other texts; calibrate with more text",
                           Counted(count, "tensor has", "tensors have"),
                           Printable(checkpoint.tensors()[calibrated.of_few_tokens.front()].name))});
  }
  if (calibrated.idle_experts != 0) {
    notes->push_back({false, fmt::format("no token of the calibration came to {}, whose errors all count alike: "
                                         "more text may reach them",
                                         Counted(calibrated.idle_experts, "expert"))});
  }
}

std::vector<Note> PlanNotes(const Checkpoint& checkpoint, const ModelConfigs& configs, const ConversionPlan& plan) {
  std::vector<Note> notes = checkpoint.notes();
  NoteLeftOut(checkpoint, /*missed=*/true, &notes);
  NoteLeftOut(checkpoint, /*missed=*/false, &notes);
  if (checkpoint.taken_over()) {
    // How loaders fare with them was decided by who quantized them.
    notes.push_back(
        {false, fmt::format("{} in 4 bits already, by bitsandbytes: their codes and scales are taken over as "
                            "they are, without statistics",
                            Counted(plan.quantized_tensors, "weight is", "weights are"))});
    return notes;
  }
  NoteNothingQuantized(plan, &notes);
  // The rest is about loaders that know names of transformers and diffusers.
  if (IsGgufFormat(configs.format)) {
    notes.push_back({false,
                     "names, and the order of rows of attention weights, are llama.cpp's: q4export --to safetensors "
                     "writes the tensors so, --to bnb refuses"});
    return notes;
  }
  NoteUnloadable(checkpoint, configs, plan, &notes);
  NoteWrappers(checkpoint, &notes);
  NoteExperts(checkpoint, configs, plan, &notes);
  NoteLoaders(checkpoint, configs.root, plan, &notes);
  return notes;
}

}  // namespace q4
