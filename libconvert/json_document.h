// What the JSON documents of all tools have in common.
#pragma once

#include <string>

#include "formats/base/json_value.h"
#include "libconvert/version.h"

namespace q4 {

// A document with its name, the version of its schema and the tool's version.
inline Json NewDocument(const char* name, int version = 1) {
  Json json;
  json["document"] = name;
  json["version"] = version;
  json["tool_version"] = kQ4Version;
  return json;
}

inline Json TextOrNull(const std::string& text) { return text.empty() ? Json(nullptr) : Json(text); }

}  // namespace q4
