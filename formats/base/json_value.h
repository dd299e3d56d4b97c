// JSON documents as values, for small files: config.json, recipes, gates, reports.
//
// The type is q4's own, with the names of nlohmann/json for what is used of it, because its destructor must not
// allocate: memory may be exhausted where a document is released (docs/decisions/0019).
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <ranges>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/base/limits.h"

namespace q4 {

class JsonRef;

// Null, a boolean, a number, a string, an array or an object that keeps the order of its keys. Reading a member that is
// absent or of another type throws std::domain_error; ask contains() and is_...() first. A value is as deep as what it
// was made of: parsed ones to the depth that the parser allows, so that recursion over it ends. Copies are deep.
class Json {
 public:
  enum class value_t : std::uint8_t {
    null,
    boolean,
    number_integer,
    number_unsigned,
    number_float,
    string,
    array,
    object
  };
  using array_t = std::vector<Json>;
  using object_t = std::vector<std::pair<std::string, Json>>;
  // What dump() does with text that is not UTF-8: throw, or write U+FFFD.
  enum class error_handler_t : std::uint8_t { strict, replace };

  // Over the elements of an array or the values of an object; nothing otherwise.
  template <typename Value, typename Member>
  class Iterator {
   public:
    using value_type = Json;
    using difference_type = std::ptrdiff_t;
    Iterator() = default;
    Iterator(Value* element, Member* member) : element_(element), member_(member) {}
    Value& operator*() const { return member_ != nullptr ? member_->second : *element_; }
    Value* operator->() const { return &**this; }
    const std::string& key() const { return member_->first; }
    Iterator& operator++() {
      member_ != nullptr ? void(++member_) : void(++element_);
      return *this;
    }
    Iterator operator++(int) {
      Iterator before = *this;
      ++*this;
      return before;
    }
    bool operator==(const Iterator&) const = default;

   private:
    Value* element_ = nullptr;
    Member* member_ = nullptr;  // of an object
  };
  using iterator = Iterator<Json, object_t::value_type>;
  using const_iterator = Iterator<const Json, const object_t::value_type>;

  Json() = default;
  // Implicit, as nlohmann's: a document is written down as its values.
  // NOLINTBEGIN(google-explicit-constructor)
  Json(std::nullptr_t) {}
  template <typename T>
  requires std::is_arithmetic_v<T> Json(T value) {
    if constexpr (std::same_as<T, bool>) {
      type_ = value_t::boolean;
      boolean_ = value;
    } else if constexpr (std::floating_point<T>) {
      type_ = value_t::number_float;
      float_ = static_cast<double>(value);
    } else if constexpr (std::is_signed_v<T>) {
      type_ = value_t::number_integer;
      integer_ = value;
    } else {
      type_ = value_t::number_unsigned;
      unsigned_ = value;
    }
  }
  Json(std::string text) : type_(value_t::string), string_(new std::string(std::move(text))) {}
  Json(std::string_view text) : Json(std::string(text)) {}
  Json(const char* text) : Json(std::string(text)) {}
  // An array of the elements of a range.
  template <std::ranges::input_range Range>
  requires(!std::convertible_to<const Range&, std::string_view> && !std::same_as<std::remove_cvref_t<Range>, Json>)
      Json(const Range& range)
      : Json(array()) {
    for (const auto& element : range) array_->emplace_back(element);
  }
  // An object if every element is an array of a string and a value; else an array.
  Json(std::initializer_list<JsonRef> elements);
  // NOLINTEND(google-explicit-constructor)
  Json(const Json& other);
  Json(Json&& other) noexcept { Swap(&other); }
  Json& operator=(Json other) noexcept {
    Swap(&other);
    return *this;
  }
  ~Json() { Release(); }

  static Json array(std::initializer_list<JsonRef> elements = {});
  static Json object(std::initializer_list<JsonRef> members = {});

