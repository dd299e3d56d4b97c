// llm_int8_skip_modules as transformers matches it. Internal to libconvert/lint/.
#pragma once

#include <set>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "formats/base/json_value.h"
#include "libconvert/base/name_pattern.h"

namespace q4 {

// An entry is a regular expression that matches from the start of a module's name up to its end or a dot, or the end of
// the name as literal text, without any boundary: "proj" skips "q_proj". Expressions are RE2's here, whose time is
// linear: config.json is untrusted.
class SkipList {
 public:
  // `list` is the value of the key, or null when it is absent. null is what the library writes when the user gave no
  // list: the loader then spares what it spares by itself, see is_default().
  explicit SkipList(const Json& list);

  // false: nothing can be said about any module, not even one that a readable entry names: the value is no list of
  // texts, an entry is an expression that RE2 does not know, or there are more expressions than anybody writes.
  bool known() const { return known_; }
  bool is_default() const { return is_default_; }

  // Whether the loader leaves the module alone, by its name in memory. REQUIRES: known() && !is_default().
  bool Matches(std::string_view module) const;

  // The same list with each entry a second time, without its first part, where that is none of `beginnings`. For
  // checkpoints without the prefix that a loader puts before their names: "h.0" is then "transformer.h.0".
  SkipList WithoutPrefixes(const std::set<std::string>& beginnings) const;

 private:
  // Of several entries.
  struct Expression {
    NamePattern up_to_dot, whole;
  };
  // Adds the joined entries as one expression, and empties them. False where that is too much.
  bool Join(std::string* joined);

  // Entries of letters, digits and dots, most of all. A dot is taken literally, which differs only for names made to
  // differ.
  std::unordered_set<std::string> literals_;
  std::vector<Expression> expressions_;
  bool known_ = true, is_default_ = false;
};

}  // namespace q4
