// What the JSON documents of all tools have in common: their head, and how absent text and encoders are written. The
// schemas are in docs/schema/.
#pragma once

#include <string>

#include "formats/base/json_value.h"
#include "libconvert/base/version.h"

namespace q4 {

// A document with its name, the version of its schema and the tool's version. `name` is the document's type, e.g.
// "q4verify-report", by which readers tell documents apart; `version` that of its schema.
inline Json NewDocument(const char* name, int version = 1) {
  Json json;
  json["document"] = name;
  json["version"] = version;
  // So that a report tells which q4 wrote it.
  json["tool_version"] = kQ4Version;
  return json;
}

// A string, or null for an empty one: "" in our structs means that nothing was stated. For fields that a schema allows
// to be null.
inline Json TextOrNull(const std::string& text) { return text.empty() ? Json(nullptr) : Json(text); }

}  // namespace q4
