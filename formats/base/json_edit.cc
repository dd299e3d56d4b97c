// The text is parsed once as a whole, so that it is known to be well-formed; then finding the members takes no more
// than skipping strings and counting brackets. Each step finds them anew: there are a handful.
#include "formats/base/json_edit.h"

#include <algorithm>
#include <cstddef>
#include <vector>

#include "formats/base/base_issues.h"
#include "formats/base/json_cursor.h"
#include "formats/base/status.h"

namespace q4 {
namespace {

// Where a member stands in the text: from the quote of its key to behind its value.
struct Member {
  std::string key;  // unescaped
  std::size_t begin = 0, value = 0, end = 0;
};

// A well-formed document whose outermost value is an object.
class Members {
 public:
  explicit Members(std::string_view text) : text_(text) {
    open_ = at_ = text.find('{');
    ++at_;
    for (SkipSpace(); text_[at_] != '}'; SkipSpace()) {
      if (text_[at_] == ',') ++at_, SkipSpace();
      Member member;
      member.begin = at_;
      SkipValue();
      // The key was parsed as a part of the document, so it parses alone.
      if (const auto key = ParseModelJson(text_.substr(member.begin, at_ - member.begin), {}); key.ok()) {
        member.key = key->get<std::string>();
      }
      SkipSpace();
      ++at_;  // the colon
      SkipSpace();
      member.value = at_;
      SkipValue();
      member.end = at_;
      list_.push_back(std::move(member));
    }
    close_ = at_;
  }

  const std::vector<Member>& list() const { return list_; }
  // Of the object's brackets.
  std::size_t open() const { return open_; }
  std::size_t close() const { return close_; }
  // What stands before the first member, and before a later one behind the comma.
  std::string_view lead() const { return text_.substr(open_ + 1, list_.empty() ? 0 : list_[0].begin - open_ - 1); }
  std::string_view gap() const {
    if (list_.size() < 2 || lead().find('\n') != std::string_view::npos) return lead().empty() ? " " : lead();
    const std::size_t comma = text_.find(',', list_[0].end);
    return text_.substr(comma + 1, list_[1].begin - comma - 1);
  }

 private:
  void SkipSpace() {
    while (IsJsonSpace(text_[at_])) ++at_;
  }

  // A string, a scalar, or a container with all that is in it.
  void SkipValue() {
    std::size_t depth = 0;
    do {
      const char c = text_[at_];
      if (c == '"') {
        for (++at_; text_[at_] != '"'; ++at_) at_ += text_[at_] == '\\';
        ++at_;
      } else if (c == '{' || c == '[') {
        ++depth, ++at_;
      } else if (c == '}' || c == ']') {
        --depth, ++at_;
      } else if (depth > 0) {
        ++at_;
      } else {
        while (at_ < text_.size() && !IsJsonSpace(text_[at_]) && text_[at_] != ',' && text_[at_] != '}') ++at_;
      }
    } while (depth > 0);
  }

  std::string_view text_;
  std::size_t at_ = 0, open_ = 0, close_ = 0;
  std::vector<Member> list_;
};

// `value` as it stands behind a member's colon. `lead`: the white space before the members.
std::string ValueText(const Json& value, std::string_view lead) {
  const std::string lines = DumpSorted(value, 1);
  const std::size_t newline = lead.rfind('\n');
  const std::string_view unit = newline == std::string_view::npos ? std::string_view() : lead.substr(newline + 1);
  std::string out;
  // Strings hold no line break: it is escaped in them. So each one is the dumper's, with a blank for each level.
  for (std::size_t at = 0; at < lines.size(); ++at) {
    if (lines[at] != '\n') {
      out += lines[at];
      continue;
    }
    std::size_t level = 0;
    while (lines[at + 1] == ' ') ++at, ++level;
    if (newline != std::string_view::npos) {
      out += lead.substr(0, newline + 1);
      for (std::size_t i = 0; i <= level; ++i) out += unit;
    } else if (out.ends_with(',')) {
      out += ' ';
    }
  }
  return out;
}

std::string Insert(std::string text, const Members& members, const JsonEdit& edit) {
  const std::vector<Member>& list = members.list();
  const std::string key = DumpSorted(Json(edit.key)) + ": ";
  if (list.empty()) {
    return text.substr(0, members.open() + 1) + "\n  " + key + ValueText(*edit.value, "\n  ") + "\n" +
           text.substr(members.close());
  }
  const std::string member = key + ValueText(*edit.value, members.lead()), gap(members.gap());
  const auto by_key = [](const Member& a, const Member& b) { return a.key < b.key; };
  const auto behind = [&edit](const Member& other) { return edit.key < other.key; };
  const auto next =
      std::is_sorted(list.begin(), list.end(), by_key) ? std::find_if(list.begin(), list.end(), behind) : list.end();
  return next == list.end() ? text.insert(list.back().end, "," + gap + member)
                            : text.insert(next->begin, member + "," + gap);
}

// Without the member number `i`, and without one of the commas beside it.
std::string Remove(std::string text, const Members& members, std::size_t i) {
  const std::vector<Member>& list = members.list();
  if (i + 1 < list.size()) return text.erase(list[i].begin, list[i + 1].begin - list[i].begin);
  if (i > 0) return text.erase(list[i - 1].end, list[i].end - list[i - 1].end);
  return text.erase(members.open() + 1, members.close() - members.open() - 1);
}

std::string Edit(std::string text, const JsonEdit& edit) {
  while (true) {
    const Members members(text);
    const std::vector<Member>& list = members.list();
    const auto is_it = [&edit](const Member& member) { return member.key == edit.key; };
    const auto count = std::count_if(list.begin(), list.end(), is_it);
    if (count == 0) return edit.value ? Insert(text, members, edit) : text;
    const auto last = std::find_if(list.rbegin(), list.rend(), is_it);
    if (count == 1 && edit.value) {
      return text.replace(last->value, last->end - last->value, ValueText(*edit.value, members.lead()));
    }
    text = Remove(text, members, static_cast<std::size_t>(list.rend() - last) - 1);
  }
}

}  // namespace

absl::StatusOr<std::string> EditJson(std::string_view text, std::string_view file, std::span<const JsonEdit> edits) {
  Q4_ASSIGN_OR_RETURN(const Json document, ParseModelJson(text, file));
  if (!document.is_object()) return Fail(kJsonSyntax, file, {}, "expected an object");
  std::string out(text);
  for (const JsonEdit& edit : edits) out = Edit(std::move(out), edit);
  return out;
}

}  // namespace q4
