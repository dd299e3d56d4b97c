// A parser without recursion: the containers that are open are a list, and what may come next follows from the last
// token. Python backs up where a number goes wrong ("1." is 1 and then something else), but what follows is an error
// there as here, so one character of look-ahead is enough.
#include "formats/base/json_parser.h"

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "formats/base/base_issues.h"
#include "formats/base/json_cursor.h"
#include "formats/base/status.h"
#include "formats/base/text.h"

namespace q4 {
namespace {

// sys.int_info.default_max_str_digits: int() refuses more, and json.loads() with it.
constexpr std::size_t kMostIntegerDigits = 4300;

// How much more than options.keep_string_bytes of a string may gather before it is shortened.
constexpr std::size_t kPieceBytes = std::size_t{64} << 10;

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

// What `c` counts as a hexadecimal digit; 16 for none.
unsigned HexDigit(char c) {
  if (IsDigit(c)) return static_cast<unsigned>(c - '0');
  if (c >= 'a' && c <= 'f') return static_cast<unsigned>(c - 'a' + 10);
  if (c >= 'A' && c <= 'F') return static_cast<unsigned>(c - 'A' + 10);
  return 16;
}

// As UTF-8. REQUIRES: no surrogate.
void AppendCodePoint(std::uint32_t code, std::string* out) {
  const auto add = [out](std::uint32_t byte) { out->push_back(static_cast<char>(byte)); };
  if (code < 0x80) {
    add(code);
  } else if (code < 0x800) {
    add(0xC0 | code >> 6), add(0x80 | (code & 0x3F));
  } else if (code < 0x10000) {
    add(0xE0 | code >> 12), add(0x80 | (code >> 6 & 0x3F)), add(0x80 | (code & 0x3F));
  } else {
    add(0xF0 | code >> 18), add(0x80 | (code >> 12 & 0x3F)), add(0x80 | (code >> 6 & 0x3F)), add(0x80 | (code & 0x3F));
  }
}

// A well-formed number that no double holds: infinite, or nothing. Which one follows from where its first digit that is
// not zero stands, counted from the point, and from the exponent.
double OutOfRange(std::string_view text) {
  const double sign = text.front() == '-' ? -1 : 1;
  const std::size_t e = text.find_first_of("eE");
  const std::string_view mantissa = text.substr(0, e);
  std::int64_t exponent = 0;
  if (e != std::string_view::npos) {
    std::string_view digits = text.substr(e + 1);
    if (digits.front() == '+') digits.remove_prefix(1);
    const bool negative = digits.front() == '-';
    // Beyond 32 bits an exponent only gets larger; this keeps the sum below from wrapping.
    constexpr std::int64_t kLeast = std::numeric_limits<std::int32_t>::min();
    constexpr std::int64_t kMost = std::numeric_limits<std::int32_t>::max();
    const bool fits = std::from_chars(digits.data(), digits.data() + digits.size(), exponent).ec == std::errc();
    exponent = fits ? std::clamp(exponent, kLeast, kMost) : (negative ? kLeast : kMost);
  }
  const std::size_t point = std::min(mantissa.find('.'), mantissa.size());
  const std::size_t first = mantissa.find_first_of("123456789");
  const auto place = static_cast<std::int64_t>(point) - static_cast<std::int64_t>(first);
  // Far from zero either way: doubles reach from 1e-324 to 1e308. The mantissa is shorter than any file.
  return place + exponent > 0 ? sign * std::numeric_limits<double>::infinity() : sign * 0.0;
}

class Parser {
 public:
  Parser(bool python, JsonCursor& cursor, std::string_view file, const StrictJsonOptions& options, JsonHandler& handler)
      : python_(python), cursor_(cursor), file_(file), options_(options), handler_(handler) {}

  absl::Status Run() {
    Q4_RETURN_IF_ERROR(Value());
    while (!open_.empty()) Q4_RETURN_IF_ERROR(Next());
    SkipSpace();
    return cursor_.done() ? cursor_.status() : Expected("the end of the document");
  }

