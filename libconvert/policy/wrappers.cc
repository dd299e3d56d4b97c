// Names are taken apart at their dots. Parts that only wrappers have are dropped first; then, as long as something is
// found, those that depend on the names beside them: taking one away can lay the next one bare.
#include "libconvert/policy/wrappers.h"

#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <set>
#include <unordered_set>
#include <utility>

#include "fmt/format.h"
#include "formats/base/counted.h"
#include "formats/base/text.h"

namespace q4 {
namespace {

// torch.compile; FSDP; activation checkpointing; Lightning Fabric; Opacus.
constexpr std::array<std::string_view, 5> kAnywhere = {"_orig_mod", "_fsdp_wrapped_module",
                                                       "_checkpoint_wrapped_module", "_forward_module", "_module"};
// PEFT; TRL's models with a value head.
constexpr std::array<std::string_view, 2> kInFront = {"base_model.model.", "pretrained_model."};
// DataParallel, DistributedDataParallel, DeepSpeed.
constexpr std::string_view kModule = "module";

std::string WithoutParts(std::string_view name, std::set<std::string>* found) {
  std::string out;
  AnyItem(name, ".", [&](std::string_view part) {
    if (std::find(kAnywhere.begin(), kAnywhere.end(), part) != kAnywhere.end()) {
      found->insert(std::string(part) + ".");
    } else {
      out.append(out.empty() ? "" : ".").append(part);
    }
    return false;
  });
  return out;
}

// What stands before each part "module" that is its only child, with the dot behind: "" and "model." for names that
// begin with "module." and "model.module.". Shorter ones come first.
std::vector<std::string> ParentsOfModule(const std::vector<std::string>& names) {
  // The children of every parent that has a child "module", other ones counted too.
  std::map<std::string, bool> parents;  // to whether the parent has other children
  constexpr std::string_view kWithDots = ".module.";
  for (const std::string& name : names) {
    if (name.starts_with(kWithDots.substr(1))) parents.emplace("", false);
    for (std::size_t at = name.find(kWithDots); at != std::string::npos; at = name.find(kWithDots, at + 1)) {
      parents.emplace(name.substr(0, at + 1), false);
    }
  }
  if (parents.empty()) return {};
  for (const std::string& name : names) {
    const auto look = [&](std::string_view parent, std::string_view rest) {
      const auto known = parents.find(std::string(parent));
      if (known != parents.end() && !rest.starts_with("module.")) known->second = true;
    };
    look("", name);
    for (std::size_t dot = name.find('.'); dot != std::string::npos; dot = name.find('.', dot + 1)) {
      look(std::string_view(name).substr(0, dot + 1), std::string_view(name).substr(dot + 1));
    }
  }
  std::vector<std::string> alone;
  for (const auto& [parent, has_others] : parents) {
    if (!has_others) alone.push_back(parent);
  }
  return alone;
}

// Drops "module." behind each of `parents`, which are parents in the names as they are now.
void DropModule(const std::vector<std::string>& parents, std::vector<std::string>* names) {
  // From the longest: what lies deeper goes first, so that parents of others stay findable.
  for (auto parent = parents.rbegin(); parent != parents.rend(); ++parent) {
    const std::string whole = *parent + std::string(kModule) + ".";
    for (std::string& name : *names) {
      if (name.starts_with(whole)) name.erase(parent->size(), kModule.size() + 1);
    }
  }
}

// The prefix that all names have, or "".
std::string_view CommonFront(const std::vector<std::string>& names) {
  for (const std::string_view prefix : kInFront) {
    if (std::all_of(names.begin(), names.end(), [prefix](const std::string& name) { return name.starts_with(prefix); }))
      return prefix;
  }
  return {};
}

}  // namespace

NameWrappers::NameWrappers(const std::vector<SourceTensor>& tensors) {
  if (tensors.empty()) return;
  std::set<std::string> found;
  std::vector<std::string> names;
  names.reserve(tensors.size());
  for (const SourceTensor& tensor : tensors) names.push_back(WithoutParts(tensor.name, &found));
  for (;;) {
    if (const std::string_view front = CommonFront(names); !front.empty()) {
      found.emplace(front);
      for (std::string& name : names) name.erase(0, front.size());
      continue;
    }
    const std::vector<std::string> parents = ParentsOfModule(names);
    if (parents.empty()) break;
    found.insert(std::string(kModule) + ".");
    DropModule(parents, &names);
  }
  if (found.empty()) return;
  const std::unordered_set<std::string_view> unique(names.begin(), names.end());
  if (unique.size() != names.size() || unique.contains("")) return;
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (names[i] != tensors[i].name && count_++ == 0) first_ = tensors[i].name;
  }
  for (const std::string& part : found) parts_ += (parts_.empty() ? "" : ", ") + part;
  names_ = std::move(names);
}

std::string NameWrappers::Note() const {
  if (empty()) return {};
  return fmt::format(
      "the names of {} hold what a wrapper put there ({}; the first is '{}'): the policy looks through it, but "
      "from_pretrained() finds no such names and loads a model without these weights; save the model unwrapped "
      "(model._orig_mod, model.module, merge_and_unload()) and convert that",
      Counted(count_, "tensor"), parts_, Printable(first_));
}

}  // namespace q4
