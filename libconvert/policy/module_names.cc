// The longest rename that fits a name's beginning is applied, once: the table was made for that, so that chains of
// transformers' own renames are one step here.
#include "libconvert/policy/module_names.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstddef>
#include <optional>

#include "formats/base/json_value.h"
#include "formats/base/limits.h"
#include "libconvert/policy/rules.h"

namespace q4 {

// module_names.json, embedded by the build. A list of {"classes": [...], "model_types": [...], "renames": [[on disk, in
// memory, ...], ...], "converted": [on disk, ...], "heads": [in memory, ...]}, the last two only
// where there are some.
extern const std::string_view kModuleNamesJson;

namespace {

std::vector<std::string> PartsOf(std::string_view name) {
  std::vector<std::string> parts;
  for (std::size_t begin = 0; begin <= name.size();) {
    const std::size_t end = std::min(name.find('.', begin), name.size());
    parts.emplace_back(name.substr(begin, end - begin));
    begin = end + 1;
  }
  return parts;
}

// Parsed at most once, and only for a model with a config.json. The text is the build's own.
const Json& Table() {
  static const Json kTable = *ParseJson(kModuleNamesJson, {}, limits::kConfigJsonDepth);
  return kTable;
}

bool Holds(const Json& list, const std::string& text) {
  return std::find(list.begin(), list.end(), text) != list.end();
}

// The line of the table for a model, or nullptr.
const Json* LineFor(const Json& config) {
  const auto names = config.find("architectures");
  const bool has_class = names != config.end() && names->is_array() && !names->empty() && names->front().is_string();
  const auto type = config.find("model_type");
  const Json* most = nullptr;
  for (const Json& line : Table()) {
    if (has_class && Holds(line.at("classes"), names->front().get<std::string>())) return &line;
    if (type == config.end() || !type->is_string()) continue;
    const bool is_type = Holds(line.at("model_types"), type->get<std::string>());
    if (is_type && (most == nullptr || line.at("renames").size() > most->at("renames").size())) most = &line;
  }
  return most;
}

// Whether the parts of a name begin with `beginning`, in which "#" is any number.
bool Begins(const std::vector<std::string>& beginning, const std::vector<std::string>& parts) {
  return beginning.size() <= parts.size() && std::equal(beginning.begin(), beginning.end(), parts.begin(),
                                                        [](const std::string& wanted, const std::string& part) {
                                                          return wanted == "#" ? MatchesAny("#", part) : wanted == part;
                                                        });
}

}  // namespace

std::string_view ModuleOf(std::string_view tensor) {
  constexpr std::string_view kSuffix = ".weight";
  // A tensor called "weight" belongs to the model itself.
  if (tensor == kSuffix.substr(1)) return {};
  if (tensor.ends_with(kSuffix)) tensor.remove_suffix(kSuffix.size());
  return tensor;
}

ModuleNames::ModuleNames(std::string_view config_json) {
  if (config_json.empty()) return;
  const absl::StatusOr<Json> config = ParseModelJson(config_json, {});
  if (!config.ok() || !config->is_object()) return;
  const Json* line = LineFor(*config);
  if (line == nullptr) return;
  for (const Json& names : line->at("renames")) {
    Rename& rename = renames_.emplace_back();
    rename.on_disk = PartsOf(names.front().get_ref<const std::string&>());
    for (std::size_t i = 1; i < names.size(); ++i) rename.in_memory.push_back(PartsOf(names[i].get<std::string>()));
  }
  if (line->contains("converted")) {
    for (const Json& name : line->at("converted")) converted_.push_back(PartsOf(name.get_ref<const std::string&>()));
  }
  if (line->contains("heads")) heads_ = line->at("heads").get<std::vector<std::string>>();
}

std::vector<std::string> ModuleNames::InMemory(std::string_view module) const {
  const std::vector<std::string> parts = renames_.empty() ? std::vector<std::string>() : PartsOf(module);
  const Rename* longest = nullptr;
  for (const Rename& rename : renames_) {
    if (Begins(rename.on_disk, parts) && (longest == nullptr || rename.on_disk.size() > longest->on_disk.size()))
      longest = &rename;
  }
  if (longest == nullptr) return {std::string(module)};
  std::vector<std::string> numbers;
  for (std::size_t i = 0; i < longest->on_disk.size(); ++i) {
    if (longest->on_disk[i] == "#") numbers.push_back(parts[i]);
  }
  std::vector<std::string> names;
  for (std::vector<std::string> name : longest->in_memory) {
    std::size_t next = 0;
    for (std::string& part : name) {
      if (part == "#" && next < numbers.size()) part = numbers[next++];
    }
    name.insert(name.end(), parts.begin() + static_cast<std::ptrdiff_t>(longest->on_disk.size()), parts.end());
    names.push_back(fmt::format("{}", fmt::join(name, ".")));
  }
  return names;
}

bool ModuleNames::IsConverted(std::string_view module) const {
  if (converted_.empty()) return false;
  const std::vector<std::string> parts = PartsOf(module);
  return std::any_of(converted_.begin(), converted_.end(), [&parts](const std::vector<std::string>& name) {
    return name.size() == parts.size() && Begins(name, parts);
  });
}

}  // namespace q4