 private:
  // In the innermost container, behind its opening bracket or behind a value.
  absl::Status Next() {
    const bool object = open_.back(), first = std::exchange(first_, false);
    SkipSpace();
    if (Take(object ? '}' : ']')) {
      open_.pop_back();
      return handler_.OnEnd(object ? JsonContainer::kObject : JsonContainer::kArray);
    }
    if (!first) {
      if (!Take(',')) return Expected(object ? "',' or '}'" : "',' or ']'");
      SkipSpace();
    }
    if (object) {
      if (cursor_.done() || cursor_.current() != '"') return Expected("a property name in double quotes");
      JsonScalar key;
      Q4_RETURN_IF_ERROR(String(&key));
      Q4_RETURN_IF_ERROR(handler_.OnKey(std::move(key.text)));
      SkipSpace();
      if (!Take(':')) return Expected("':'");
    }
    return Value();
  }

  // A scalar as a whole; of a container the opening bracket.
  absl::Status Value() {
    SkipSpace();
    if (cursor_.done()) return Expected("a value");
    const char c = cursor_.current();
    if (c == '{' || c == '[') return Open(c == '{');
    JsonScalar scalar;
    if (c == '"') {
      scalar.kind = JsonScalar::Kind::kString;
      Q4_RETURN_IF_ERROR(String(&scalar));
    } else if (c == '-' || IsDigit(c)) {
      Q4_RETURN_IF_ERROR(Number(&scalar));
    } else {
      Q4_RETURN_IF_ERROR(Word(&scalar));
    }
    return handler_.OnScalar(std::move(scalar));
  }

  absl::Status Open(bool object) {
    if (open_.size() == static_cast<std::size_t>(options_.max_depth)) {
      return Fail(kJsonTooDeep, file_, AtOffset(cursor_.offset()),
                  "more than " + std::to_string(options_.max_depth) + " levels");
    }
    cursor_.Step();
    open_.push_back(object);
    first_ = true;
    return handler_.OnStart(object ? JsonContainer::kObject : JsonContainer::kArray);
  }

  absl::Status Word(JsonScalar* scalar) {
    const std::uint64_t begin = cursor_.offset();
    std::string word;
    // No longer than the longest word, so that a wrong one does not grow.
    while (!cursor_.done() && word.size() < 9 && IsWordCharacter(cursor_.current())) TakeInto(&word);
    if (word == "true" || word == "false") {
      scalar->kind = JsonScalar::Kind::kBool;
      scalar->boolean = word == "true";
    } else if (python_ && (word == "NaN" || word == "Infinity")) {
      scalar->kind = JsonScalar::Kind::kFloat;
      scalar->float_value =
          word == "NaN" ? std::numeric_limits<double>::quiet_NaN() : std::numeric_limits<double>::infinity();
      scalar->text = std::move(word);
    } else if (word != "null") {
      if (!cursor_.status().ok()) return cursor_.status();
      return Fail(kJsonSyntax, file_, AtOffset(begin), "expected a value");
    }
    return absl::OkStatus();
  }

