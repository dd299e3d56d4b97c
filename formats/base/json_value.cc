// Two halves that share nothing but the type (json_tree.cc). Builder makes a value from the events of strict_json.h or
// json_parser.h, and counts what it takes before it grows.
// Dumper and PythonFloatRepr write what Python's json.dumps writes, byte for byte: files for transformers then look as
// if its own code had saved them, and the same value gives the same bytes on every machine.
#include "formats/base/json_value.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <utility>
#include <vector>

#include "fmt/format.h"
#include "formats/base/base_issues.h"
#include "formats/base/json_parser.h"
#include "formats/base/limits.h"
#include "formats/base/status.h"
#include "formats/base/strict_json.h"

namespace q4 {
namespace {

// Builds the value while the events come in. open_ holds the containers from the root to the innermost; each is the
// last element of the one before it, so nothing moves while it is open.
class Builder final : public JsonHandler {
 public:
  // `python`: the events are those of ParsePythonJson(). `max_bytes`: what the value may take.
  Builder(std::string_view file, bool python, std::uint64_t max_bytes, Json* root)
      : file_(file), python_(python), left_(max_bytes), max_bytes_(max_bytes), root_(root) {}

  absl::Status OnScalar(JsonScalar scalar) override {
    Q4_RETURN_IF_ERROR(Take(kElementBytes + BytesOf(scalar.text)));
    switch (scalar.kind) {
      case JsonScalar::Kind::kNull:
        Place(nullptr);
        break;
      case JsonScalar::Kind::kBool:
        Place(scalar.boolean);
        break;
      case JsonScalar::Kind::kUnsigned:
        Place(scalar.unsigned_value);
        break;
      case JsonScalar::Kind::kNegative:
        Place(scalar.negative_value);
        break;
      case JsonScalar::Kind::kString:
        Place(std::move(scalar.text));
        break;
      // Without point and exponent it is an integer beyond 64 bits, and a double would keep only its first 53.
      case JsonScalar::Kind::kFloat:
        if (!python_ && scalar.text.find_first_of(".eE") == std::string::npos) {
          return Fail(kJsonInteger, file_, key_, "got " + scalar.text);
        }
        Place(scalar.float_value);
        break;
    }
    return absl::OkStatus();
  }

  absl::Status OnStart(JsonContainer container) override {
    Q4_RETURN_IF_ERROR(Take(kElementBytes + kContainerBytes));
    open_.push_back(Place(container == JsonContainer::kObject ? Json::object() : Json::array()));
    return absl::OkStatus();
  }

  absl::Status OnKey(std::string key) override {
    Q4_RETURN_IF_ERROR(Take(kKeyBytes + BytesOf(key)));
    key_ = std::move(key);
    return absl::OkStatus();
  }

  absl::Status OnEnd(JsonContainer container) override {
    if (python_ && container == JsonContainer::kObject) KeepLast(open_.back()->items());
    open_.pop_back();
    return absl::OkStatus();
  }

 private:
  using Members = Json::object_t;

  // In bytes: twice its own size, for a list has room for up to twice its elements. (While the longest list grows, its
  // old place comes on top.) A key stands before its value; a list and a long text are allocations of their own.
  static constexpr std::uint64_t kElementBytes = 2 * sizeof(Json);
  static constexpr std::uint64_t kKeyBytes = 2 * (sizeof(Members::value_type) - sizeof(Json));
  static constexpr std::uint64_t kContainerBytes = 64;
  static std::uint64_t BytesOf(const std::string& text) { return text.size() + (text.empty() ? 0 : 48); }

  absl::Status Take(std::uint64_t bytes) {
    if (bytes > left_) {
      return Fail(kJsonTooLarge, file_, {},
                  GotExpected("a document that takes more memory", fmt::format("at most {} bytes", max_bytes_)));
    }
    left_ -= bytes;
    return absl::OkStatus();
  }

