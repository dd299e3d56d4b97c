// Versions that name content: FileVersion::tag of a file whose publisher has said which SHA-256 it has.
#pragma once

#include <string>
#include <string_view>

#include "formats/base/file.h"

namespace q4 {

inline constexpr std::string_view kSha256Tag = "sha256:";

// The digest that `version` names, in hexadecimal; "" where nobody has said one. What was read must have it.
inline std::string PublishedSha256(const FileVersion& version) {
  return version.tag.starts_with(kSha256Tag) ? version.tag.substr(kSha256Tag.size()) : std::string();
}

}  // namespace q4
