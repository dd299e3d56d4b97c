// The text passes through a cursor that nlohmann/json's lexer pulls characters from. The cursor counts offsets, refuses
// NUL bytes (which the lexer takes for the end) and the byte order mark (which it skips), and cuts tokens that grow too
// long (which it would buffer whole). An adapter turns the SAX calls into JsonHandler events and checks depth and keys.
#include "formats/base/strict_json.h"

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>
#include <vector>

#include "formats/base/base_issues.h"
#include "formats/base/json_cursor.h"
#include "formats/base/status.h"
#include "formats/base/text.h"

namespace q4 {
namespace {

// The input iterator that nlohmann/json asks for. A null cursor is the end. Copies share one cursor, as those of an
// input iterator may: the lexer reads each character once.
class CursorIterator {
 public:
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = char;

  explicit CursorIterator(JsonCursor* cursor) : cursor_(cursor) {}
  char operator*() const { return cursor_->current(); }
  CursorIterator& operator++() {
    cursor_->Step();
    return *this;
  }
  CursorIterator operator++(int) {
    const CursorIterator before = *this;
    ++*this;
    return before;
  }
  friend bool operator==(const CursorIterator& a, const CursorIterator& b) { return a.AtEnd() == b.AtEnd(); }
  friend bool operator!=(const CursorIterator& a, const CursorIterator& b) { return !(a == b); }

 private:
  // Also after an error of the cursor, which the lexer takes for an early end of the text.
  bool AtEnd() const { return cursor_ == nullptr || cursor_->done(); }
  JsonCursor* cursor_;
};

// nlohmann/json's message without its prefix, which ends with "column <c>: " or, for errors of other kinds, with "] ",
// and without the text last read, which may be long.
std::string Reason(std::string_view message) {
  const std::size_t column = message.find("column ");
  const std::size_t prefix = column == std::string_view::npos ? message.find("] ") : message.find(": ", column);
  if (prefix != std::string_view::npos) message.remove_prefix(prefix + 2);
  return std::string(message.substr(0, message.find("; last read")));
}

// The SAX interface of nlohmann/json; returning false ends its parse. It keeps the error that ended it, because the
// interface can only return false.
class Adapter {
 public:
  using number_integer_t = std::int64_t;
  using number_unsigned_t = std::uint64_t;
  using number_float_t = double;
  using string_t = std::string;
  using binary_t = nlohmann::json::binary_t;

  Adapter(std::string_view file, const StrictJsonOptions& options, const JsonCursor& cursor, JsonHandler& handler)
      : file_(file), options_(options), cursor_(cursor), handler_(handler) {}

  // What ended the parse: an error of the handler, of this adapter, or of the lexer.
  absl::Status TakeStatus() { return std::move(status_); }

  bool null() { return Scalar({}); }
  bool boolean(bool value) { return Scalar({.kind = JsonScalar::Kind::kBool, .boolean = value}); }
  bool number_integer(std::int64_t value) {
    return Scalar({.kind = JsonScalar::Kind::kNegative, .negative_value = value});
  }
  bool number_unsigned(std::uint64_t value) {
    return Scalar({.kind = JsonScalar::Kind::kUnsigned, .unsigned_value = value});
  }
  bool number_float(double value, const std::string& text) {
    return Scalar({.kind = JsonScalar::Kind::kFloat, .float_value = value, .text = text});
  }
  bool string(std::string& value) { return Scalar({.kind = JsonScalar::Kind::kString, .text = std::move(value)}); }
  bool binary(binary_t&) { return false; }  // does not occur in text

  bool start_object(std::size_t) { return Start(JsonContainer::kObject); }
  bool start_array(std::size_t) { return Start(JsonContainer::kArray); }
  bool end_object() { return End(JsonContainer::kObject); }
  bool end_array() { return End(JsonContainer::kArray); }