  // -?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?, or -Infinity.
  absl::Status Number(JsonScalar* scalar) {
    const std::uint64_t begin = cursor_.offset();
    std::string& text = scalar->text;
    scalar->kind = JsonScalar::Kind::kFloat;
    if (cursor_.current() == '-') TakeInto(&text);
    if (At('I')) {
      JsonScalar word;
      Q4_RETURN_IF_ERROR(Word(&word));  // "Infinity": no other begins so
      text += word.text;
      scalar->float_value = -word.float_value;
      return absl::OkStatus();
    }
    const std::size_t sign = text.size();
    Q4_RETURN_IF_ERROR(Digits(&text));
    if (text.size() > sign + 1 && text[sign] == '0') {
      return Fail(kJsonSyntax, file_, AtOffset(begin), "a number with a leading zero");
    }
    bool integer = true;
    if (At('.')) {
      integer = false;
      TakeInto(&text);
      Q4_RETURN_IF_ERROR(Digits(&text));
    }
    if (At('e') || At('E')) {
      integer = false;
      TakeInto(&text);
      if (At('+') || At('-')) TakeInto(&text);
      Q4_RETURN_IF_ERROR(Digits(&text));
    }
    if (!cursor_.status().ok()) return cursor_.status();
    if (python_ && integer && text.size() - sign > kMostIntegerDigits) {
      return Fail(kJsonTooLarge, file_, AtOffset(begin),
                  GotExpected("an integer of " + std::to_string(text.size() - sign) + " digits",
                              "at most " + std::to_string(kMostIntegerDigits) + ", as Python"));
    }
    const char* const end = text.data() + text.size();
    if (integer && sign == 0 && std::from_chars(text.data(), end, scalar->unsigned_value).ec == std::errc()) {
      scalar->kind = JsonScalar::Kind::kUnsigned;
      text.clear();
    } else if (integer && sign == 1 && std::from_chars(text.data(), end, scalar->negative_value).ec == std::errc()) {
      scalar->kind = JsonScalar::Kind::kNegative;
      text.clear();
    } else if (std::from_chars(text.data(), end, scalar->float_value).ec != std::errc()) {
      scalar->float_value = OutOfRange(text);
    }
    return absl::OkStatus();
  }

  // One digit or more.
  absl::Status Digits(std::string* out) {
    if (cursor_.done() || !IsDigit(cursor_.current())) return Expected("a digit");
    while (!cursor_.done() && IsDigit(cursor_.current())) TakeInto(out);
    return absl::OkStatus();
  }

  // From the opening quote to behind the closing one.
  absl::Status String(JsonScalar* scalar) {
    const std::uint64_t begin = cursor_.offset();
    std::string* const out = &scalar->text;
    std::size_t kept = 0;  // what is at the beginning of a string that is shortened; 0 for one that is not yet
    std::uint64_t dropped = 0;
    const auto not_utf8 = [&] { return Fail(kJsonSyntax, file_, AtOffset(begin), "the string is not UTF-8"); };
    cursor_.Step();
    while (!cursor_.done() && cursor_.current() != '"') {
      if (static_cast<unsigned char>(cursor_.current()) < 0x20) return Expected("no control character in a string");
      if (cursor_.current() == '\\') {
        Q4_RETURN_IF_ERROR(Escape(out));
      } else {
        TakeInto(out);
      }
      if (out->size() < kPieceBytes || out->size() - kPieceBytes < options_.keep_string_bytes) continue;
      if (!Shorten(out, &kept, &dropped)) return not_utf8();
    }
    if (!Take('"')) return Expected("the end of the string");
    // What escapes added is UTF-8 and cannot complete a broken sequence, so the whole is judged at once.
    if (!IsUtf8(std::string_view(*out).substr(kept))) return not_utf8();
    scalar->text_bytes = out->size() + dropped;
    if (out->size() > options_.keep_string_bytes) out->resize(CharacterStart(*out, options_.keep_string_bytes));
    return absl::OkStatus();
  }

  // Where the character that holds byte `at` begins; at the end of the text the last one, which may go on.
  static std::size_t CharacterStart(std::string_view text, std::size_t at) {
    at = std::min(at, text.size() - 1);
    for (int i = 0; i < 3 && at > 0 && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80; ++i) --at;
    return at;
  }

  // Drops from `out` what lies between the part that is handed on and the last character. False if it is not UTF-8.
  bool Shorten(std::string* out, std::size_t* kept, std::uint64_t* dropped) const {
    const std::size_t end = CharacterStart(*out, out->size());
    if (!IsUtf8(std::string_view(*out).substr(*kept, end - *kept))) return false;
    if (*kept == 0) *kept = CharacterStart(*out, options_.keep_string_bytes);
    *dropped += end - *kept;
    out->erase(*kept, end - *kept);
    return true;
  }

  absl::Status Escape(std::string* out) {
    cursor_.Step();
    if (!At('u')) return EscapeLetter(out);
    std::uint32_t unit = 0;
    Q4_RETURN_IF_ERROR(Unit(&unit));
    return AfterUnit(unit, out);
  }

