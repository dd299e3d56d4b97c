// JSON as the loaders of models read it. Files that q4 writes itself go through strict_json.h, which refuses more.
//
// ParsePythonJson() is Python's json module, for the files of a model's folder: config.json, modules.json, the index of
// shards. transformers and its relatives read those with json.loads(), so what it takes is a file that works, and what
// it refuses is one that no loader reads. Taken beyond RFC 8259: NaN, Infinity and -Infinity; numbers that overflow a
// double (1e400 is infinite); integers of up to 4300 digits; lone surrogates (\ud800); a key twice, of which the last
// counts. Refused: a byte order mark, ill-formed UTF-8, control characters in strings, comments, commas before a
// bracket, anything after the document.
//
// ParsePlainJson() is serde_json, the parser of safetensors: RFC 8259 as it stands, with no more than white space
// around the document.
#pragma once

#include <string_view>

#include "absl/status/status.h"
#include "formats/base/strict_json.h"

namespace q4 {

// Both as ParseStrictJson(), with these differences. The handler may be given a key twice; which one counts is for it
// to decide (`options.handler_checks_outer_keys` means nothing). Strings longer than `options.keep_string_bytes` are
// checked to their end and handed on shortened, so that a long one is never in memory whole.
//
// Errors name the file and the byte offset; exit code 3: kJsonSyntax, kJsonTooDeep, kJsonTooLarge, and whatever the
// source or the handler returned.

// An integer beyond 64 bits, NaN and the infinities come as kFloat, with `text` as written. In strings a lone surrogate
// becomes U+FFFD, so that every string is UTF-8: what must survive letter by letter is taken from the text itself
// (json_edit.h).
absl::Status ParsePythonJson(JsonSource& source, std::string_view file, const StrictJsonOptions& options,
                             JsonHandler& handler);

absl::Status ParsePlainJson(JsonSource& source, std::string_view file, const StrictJsonOptions& options,
                            JsonHandler& handler);

}  // namespace q4
