// PEFT names modules as they are in memory. Where that is the name on disk, all is said; else the table of
// transformers' renames says where a tensor goes. What is left is the prefix of a model's class, which one of the two
// may lack: it is added or taken away where nothing else begins so, and only one name fits.
#include "libconvert/adapter/merge_names.h"

#include <algorithm>
#include <array>
#include <utility>

#include "fmt/format.h"
#include "formats/adapter/adapter_issues.h"
#include "formats/base/json_value.h"
#include "formats/base/status.h"
#include "formats/base/text.h"

namespace q4 {
namespace {

constexpr std::array<std::string_view, 7> kEmbeddings = {"embed_tokens", "wte",    "word_embeddings", "tok_embeddings",
                                                         "embed_in",     "shared", "token_embedding"};

std::string_view FirstPart(std::string_view name) { return name.substr(0, name.find('.')); }

// "a.b.weight": "a.b", and "weight"; of a name without a dot the first is empty.
std::pair<std::string_view, std::string_view> CutLast(std::string_view name) {
  const std::size_t dot = name.rfind('.');
  if (dot == std::string_view::npos) return {{}, name};
  return {name.substr(0, dot), name.substr(dot + 1)};
}

}  // namespace

MergeNames::MergeNames(const std::vector<SourceTensor>& tensors, const std::string& config_json) : heads_{"lm_head"} {
  const ModuleNames modules(config_json);
  heads_.insert(heads_.end(), modules.heads().begin(), modules.heads().end());
  std::size_t embeddings = 0;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const auto [module, parameter] = CutLast(tensors[i].name);
    const std::vector<std::string> in_memory = modules.InMemory(module);
    const bool is_converted = in_memory.size() > 1 || modules.IsConverted(module);
    for (const std::string& name : in_memory) {
      const std::string full = name.empty() ? std::string(parameter) : fmt::format("{}.{}", name, parameter);
      const auto [at, is_new] = places_.emplace(full, Place{i, is_converted});
      if (!is_new) at->second.is_converted = true;  // joined from several
      begins_.emplace(FirstPart(full));
    }
    const auto [above, leaf] = CutLast(module);
    if (parameter != "weight" || std::find(kEmbeddings.begin(), kEmbeddings.end(), leaf) == kEmbeddings.end()) continue;
    // An encoder and a decoder have copies of what is "shared".
    if (leaf == "shared" && above.empty()) {
      embedding_ = i;
      embeddings = tensors.size() + 1;
    } else if (++embeddings <= tensors.size()) {
      embedding_ = embeddings == 1 ? std::optional(i) : std::nullopt;
    }
  }
  // A name on disk means the same, unless it is another's in memory.
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const bool is_converted = modules.IsConverted(CutLast(tensors[i].name).first);
    places_.emplace(tensors[i].name, Place{i, is_converted});
    begins_.emplace(FirstPart(tensors[i].name));
  }
  const absl::StatusOr<Json> config = config_json.empty() ? Json() : ParseModelJson(config_json, {});
  if (!config.ok()) return;
  const Json* tied = FindMember(*config, "tie_word_embeddings");
  if (tied != nullptr && tied->is_boolean()) tied_ = tied->get<bool>();
}

bool MergeNames::IsHead(std::string_view module) const {
  return module.ends_with(".lm_head") || std::find(heads_.begin(), heads_.end(), module) != heads_.end();
}

const MergeNames::Place* MergeNames::Exactly(const std::string& name) const {
  const auto at = places_.find(name);
  return at == places_.end() ? nullptr : &at->second;
}

absl::StatusOr<const MergeNames::Place*> MergeNames::WithOtherPrefix(const std::string& name, std::string_view file,
                                                                     std::string_view asks) {
  const std::string first(FirstPart(name));
  // A parameter without a module would fit any.
  if (begins_.contains(first) || first.empty() || first.size() == name.size()) return nullptr;
  if (const std::string rest = name.substr(first.size() + 1); rest.find('.') != std::string::npos) {
    if (const Place* place = Exactly(rest); place != nullptr) {
      changed_ = fmt::format("without '{}.'", Printable(first));
      return place;
    }
  }
  const Place* found = nullptr;
  std::string with;
  for (const std::string& begin : begins_) {
    const Place* place = Exactly(begin + "." + name);
    if (place == nullptr) continue;
    if (found != nullptr && found->tensor != place->tensor) {
      return Fail(kAdapterAmbiguous, file, asks,
                  fmt::format("'{}' and '{}' end so; name the module as the model does", with + "." + name,
                              begin + "." + name));
    }
    found = place;
    with = begin;
  }
  if (found != nullptr) changed_ = fmt::format("with '{}.' before them", Printable(with));
  return found;
}

absl::StatusOr<std::optional<std::size_t>> MergeNames::Find(const std::string& name, std::string_view file,
                                                            std::string_view asks) {
  const Place* place = Exactly(name);
  if (place == nullptr) {
    Q4_ASSIGN_OR_RETURN(place, WithOtherPrefix(name, file, asks));
  }
  if (place == nullptr) return std::nullopt;
  if (place->is_converted) {
    return Fail(kAdapterConverted, file, asks,
                "transformers splits, joins or permutes it; merge with PEFT (merge_and_unload(), then "
                "save_pretrained()) and convert the result");
  }
  return place->tensor;
}

}  // namespace q4