  value_t type() const noexcept { return type_; }
  bool is_null() const noexcept { return type_ == value_t::null; }
  bool is_boolean() const noexcept { return type_ == value_t::boolean; }
  bool is_number_unsigned() const noexcept { return type_ == value_t::number_unsigned; }
  bool is_number_integer() const noexcept { return type_ == value_t::number_integer || is_number_unsigned(); }
  bool is_number_float() const noexcept { return type_ == value_t::number_float; }
  bool is_number() const noexcept { return is_number_integer() || is_number_float(); }
  bool is_string() const noexcept { return type_ == value_t::string; }
  bool is_array() const noexcept { return type_ == value_t::array; }
  bool is_object() const noexcept { return type_ == value_t::object; }
  bool is_structured() const noexcept { return is_array() || is_object(); }

  // A boolean, a number of any type (converted), a std::string, or a container of them.
  template <typename T>
  T get() const {
    if constexpr (std::same_as<T, bool>) {
      if (!is_boolean()) WrongType();
      return boolean_;
    } else if constexpr (std::is_arithmetic_v<T>) {
      switch (type_) {
        case value_t::boolean:
          return static_cast<T>(boolean_);
        case value_t::number_integer:
          return static_cast<T>(integer_);
        case value_t::number_unsigned:
          return static_cast<T>(unsigned_);
        case value_t::number_float:
          return static_cast<T>(float_);
        default:
          WrongType();
      }
    } else if constexpr (std::same_as<T, std::string>) {
      return text();
    } else {
      T values;
      for (const Json& element : elements()) values.insert(values.end(), element.get<typename T::value_type>());
      return values;
    }
  }
  // As nlohmann's; not to a character, by which a text could be assigned to.
  // NOLINTBEGIN(google-explicit-constructor)
  template <typename T>
  requires((std::is_arithmetic_v<T> && !std::same_as<T, char>) || std::same_as<T, std::string>) operator T() const {
    return get<T>();
  }
  // NOLINTEND(google-explicit-constructor)
  template <typename T>
  requires std::same_as<T, const std::string&> T get_ref()
  const { return text(); }
  const std::string& text() const;
  // Of an array; of an object, in order. To add members whose keys are known to differ, without a search.
  const array_t& elements() const;
  const object_t& items() const;
  object_t& items();

  // 0 of null, 1 of what has no elements.
  std::size_t size() const noexcept;
  bool empty() const noexcept { return size() == 0; }
  iterator begin() { return {Elements(), Members()}; }
  iterator end() { return {Elements() + ElementCount(), Members() + MemberCount()}; }
  const_iterator begin() const { return {Elements(), Members()}; }
  const_iterator end() const { return {Elements() + ElementCount(), Members() + MemberCount()}; }
  // end() where there is no such member, or this is no object. A linear search, as all by key.
  iterator find(std::string_view key);
  const_iterator find(std::string_view key) const;
  bool contains(std::string_view key) const { return find(key) != end(); }
  // The member, made if absent; null becomes an object.
  Json& operator[](std::string_view key);
  const Json& operator[](std::string_view key) const { return at(key); }
  // A literal: to clang the number that a value converts to could be an index into the literal as well.
  Json& operator[](const char* key) { return (*this)[std::string_view(key)]; }
  const Json& operator[](const char* key) const { return at(key); }
  template <std::integral Index>
  Json& operator[](Index index) {
    return at(index);
  }
  template <std::integral Index>
  const Json& operator[](Index index) const {
    return at(index);
  }
  Json& at(std::string_view key);
  const Json& at(std::string_view key) const;
  template <std::integral Index>
  Json& at(Index index) {
    return const_cast<Json&>(std::as_const(*this).at(index));
  }
  template <std::integral Index>
  const Json& at(Index index) const {
    if (std::cmp_less(index, 0) || static_cast<std::size_t>(index) >= ElementCount()) WrongType();
    return (*array_)[static_cast<std::size_t>(index)];
  }
  const Json& front() const { return *begin(); }
  const Json& back() const { return elements().back(); }
  Json& back() { return array_->back(); }
  // At the end of an array; null becomes one. A pair {key, value} becomes a member of an object.
  void push_back(Json value) { emplace_back(std::move(value)); }
  void push_back(std::initializer_list<JsonRef> elements);
  Json& emplace_back(Json value);
  // Removes the member; how many there were.
  std::size_t erase(std::string_view key);

