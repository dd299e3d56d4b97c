#include "libconvert/export/embedded.h"

#include <optional>
#include <vector>

#include "absl/strings/ascii.h"
#include "fmt/format.h"
#include "formats/base/file.h"
#include "formats/base/json_edit.h"
#include "formats/base/json_value.h"
#include "formats/base/limits.h"
#include "formats/base/status.h"
#include "formats/names/portable_names.h"
#include "formats/source/named_weights.h"
#include "libconvert/export/export_issues.h"

namespace q4 {

// In any case: on some systems a loader that opens config.json gets Config.JSON.
bool MayRedirect(const std::string& name) { return absl::AsciiStrToLower(BaseNameOf(name)) == "config.json"; }

absl::Status DropRedirectsOf(const std::string& name, std::string* content) {
  if (!MayRedirect(name)) return absl::OkStatus();
  if (content->size() > limits::kConfigJsonBytes) {
    return Fail(
        kExportConfig, {}, name,
        GotExpected(fmt::format("{} bytes", content->size()), fmt::format("at most {}", limits::kConfigJsonBytes)));
  }
  Q4_ASSIGN_OR_RETURN(const Json json, ParseModelJson(*content, name));
  if (!json.is_object()) return Fail(kExportConfig, {}, name);
  // Member by member, so that all others keep their bytes.
  std::vector<JsonEdit> edits;
  for (const auto& [key, value] : json.items()) {
    Json member = Json::object();
    member[key] = value;
    if (!DropRedirects(&member)) continue;
    edits.push_back({key, member.empty() ? std::nullopt : std::optional<Json>(member.front())});
  }
  if (edits.empty()) return absl::OkStatus();
  Q4_ASSIGN_OR_RETURN(*content, EditJson(*content, name, edits));
  return absl::OkStatus();
}

absl::Status CheckNamesBeside(const std::set<std::string>& names) {
  PortableNames beside;
  for (const std::string& name : names) {
    if (const std::string problem = beside.Add(name); !problem.empty()) {
      return Fail(kExportNameTaken, {}, name, problem);
    }
  }
  return absl::OkStatus();
}

}  // namespace q4
