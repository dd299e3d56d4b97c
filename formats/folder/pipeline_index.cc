// Keys that begin with an underscore are diffusers' own. All others are components where the value is a list of two:
// numbers in a list are an option of the pipeline.
#include "formats/folder/pipeline_index.h"

#include <algorithm>

#include "formats/base/json_value.h"
#include "formats/base/limits.h"
#include "formats/base/status.h"
#include "formats/folder/pipeline_issues.h"
#include "formats/names/portable_names.h"

namespace q4 {
namespace {

constexpr std::size_t kLongestName = 64;

bool IsNullOrText(const Json& value) { return value.is_null() || value.is_string(); }

// Whether the value of a member is a component's.
bool IsPair(const Json& value) {
  return value.is_array() && value.size() == 2 && IsNullOrText(value.front()) && IsNullOrText(value.back());
}

}  // namespace

bool IsComponentName(std::string_view name) {
  const auto is_letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; };
  return !name.empty() && name.size() <= kLongestName && is_letter(name.front()) &&
         std::all_of(name.begin(), name.end(), [&](char c) { return is_letter(c) || (c >= '0' && c <= '9'); }) &&
         FolderNameProblem(name).empty();
}

absl::StatusOr<PipelineIndex> ParsePipelineIndex(std::string_view text, std::string_view path) {
  Q4_ASSIGN_OR_RETURN(const Json json, ParseModelJson(text, path));
  if (!json.is_object()) return Fail(kPipelineForm, path, {}, GotExpected("another value", "an object"));
  PipelineIndex index;
  for (const auto& [key, value] : json.items()) {
    if (key == "_class_name") {
      // A list where the class is code of the pipeline's own: [module, class].
      if (value.is_string()) index.class_name = value.text();
      if (IsPair(value) && value.front().is_string()) index.code = value.front().text();
      if (IsPair(value) && value.back().is_string()) index.class_name = value.back().text();
      continue;
    }
    if (key.starts_with("_") || !IsPair(value)) continue;
    if (!IsComponentName(key)) return Fail(kPipelineForm, path, key, GotExpected(key, "an identifier, and no device"));
    if (value.front().is_null() || value.back().is_null()) {
      index.absent.push_back(key);
      continue;
    }
    if (index.members.size() == limits::kComponents) {
      return Fail(kTooManyComponents, path, {}, "at most " + std::to_string(limits::kComponents));
    }
    index.members.push_back({key, value.front().text(), value.back().text()});
  }
  if (index.members.empty()) return Fail(kPipelineForm, path, {}, "no component");
  std::sort(index.members.begin(), index.members.end(),
            [](const PipelineMember& a, const PipelineMember& b) { return a.name < b.name; });
  std::sort(index.absent.begin(), index.absent.end());
  // "vae" and "VAE" are one folder on some systems.
  PortableNames together;
  for (const PipelineMember& member : index.members) {
    if (const std::string problem = together.Add(member.name); !problem.empty()) {
      return Fail(kPipelineForm, path, member.name, problem);
    }
  }
  return index;
}

}  // namespace q4