  // Of members with one key the first place and the last value, as Python's dict has it. By sorting: an object may have
  // a hundred thousand members, a vocabulary for one.
  static void KeepLast(Members& members) {
    std::vector<std::size_t> order(members.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::stable_sort(order.begin(), order.end(),
                     [&](std::size_t a, std::size_t b) { return members[a].first < members[b].first; });
    std::vector<bool> drop(members.size());
    bool any = false;
    for (std::size_t i = 1; i < order.size(); ++i) {
      if (members[order[i]].first != members[order[i - 1]].first) continue;
      // What was moved here stays the first of its key: the next one is compared with this one.
      members[order[i - 1]].second = std::move(members[order[i]].second);
      drop[order[i]] = any = true;
      order[i] = order[i - 1];
    }
    if (!any) return;
    Members kept;
    for (std::size_t i = 0; i < members.size(); ++i) {
      if (!drop[i]) kept.emplace_back(members[i].first, std::move(members[i].second));
    }
    members = std::move(kept);
  }

  // Puts a value at the end of the innermost container, or makes it the document. Returns where it lies; that place is
  // stable, for only the last element of any open container grows.
  Json* Place(Json value) {
    if (open_.empty()) {
      *root_ = std::move(value);
      return root_;
    }
    if (open_.back()->is_array()) {
      return &open_.back()->emplace_back(std::move(value));
    }
    // Without a search: keys differ, or KeepLast() sees to it.
    return &open_.back()->items().emplace_back(std::move(key_), std::move(value)).second;
  }

  std::string_view file_;
  bool python_;
  std::uint64_t left_, max_bytes_;
  Json* root_;
  std::vector<Json*> open_;
  std::string key_;
};

// One UTF-16 code unit, as JSON escapes it.
void AppendEscapedUnit(std::uint32_t unit, std::string* out) {
  std::array<char, 16> text{};
  std::snprintf(text.data(), text.size(), "\\u%04x", unit);
  *out += text.data();
}

// Python's ensure_ascii form: everything but printable ASCII as \u escapes. `text` is UTF-8, so continuation bytes need
// no check.
void AppendString(const std::string& text, std::string* out) {
  *out += '"';
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<std::uint8_t>(text[i]);
    switch (byte) {
      case '"':
        *out += "\\\"";
        continue;
      case '\\':
        *out += "\\\\";
        continue;
      case '\b':
        *out += "\\b";
        continue;
      case '\f':
        *out += "\\f";
        continue;
      case '\n':
        *out += "\\n";
        continue;
      case '\r':
        *out += "\\r";
        continue;
      case '\t':
        *out += "\\t";
        continue;
      default:
        break;
    }
    if (byte >= 0x20 && byte < 0x7F) {
      *out += text[i];
      continue;
    }
    // The lead byte tells how many bytes follow, and its lower bits begin the code point.
    const int following = byte < 0x80 ? 0 : byte < 0xE0 ? 1 : byte < 0xF0 ? 2 : 3;
    std::uint32_t code_point = following == 0 ? byte : byte & (0x3Fu >> following);
    for (int k = 0; k < following && i + 1 < text.size(); ++k) {
      code_point = (code_point << 6) | (static_cast<std::uint8_t>(text[++i]) & 0x3Fu);
    }
    if (code_point >= 0x10000) {
      // JSON escapes are UTF-16: what lies above 0xFFFF takes a surrogate pair.
      AppendEscapedUnit(0xD800 + ((code_point - 0x10000) >> 10), out);
      AppendEscapedUnit(0xDC00 + ((code_point - 0x10000) & 0x3FF), out);
    } else {
      AppendEscapedUnit(code_point, out);
    }
  }
  *out += '"';
}

// json.dumps(sort_keys=True, indent=...): members sorted, one element a line, empty containers on one line.
class Dumper {
 public:
  Dumper(int indent, std::string* out) : indent_(indent), out_(out) {}

  void Dump(const Json& value, int level) {
    if (value.is_object()) {
      DumpObject(value, level);
    } else if (value.is_array()) {
      DumpArray(value, level);
    } else if (value.is_string()) {
      AppendString(value.get_ref<const std::string&>(), out_);
    } else if (value.is_number_float()) {
      const double number = value.get<double>();
      // json.dumps has names of its own for what is not finite.
      if (std::isnan(number)) {
        *out_ += "NaN";
      } else if (std::isinf(number)) {
        *out_ += number > 0 ? "Infinity" : "-Infinity";
      } else {
        *out_ += PythonFloatRepr(number);
      }
    } else {
      // Null, booleans and integers, on which both programs agree.
      *out_ += value.dump();
    }
  }

