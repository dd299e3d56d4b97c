// References are those of transformers' dynamic modules: "module.Class" is module.py beside the configuration,
// "owner/name--module.Class" lies in another repository. A tokenizer names two classes in a list, of which one may be
// null.
#include "formats/folder/custom_code.h"

#include <algorithm>

#include "formats/base/json_value.h"
#include "formats/base/text.h"

namespace q4 {
namespace {

// Where a configuration names a model to be loaded beside its own, member in member.
struct OtherModel {
  const char* members[3];
};
constexpr OtherModel kOtherModels[] = {
    {{"speculators_config", "verifier", "name_or_path"}},
    {{"audio_tokenizer", "audio_tokenizer_name_or_path", nullptr}},
};

void AddOnce(std::string text, std::vector<std::string>* list) {
  if (std::find(list->begin(), list->end(), text) == list->end()) list->push_back(std::move(text));
}

// A text, or any values that hold texts.
void AddReferences(const Json& value, CodeNeeds* needs) {
  if (value.is_array() || value.is_object()) {
    for (const auto& item : value) AddReferences(item, needs);
    return;
  }
  if (!value.is_string()) return;
  const std::string& text = value.get_ref<const std::string&>();
  const std::size_t dashes = text.find("--");
  if (dashes != std::string::npos) return AddOnce(text.substr(0, dashes), &needs->repositories);
  const std::size_t dot = text.rfind('.');
  // A class without a module is one of the library.
  if (dot != std::string::npos && dot != 0) AddOnce(text.substr(0, dot) + ".py", &needs->files);
}

// Every member auto_map, at whatever depth: a loader makes the inner models and processors of a configuration by the
// same rule as the outer one.
void AddAutoMaps(const Json& value, CodeNeeds* needs) {
  if (value.is_object()) {
    if (const Json* map = FindMember(value, "auto_map")) AddReferences(*map, needs);
  }
  for (const Json& member : value) AddAutoMaps(member, needs);
}

// "a, b, c and 5 more"
std::string ListOf(const std::vector<std::string>& names) {
  constexpr std::size_t kShown = 4;
  std::string text;
  for (std::size_t i = 0; i < std::min(names.size(), kShown); ++i) text += (i == 0 ? "" : ", ") + Printable(names[i]);
  if (names.size() > kShown) text += " and " + std::to_string(names.size() - kShown) + " more";
  return text;
}

}  // namespace

bool MayNeedCode(std::string_view name) {
  // Of the model, of its tokenizer, and of processors and feature extractors.
  constexpr std::string_view kNames[] = {"config.json", "tokenizer_config.json", "processor_config.json",
                                         "preprocessor_config.json", "video_preprocessor_config.json"};
  return std::find(std::begin(kNames), std::end(kNames), name.substr(name.rfind('/') + 1)) != std::end(kNames);
}

void AddCodeNeeds(std::string_view name, std::string_view text, CodeNeeds* needs) {
  const absl::StatusOr<Json> json = ParseModelJson(text, name);
  if (!json.ok()) return;
  const std::size_t before = needs->files.size() + needs->repositories.size();
  AddAutoMaps(*json, needs);
  // {"task": {"impl": "module.Class", "pt": ["AutoModel"]}}
  if (const Json* pipelines = FindMember(*json, "custom_pipelines"); pipelines != nullptr && pipelines->is_object()) {
    for (const auto& pipeline : *pipelines) {
      if (const Json* impl = FindMember(pipeline, "impl")) AddReferences(*impl, needs);
    }
  }
  if (needs->files.size() + needs->repositories.size() != before) needs->configs.emplace_back(name);
  for (const OtherModel& other : kOtherModels) {
    const Json* value = &*json;
    for (const char* member : other.members) {
      if (value != nullptr && member != nullptr) value = FindMember(*value, member);
    }
    if (value != nullptr && value->is_string()) AddOnce(value->get<std::string>(), &needs->models);
  }
}

std::vector<Note> CodeNotes(const CodeNeeds& needs, std::string_view where) {
  std::vector<Note> notes;
  if (!needs.files.empty()) {
    notes.push_back({true, ListOf(needs.configs) + " asks for code of the model's own (auto_map: " +
                               ListOf(needs.files) + "), which is never carried: copy the .py files of " +
                               std::string(where) + " into an export, and load it with trust_remote_code=True"});
  }
  if (!needs.repositories.empty()) {
    notes.push_back({true, ListOf(needs.configs) +
                               " asks for code of another repository (auto_map: " + ListOf(needs.repositories) +
                               "): an export loads with trust_remote_code=True where that can be fetched"});
  }
  if (!needs.models.empty()) {
    notes.push_back({true, "a configuration makes its loader load another model (" + ListOf(needs.models) +
                               "): nothing that is said of this one speaks of that"});
  }
  return notes;
}

}  // namespace q4
