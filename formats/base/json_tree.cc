// The value itself, and dump(). Everything that releases memory is recursion over what is there: no allocation, so that
// a document can be released where memory is exhausted. How a single number or string is written is nlohmann/json's
// matter, of which the text of reports has always been.
#include <algorithm>
#include <nlohmann/json.hpp>

#include "formats/base/json_value.h"

namespace q4 {
namespace {

// json.dump(): members in their order.
class Writer {
 public:
  Writer(int indent, char indent_char, bool ensure_ascii, Json::error_handler_t errors, std::string* out)
      : indent_(indent),
        indent_char_(indent_char),
        ensure_ascii_(ensure_ascii),
        errors_(errors == Json::error_handler_t::strict ? nlohmann::json::error_handler_t::strict
                                                        : nlohmann::json::error_handler_t::replace),
        out_(out) {}

  void Write(const Json& value, int level) {
    if (value.is_structured()) return WriteMembers(value, level);
    if (value.is_string()) return WriteText(value.text());
    nlohmann::json scalar;  // null
    if (value.is_boolean()) scalar = value.get<bool>();
    if (value.is_number_float()) scalar = value.get<double>();
    if (value.is_number_unsigned()) scalar = value.get<std::uint64_t>();
    if (value.type() == Json::value_t::number_integer) scalar = value.get<std::int64_t>();
    *out_ += scalar.dump();
  }

 private:
  void WriteMembers(const Json& value, int level) {
    *out_ += value.is_object() ? '{' : '[';
    const char* separator = "";
    for (auto member = value.begin(); member != value.end(); ++member) {
      *out_ += std::exchange(separator, ",");
      Line(level + 1);
      if (value.is_object()) {
        WriteText(member.key());
        *out_ += indent_ < 0 ? ":" : ": ";
      }
      Write(*member, level + 1);
    }
    if (!value.empty()) Line(level);
    *out_ += value.is_object() ? '}' : ']';
  }
  void Line(int level) {
    if (indent_ < 0) return;
    *out_ += '\n';
    out_->append(static_cast<std::size_t>(indent_) * static_cast<std::size_t>(level), indent_char_);
  }
  void WriteText(const std::string& text) {
    const bool plain = std::all_of(text.begin(), text.end(), [](char c) {
      return static_cast<unsigned char>(c) >= 0x20 && static_cast<unsigned char>(c) < 0x7F && c != '"' && c != '\\';
    });
    if (plain) {
      out_->append("\"").append(text).append("\"");
    } else {
      *out_ += nlohmann::json(text).dump(-1, ' ', ensure_ascii_, errors_);
    }
  }

  const int indent_;
  const char indent_char_;
  const bool ensure_ascii_;
  const nlohmann::json::error_handler_t errors_;
  std::string* const out_;
};

// Whether it may stand for a member in a braced list.
bool IsPair(const JsonRef& element) {
  return element.value().is_array() && element.value().size() == 2 && element.value().front().is_string();
}

template <typename Iterator>
Iterator Find(Iterator begin, Iterator end, std::string_view key) {
  while (begin != end && begin.key() != key) ++begin;
  return begin;
}

}  // namespace

Json::Json(const Json& other) : type_(other.type_), unsigned_(other.unsigned_) {
  if (is_string()) string_ = new std::string(*other.string_);
  if (is_array()) array_ = new array_t(*other.array_);
  if (is_object()) object_ = new object_t(*other.object_);
  if (is_boolean()) boolean_ = other.boolean_;
}

Json::Json(std::initializer_list<JsonRef> elements) {
  *this = std::all_of(elements.begin(), elements.end(), IsPair) ? object(elements) : array(elements);
}

Json Json::array(std::initializer_list<JsonRef> elements) {
  Json made;
  made.array_ = new array_t();
  made.type_ = value_t::array;
  made.array_->reserve(elements.size());
  for (const JsonRef& element : elements) made.array_->push_back(element.Take());
  return made;
}

Json Json::object(std::initializer_list<JsonRef> members) {
  Json made;
  made.object_ = new object_t();
  made.type_ = value_t::object;
  for (const JsonRef& member : members) {
    if (!IsPair(member)) WrongType();
    Json pair = member.Take();
    made[pair.array_->front().text()] = std::move(pair.array_->back());
  }
  return made;
}

void Json::WrongType() { throw std::domain_error("JSON value of another type than was asked for"); }

void Json::Swap(Json* other) noexcept {
  std::swap(type_, other->type_);
  std::swap(unsigned_, other->unsigned_);
}

void Json::Release() noexcept {
  if (is_string()) delete string_;
  if (is_array()) delete array_;
  if (is_object()) delete object_;
}

const std::string& Json::text() const {
  if (!is_string()) WrongType();
  return *string_;
}

const Json::array_t& Json::elements() const {
  if (!is_array()) WrongType();
  return *array_;
}

const Json::object_t& Json::items() const {
  if (!is_object()) WrongType();
  return *object_;
}

Json::object_t& Json::items() { return const_cast<object_t&>(std::as_const(*this).items()); }

std::size_t Json::size() const noexcept {
  if (is_null()) return 0;
  return is_structured() ? ElementCount() + MemberCount() : 1;
}

Json::iterator Json::find(std::string_view key) { return is_object() ? Find(begin(), end(), key) : end(); }

Json::const_iterator Json::find(std::string_view key) const { return is_object() ? Find(begin(), end(), key) : end(); }

Json& Json::operator[](std::string_view key) {
  if (is_null()) *this = object();
  if (!is_object()) WrongType();
  if (const iterator found = find(key); found != end()) return *found;
  return object_->emplace_back(std::string(key), Json()).second;
}

Json& Json::at(std::string_view key) { return const_cast<Json&>(std::as_const(*this).at(key)); }

const Json& Json::at(std::string_view key) const {
  const const_iterator found = find(key);
  if (found == end()) WrongType();
  return *found;
}

void Json::push_back(std::initializer_list<JsonRef> elements) {
  if (is_object() && elements.size() == 2 && elements.begin()->value().is_string()) {
    (*this)[elements.begin()->value().text()] = (elements.begin() + 1)->Take();
  } else {
    emplace_back(Json(elements));
  }
}

Json& Json::emplace_back(Json value) {
  if (is_null()) *this = array();
  if (!is_array()) WrongType();
  return array_->emplace_back(std::move(value));
}

std::size_t Json::erase(std::string_view key) {
  if (!is_object()) WrongType();
  return std::erase_if(*object_, [&](const auto& member) { return member.first == key; });
}

std::string Json::dump(int indent, char indent_char, bool ensure_ascii, error_handler_t errors) const {
  std::string out;
  Writer(indent, indent_char, ensure_ascii, errors, &out).Write(*this, 0);
  return out;
}

bool operator==(const Json& a, const Json& b) {
  using enum Json::value_t;
  if (a.is_number() && b.is_number()) {
    if (a.is_number_float() || b.is_number_float()) return a.get<double>() == b.get<double>();
    // Of the same sign, or one of them is negative and the other one beyond it.
    const auto is_negative = [](const Json& value) { return value.type_ == number_integer && value.integer_ < 0; };
    return is_negative(a) == is_negative(b) && a.get<std::uint64_t>() == b.get<std::uint64_t>();
  }
  if (a.type_ != b.type_) return false;
  switch (a.type_) {
    case boolean:
      return a.boolean_ == b.boolean_;
    case string:
      return *a.string_ == *b.string_;
    case array:
      return *a.array_ == *b.array_;
    case object:
      return *a.object_ == *b.object_;
    default:
      return true;
  }
}

}  // namespace q4
