// What the JSON documents of all tools have in common.
#pragma once

#include <string>

#include "formats/base/json_value.h"
#include "formats/q4/container.h"
#include "libconvert/base/version.h"

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

// As in the options of the command line.
inline const char* EncoderName(Q4Encoder encoder) {
  switch (encoder) {
    case Q4Encoder::kAbsmax:
      return "absmax";
    case Q4Encoder::kMse:
      return "mse";
    case Q4Encoder::kNone:
      break;
  }
  return "none";
}

}  // namespace q4
