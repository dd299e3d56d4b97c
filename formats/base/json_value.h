// JSON documents as values, for small files: config.json, recipes, gates, reports.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace q4 {

// Keeps the order of keys. Never call its parse(): it accepts what both functions below refuse. Reading a member that
// is absent or of another type throws; ask contains() and is_...() first.
using Json = nlohmann::ordered_json;

// The document in `text`, under all rules of strict_json.h: no duplicate keys, no byte order mark, no NUL, UTF-8, at
// most `max_depth` levels. Integers that do not fit 64 bits are refused, not rounded. `file` is named in errors (exit
// code 3).
absl::StatusOr<Json> ParseJson(std::string_view text, std::string_view file, int max_depth);

// The document in `text`, as Python reads it (json_parser.h): for config.json and what else belongs to a model's
// folder. Of a key that comes twice the last value counts, in the place of the first. Integers beyond 64 bits are the
// nearest double, NaN and the infinities what they are, lone surrogates U+FFFD: enough to ask about, not to write
// again. Who changes such a file edits its text (json_edit.h). `file` is named in errors (exit code 3); nesting beyond
// limits::kModelJsonDepth is one.
absl::StatusOr<Json> ParseModelJson(std::string_view text, std::string_view file);

// The member `key` of `value`, or nullptr where there is none or `value` is no object. Lives as long as `value`.
const Json* FindMember(const Json& value, const char* key);

// The bytes of Python's json.dumps(value, sort_keys=True, indent=indent, ensure_ascii=True). REQUIRES: strings are
// UTF-8, which holds for everything that ParseJson() and ParseModelJson() made.
std::string DumpSorted(const Json& value, int indent = 2);

// Python's repr() of a float, the shortest text that reads back equal: "0.02", "1e-05", "10000.0", "1e+16", "nan",
// "inf".
std::string PythonFloatRepr(double value);

}  // namespace q4
