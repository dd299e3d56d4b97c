// Embedded files on their way out of a container, whose maker may wish a loader to take other weights than those that
// were verified and exported. Internal to libconvert/export/.
#pragma once

#include <set>
#include <string>

#include "absl/status/status.h"

namespace q4 {

// Whether it is such a file that DropRedirectsOf() changes.
bool MayRedirect(const std::string& name);

// Removes from the text of a config.json, in whatever folder, what would make a loader take other weights than those
// that are exported, or code (DropRedirects()); other files and members are left as they are. kExportConfig (exit code
// 3) for one that is no JSON object or larger than limits::kConfigJsonBytes: what it makes a loader do is not known.
// The message does not name the container.
absl::Status DropRedirectsOf(const std::string& name, std::string* content);

// kExportNameTaken (exit code 5) if two of the names of an export cannot lie side by side everywhere. The message does
// not name the container.
absl::Status CheckNamesBeside(const std::set<std::string>& names);

}  // namespace q4