 private:
  void DumpObject(const Json& value, int level) {
    if (value.empty()) {
      *out_ += "{}";
      return;
    }
    std::vector<std::pair<const std::string*, const Json*>> members;
    for (const auto& [key, member] : value.items()) members.emplace_back(&key, &member);
    // Python compares code points; UTF-8 compares alike bytewise.
    std::sort(members.begin(), members.end(), [](const auto& a, const auto& b) { return *a.first < *b.first; });
    char separator = '{';
    for (const auto& [key, member] : members) {
      *out_ += std::exchange(separator, ',');
      NewLine(level + 1);
      AppendString(*key, out_);
      *out_ += ": ";
      Dump(*member, level + 1);
    }
    NewLine(level);
    *out_ += '}';
  }

  void DumpArray(const Json& value, int level) {
    if (value.empty()) {
      *out_ += "[]";
      return;
    }
    char separator = '[';
    for (const Json& element : value) {
      *out_ += std::exchange(separator, ',');
      NewLine(level + 1);
      Dump(element, level + 1);
    }
    NewLine(level);
    *out_ += ']';
  }

  void NewLine(int level) {
    *out_ += '\n';
    out_->append(static_cast<std::size_t>(indent_) * static_cast<std::size_t>(level), ' ');
  }

  int indent_;
  std::string* out_;
};

}  // namespace

absl::StatusOr<Json> ParseJson(std::string_view text, std::string_view file, int max_depth, std::uint64_t max_bytes) {
  Json root;
  Builder builder(file, /*python=*/false, max_bytes, &root);
  JsonText source(text);
  // A token cannot be longer than the text, so the limit on tokens never strikes here.
  const StrictJsonOptions options{.max_depth = max_depth, .max_token_bytes = text.size()};
  Q4_RETURN_IF_ERROR(ParseStrictJson(source, file, options, builder));
  return root;
}

absl::StatusOr<Json> ParseModelJson(std::string_view text, std::string_view file) {
  Json root;
  Builder builder(file, /*python=*/true, limits::kJsonValueBytes, &root);
  JsonText source(text);
  const StrictJsonOptions options{.max_depth = limits::kModelJsonDepth, .max_token_bytes = text.size()};
  Q4_RETURN_IF_ERROR(ParsePythonJson(source, file, options, builder));
  return root;
}

const Json* FindMember(const Json& value, std::string_view key) {
  const auto at = value.find(key);  // the end where `value` is no object
  return at == value.end() ? nullptr : &*at;
}

std::string DumpSorted(const Json& value, int indent) {
  std::string out;
  Dumper(indent, &out).Dump(value, 0);
  return out;
}

std::string PythonFloatRepr(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  // Shortest digits that read back equal, as d.ddde[+-]xx. Python has the same digits and moves the point itself.
  std::array<char, 32> buffer{};
  const auto end =
      std::to_chars(buffer.data(), buffer.data() + buffer.size(), value, std::chars_format::scientific).ptr;
  std::string_view text(buffer.data(), static_cast<std::size_t>(end - buffer.data()));
  std::string out;
  if (text.front() == '-') {
    out += '-';
    text.remove_prefix(1);
  }
  const std::size_t e = text.find('e');
  int exponent = 0;
  // from_chars takes no plus sign.
  std::from_chars(text.data() + e + (text[e + 1] == '+' ? 2 : 1), text.data() + text.size(), exponent);
  std::string digits(1, text.front());
  if (e > 2) digits += text.substr(2, e - 2);

  // Python's repr: exponents from -4 to 15 are written without one. The exponent has a sign and at least two digits.
  if (exponent < -4 || exponent >= 16) {
    out += digits.front();
    if (digits.size() > 1) out.append(".").append(digits, 1);
    out += exponent < 0 ? "e-" : "e+";
    if (std::abs(exponent) < 10) out += '0';
    out += std::to_string(std::abs(exponent));
  } else if (exponent < 0) {
    out += "0.";
    out.append(static_cast<std::size_t>(-exponent - 1), '0').append(digits);
  } else {
    // The digits before the point; an integer gets ".0", so that it reads back as a float.
    const auto whole = static_cast<std::size_t>(exponent) + 1;
    if (digits.size() <= whole) digits.append(whole - digits.size(), '0').append("0");
    out.append(digits, 0, whole).append(".").append(digits, whole);
  }
  return out;
}

}  // namespace q4