  // The document as text; on one line, or with each element on a line of its own. Numbers are written so that they read
  // back equal.
  std::string dump(int indent = -1, char indent_char = ' ', bool ensure_ascii = false,
                   error_handler_t errors = error_handler_t::strict) const;

  // Numbers are compared by value, whatever their type; members in their order.
  friend bool operator==(const Json& a, const Json& b);
  template <typename T>
  requires(std::is_arithmetic_v<T> || std::convertible_to<const T&, std::string_view>) friend bool operator==(
      const Json& a, const T& b) {
    return a == Json(b);
  }

 private:
  [[noreturn]] static void WrongType();
  void Swap(Json* other) noexcept;
  void Release() noexcept;
  Json* Elements() const noexcept { return is_array() ? array_->data() : nullptr; }
  object_t::value_type* Members() const noexcept { return is_object() ? object_->data() : nullptr; }
  std::size_t ElementCount() const noexcept { return is_array() ? array_->size() : 0; }
  std::size_t MemberCount() const noexcept { return is_object() ? object_->size() : 0; }

  value_t type_ = value_t::null;
  union {
    bool boolean_;
    std::int64_t integer_;
    std::uint64_t unsigned_ = 0;
    double float_;
    std::string* string_;  // owned, as the next two
    array_t* array_;
    object_t* object_;
  };
};

// An element of a braced list, which can be moved out of it.
class JsonRef {
 public:
  // NOLINTBEGIN(google-explicit-constructor): as Json's.
  template <typename... Args>
  requires std::constructible_from<Json, Args...> JsonRef(Args&&... args) : value_(std::forward<Args>(args)...) {}
  JsonRef(std::initializer_list<JsonRef> elements) : value_(elements) {}
  // NOLINTEND(google-explicit-constructor)
  const Json& value() const { return value_; }
  Json Take() const { return std::move(value_); }

 private:
  mutable Json value_;
};

// The document in `text`, under all rules of strict_json.h: no duplicate keys, no byte order mark, no NUL, UTF-8, at
// most `max_depth` levels. Integers that do not fit 64 bits are refused, not rounded. The value takes at most
// `max_bytes` of memory, kJsonTooLarge before more is built. `file` is named in errors (exit code
// 3).
absl::StatusOr<Json> ParseJson(std::string_view text, std::string_view file, int max_depth,
                               std::uint64_t max_bytes = limits::kJsonValueBytes);

// The document in `text`, as Python reads it (json_parser.h): for config.json and what else belongs to a model's
// folder. Of a key that comes twice the last value counts, in the place of the first. Integers beyond 64 bits are the
// nearest double, NaN and the infinities what they are, lone surrogates U+FFFD: enough to ask about, not to write
// again. Who changes such a file edits its text (json_edit.h). `file` is named in errors (exit code 3); nesting beyond
// limits::kModelJsonDepth is one, a value beyond limits::kJsonValueBytes another.
absl::StatusOr<Json> ParseModelJson(std::string_view text, std::string_view file);

// The member `key` of `value`, or nullptr where there is none or `value` is no object. Lives as long as `value`.
const Json* FindMember(const Json& value, std::string_view key);

// The bytes of Python's json.dumps(value, sort_keys=True, indent=indent, ensure_ascii=True). REQUIRES: strings are
// UTF-8, which holds for everything that ParseJson() and ParseModelJson() made.
std::string DumpSorted(const Json& value, int indent = 2);

// Python's repr() of a float, the shortest text that reads back equal: "0.02", "1e-05", "10000.0", "1e+16", "nan",
// "inf".
std::string PythonFloatRepr(double value);

}  // namespace q4
