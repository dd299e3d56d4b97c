// The characters of a JSON text, one after the other, as both parsers (strict_json.h, json_parser.h) pull them. What
// neither may see is refused here: NUL bytes, a byte order mark, tokens that grow too long. Internal to formats/base/.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "formats/base/base_issues.h"
#include "formats/base/status.h"
#include "formats/base/strict_json.h"
#include "formats/base/text.h"

namespace q4 {

// The white space of JSON: these four and no other.
inline bool IsJsonSpace(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

// Hands out one character after the other. After an error it is at its end, and status() says why.
class JsonCursor {
 public:
  JsonCursor(JsonSource& source, std::string_view file, const StrictJsonOptions& options)
      : source_(source), file_(file), options_(options) {
    Advance();
  }

  bool done() const { return done_; }
  char current() const { return piece_[position_]; }
  // Of current().
  std::uint64_t offset() const { return piece_offset_ + position_; }
  const absl::Status& status() const { return status_; }

  void Step() {
    ++position_;
    Advance();
  }

 private:
  // Makes position_ that of an acceptable character, or ends.
  void Advance() {
    if (position_ == piece_.size()) {
      piece_offset_ += piece_.size();
      position_ = 0;
      auto next = source_.Next();
      if (!next.ok()) return End(next.status());
      piece_ = *next;
      if (piece_.empty()) return End(absl::OkStatus());
    }
    // Neither belongs in JSON. The lexer of strict_json.cc takes a NUL for the end of the text and skips a byte order
    // mark, so both are refused before it sees them.
    const char c = current();
    if (c == '\0') return Refuse(kJsonSyntax, "NUL byte");
    if (offset() == options_.base_offset && c == '\xEF')
      return Refuse(kJsonSyntax, "byte order mark; save the file as UTF-8 without one");
    MeasureToken(c);
    if (token_bytes_ > options_.max_token_bytes) {
      Refuse(kJsonTooLarge, "a string or number of more than " + std::to_string(options_.max_token_bytes) + " bytes");
    }
  }

  // Follows strings and their escapes closely enough to know how long the token around `c` is so far. The lexer decides
  // what a token is; this only has to count no less than the lexer buffers.
  void MeasureToken(char c) {
    ++token_bytes_;
    if (in_string_) {
      // A quote behind a backslash does not end the string, unless that backslash was itself escaped.
      if (!escaped_ && c == '"') in_string_ = false, token_bytes_ = 0;
      escaped_ = !escaped_ && c == '\\';
    } else if (c == '"') {
      in_string_ = true, token_bytes_ = 0;
    } else if (c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == ',' || c == ':' || c == '[' || c == ']' ||
               c == '{' || c == '}') {
      token_bytes_ = 0;
    }
  }

  void Refuse(const Issue& issue, std::string_view detail) { End(Fail(issue, file_, AtOffset(offset()), detail)); }
  void End(absl::Status status) {
    status_ = std::move(status);
    done_ = true;
  }

  JsonSource& source_;
  std::string_view file_;
  const StrictJsonOptions& options_;
  std::string_view piece_;
  std::size_t position_ = 0;
  // In the file, of the first character of the piece.
  std::uint64_t piece_offset_ = options_.base_offset;
  std::uint64_t token_bytes_ = 0;
  // Of the token around the current character: whether it is a string, and whether the character before was a backslash
  // that escapes this one.
  bool in_string_ = false;
  bool escaped_ = false;
  bool done_ = false;
  // Why the text ended; OK at its real end.
  absl::Status status_;
};

}  // namespace q4
