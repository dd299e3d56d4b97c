// Changes a few members of a JSON file and leaves every other byte as it is. A configuration belongs to its author: a
// value that was parsed and written again would lose the digits of 1e-05 and 2^70, Infinity where a writer has no word
// for it, a lone surrogate, a key that comes twice, the order and the spacing.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "formats/base/json_value.h"

namespace q4 {

// One change of a member of the outermost object: its new value, or none to remove it.
struct JsonEdit {
  std::string key;
  std::optional<Json> value;
};

// `text` with `edits` applied in order. A member that is there keeps its place; a new one comes in alphabetical order
// where the members are in it, as save_pretrained() of transformers writes them, else at the end. A key that comes
// twice is one member. Values are written as Python's json.dumps(sort_keys=True) writes them, on lines of their own if
// the first member is on one, with the indentation that it has.
//
// `file` is named in errors (exit code 3): those of ParseModelJson(), and kJsonSyntax for what is no object.
absl::StatusOr<std::string> EditJson(std::string_view text, std::string_view file, std::span<const JsonEdit> edits);

}  // namespace q4