  // The lexer has unescaped the name, so two spellings of one key meet here as the same bytes.
  bool key(std::string& name) {
    const bool handler_checks = depth_ == 1 && options_.handler_checks_outer_keys;
    if (!handler_checks && !keys_[depth_ - 1].insert(name).second) {
      // The cursor stands behind the key's closing quote, hence the 1.
      return Keep(Refuse(kJsonDuplicateKey, cursor_.offset() - 1, "'" + name + "'"));
    }
    return Keep(handler_.OnKey(std::move(name)));
  }

  // `position` counts the characters read so far, the offending one included, the end of the text for one. Of the
  // message only the reason is kept; its line and column repeat the offset.
  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception& error) {
    return Keep(Refuse(kJsonSyntax, options_.base_offset + position - 1, Reason(error.what())));
  }

 private:
  bool Scalar(JsonScalar scalar) { return Keep(handler_.OnScalar(std::move(scalar))); }

  bool Start(JsonContainer container) {
    // Checked before the handler hears of the container, so that its own stack is bounded as well.
    if (depth_ == static_cast<std::size_t>(options_.max_depth)) {
      return Keep(
          Refuse(kJsonTooDeep, cursor_.offset() - 1, "more than " + std::to_string(options_.max_depth) + " levels"));
    }
    ++depth_;
    // The set of a depth is kept and cleared, not made anew for each of a million tensors.
    if (keys_.size() < depth_) keys_.resize(depth_);
    keys_[depth_ - 1].clear();
    return Keep(handler_.OnStart(container));
  }

  bool End(JsonContainer container) {
    --depth_;
    return Keep(handler_.OnEnd(container));
  }

  absl::Status Refuse(const Issue& issue, std::uint64_t offset, std::string_view detail) const {
    return Fail(issue, file_, AtOffset(offset), detail);
  }

  // Returns whether the parse goes on.
  bool Keep(absl::Status status) {
    status_ = std::move(status);
    return status_.ok();
  }

  std::string_view file_;
  const StrictJsonOptions& options_;
  const JsonCursor& cursor_;
  JsonHandler& handler_;
  std::size_t depth_ = 0;
  // Of the object open at each depth. Ordered, for keys can be chosen to collide in a hash table, and a hash table of
  // Abseil is not in order after an allocation that failed.
  std::vector<std::set<std::string>> keys_;
  absl::Status status_;
};

}  // namespace

absl::StatusOr<std::string_view> JsonFile::Next() {
  // Large enough that reading costs little, small beside the budget of any run.
  constexpr std::uint64_t kPieceBytes = std::uint64_t{1} << 20;
  piece_.resize(static_cast<std::size_t>(std::min(kPieceBytes, end_ - position_)));
  Q4_RETURN_IF_ERROR(file_.ReadAt(position_, {reinterpret_cast<std::uint8_t*>(piece_.data()), piece_.size()}));
  position_ += piece_.size();
  return std::string_view(piece_);
}

std::string_view JsonKindName(JsonScalar::Kind kind) {
  switch (kind) {
    case JsonScalar::Kind::kNull:
      return "null";
    case JsonScalar::Kind::kBool:
      return "a boolean";
    case JsonScalar::Kind::kUnsigned:
      return "an unsigned integer";
    case JsonScalar::Kind::kNegative:
      return "a negative integer";
    case JsonScalar::Kind::kFloat:
      return "a number that is no 64-bit integer";
    case JsonScalar::Kind::kString:
      return "a string";
  }
  return "an unknown value";
}

absl::Status ParseStrictJson(JsonSource& source, std::string_view file, const StrictJsonOptions& options,
                             JsonHandler& handler) {
  // sax_parse checks by default that nothing but white space follows the document.
  JsonCursor cursor(source, file, options);
  Adapter adapter(file, options, cursor, handler);
  const bool parsed = nlohmann::json::sax_parse(CursorIterator(&cursor), CursorIterator(nullptr), &adapter);
  // Where the cursor stopped the text, the parser saw nothing but an early end.
  if (!cursor.status().ok()) return cursor.status();
  if (!parsed) return adapter.TakeStatus();
  return absl::OkStatus();
}

}  // namespace q4