  // Behind a backslash that no 'u' follows.
  absl::Status EscapeLetter(std::string* out) {
    constexpr std::string_view kLetters = "\"\\/bfnrt", kMeanings = "\"\\/\b\f\n\r\t";
    const std::size_t at = cursor_.done() ? std::string_view::npos : kLetters.find(cursor_.current());
    if (at == std::string_view::npos) return Expected("an escape of JSON");
    out->push_back(kMeanings[at]);
    cursor_.Step();
    return absl::OkStatus();
  }

  // `unit` was escaped as \uXXXX. A pair of surrogates is one character; of what is no pair each is alone, and the
  // second may begin a pair itself.
  absl::Status AfterUnit(std::uint32_t unit, std::string* out) {
    while (unit >= 0xD800 && unit < 0xDC00 && At('\\')) {
      cursor_.Step();
      if (!At('u')) {
        Q4_RETURN_IF_ERROR(LoneSurrogate(out));
        return EscapeLetter(out);
      }
      std::uint32_t second = 0;
      Q4_RETURN_IF_ERROR(Unit(&second));
      if (second >= 0xDC00 && second < 0xE000) {
        AppendCodePoint(0x10000 + ((unit - 0xD800) << 10) + (second - 0xDC00), out);
        return absl::OkStatus();
      }
      Q4_RETURN_IF_ERROR(LoneSurrogate(out));
      unit = second;
    }
    if (unit >= 0xD800 && unit < 0xE000) return LoneSurrogate(out);
    AppendCodePoint(unit, out);
    return absl::OkStatus();
  }

  absl::Status LoneSurrogate(std::string* out) const {
    if (!python_) return Expected("the other half of a surrogate");
    AppendCodePoint(0xFFFD, out);
    return absl::OkStatus();
  }

  // The "uXXXX" of an escape.
  absl::Status Unit(std::uint32_t* unit) {
    cursor_.Step();
    for (int i = 0; i < 4; ++i) {
      const unsigned digit = cursor_.done() ? 16 : HexDigit(cursor_.current());
      if (digit == 16) return Expected("four hexadecimal digits after \\u");
      *unit = *unit << 4 | digit;
      cursor_.Step();
    }
    return absl::OkStatus();
  }

  static bool IsWordCharacter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
  bool At(char c) const { return !cursor_.done() && cursor_.current() == c; }
  bool Take(char c) {
    if (!At(c)) return false;
    cursor_.Step();
    return true;
  }
  void TakeInto(std::string* out) {
    out->push_back(cursor_.current());
    cursor_.Step();
  }
  void SkipSpace() {
    while (!cursor_.done() && IsJsonSpace(cursor_.current())) cursor_.Step();
  }

  // Where the cursor stopped the text, for a NUL or a long token, it says so itself.
  absl::Status Expected(std::string_view what) const {
    if (!cursor_.status().ok()) return cursor_.status();
    const std::string got = cursor_.done() ? "the end of the text" : "'" + std::string(1, cursor_.current()) + "'";
    return Fail(kJsonSyntax, file_, AtOffset(cursor_.offset()), GotExpected(got, what));
  }

  bool python_;
  JsonCursor& cursor_;
  std::string_view file_;
  const StrictJsonOptions& options_;
  JsonHandler& handler_;
  // What is open, outermost first; true: an object.
  std::vector<bool> open_;
  // Whether the innermost container has just been opened.
  bool first_ = false;
};

}  // namespace

absl::Status ParsePythonJson(JsonSource& source, std::string_view file, const StrictJsonOptions& options,
                             JsonHandler& handler) {
  JsonCursor cursor(source, file, options);
  return Parser(/*python=*/true, cursor, file, options, handler).Run();
}

absl::Status ParsePlainJson(JsonSource& source, std::string_view file, const StrictJsonOptions& options,
                            JsonHandler& handler) {
  JsonCursor cursor(source, file, options);
  return Parser(/*python=*/false, cursor, file, options, handler).Run();
}

}  // namespace q4
