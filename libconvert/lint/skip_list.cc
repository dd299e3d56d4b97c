#include "libconvert/lint/skip_list.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <utility>

#include "absl/status/statusor.h"

namespace q4 {
namespace {

// Text of expressions that are joined into one, and how many such there may be: 128 KiB of expressions. Lists of names
// are as long as they like.
constexpr std::size_t kJoinedBytes = 2048, kMostJoined = 64;

bool IsLiteral(std::string_view entry) {
  return std::all_of(entry.begin(), entry.end(), [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_' || c == '-' ||
           c == '.';
  });
}

}  // namespace

// Every entry must be an expression by itself; they are then joined, so that a name is looked at once for many of them
// and lint takes time by weights, not by weights times entries.
SkipList::SkipList(const Json& list) : known_(list.is_null() || list.is_array()), is_default_(list.is_null()) {
  if (!list.is_array()) return;
  std::string joined;
  for (const Json& item : list) {
    if (!item.is_string()) {
      known_ = false;
      return;
    }
    const std::string& entry = item.get_ref<const std::string&>();
    literals_.insert(entry);
    if (IsLiteral(entry)) continue;
    const bool is_full = !joined.empty() && joined.size() + entry.size() > kJoinedBytes;
    if (!NamePattern::Parse(fmt::format("^(?:{})$", entry), {}).ok() || (is_full && !Join(&joined))) {
      known_ = false;
      return;
    }
    joined += fmt::format("{}(?:{})", joined.empty() ? "" : "|", entry);
  }
  if (!joined.empty()) known_ = Join(&joined);
}

bool SkipList::Join(std::string* joined) {
  absl::StatusOr<NamePattern> up_to_dot = NamePattern::Parse(fmt::format("^(?:{})(?:\\.|$)", *joined), {});
  absl::StatusOr<NamePattern> whole = NamePattern::Parse(fmt::format("^(?:{})$", *joined), {});
  if (expressions_.size() == kMostJoined || !up_to_dot.ok() || !whole.ok()) return false;
  expressions_.push_back({*std::move(up_to_dot), *std::move(whole)});
  joined->clear();
  return true;
}

SkipList SkipList::WithoutPrefixes(const std::set<std::string>& beginnings) const {
  SkipList list = *this;
  for (const std::string& entry : literals_) {
    const std::size_t dot = entry.find('.');
    if (dot == std::string::npos || dot + 1 == entry.size() || beginnings.contains(entry.substr(0, dot))) continue;
    list.literals_.insert(entry.substr(dot + 1));
  }
  return list;
}

bool SkipList::Matches(std::string_view module) const {
  for (std::size_t i = 0; i <= module.size(); ++i) {
    // As the end of the name; the empty entry ends every name.
    if (literals_.contains(std::string(module.substr(i)))) return true;
    // As its beginning, up to the end or a dot, or with the dot.
    const bool before_dot = i == module.size() || module[i] == '.';
    const bool behind_dot = i > 0 && module[i - 1] == '.';
    if (i > 0 && (before_dot || behind_dot) && literals_.contains(std::string(module.substr(0, i)))) return true;
    if (!behind_dot) continue;
    const std::string_view beginning = module.substr(0, i);
    if (std::any_of(expressions_.begin(), expressions_.end(),
                    [beginning](const Expression& entry) { return entry.whole.Matches(beginning); })) {
      return true;
    }
  }
  return std::any_of(expressions_.begin(), expressions_.end(),
                     [module](const Expression& entry) { return entry.up_to_dot.Matches(module); });
}

}  // namespace q4
