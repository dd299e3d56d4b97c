// Untrusted text made safe to show, and numbers as people read them. Names in a checkpoint may hold terminal escapes,
// line breaks or bidirectional controls; nothing of that may reach a terminal or forge a line of a log (docs/safety.md,
// promise 10).
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

namespace q4 {

// `text` fit for a terminal, a log or a message: C0, DEL, C1, bidirectional controls, characters that show nothing and
// bytes that are not UTF-8 become \xNN (of each byte), and so does a backslash that begins what looks like such an
// escape: ESC is shown as \x1b and the text \x1b as \x5cx1b, and no two texts look alike. What would exceed `max_bytes`
// of output is replaced by "...", never within a character. JSON output has its own escaping.
//
// This is the one function through which text that is not q4's own is shown. It must be called once on the way of a
// text: a second call would escape the backslashes of the first. Fail() calls it for all of its parts, and what it
// returns is Shown.
std::string Printable(std::string_view text, std::size_t max_bytes = 160);

// Text that has passed Printable(): the message of a status, a name that a container records as it was shown. Where it
// comes out of a file it may lie, so that this Printable() escapes all that the other does, but no backslash.
struct Shown {
  std::string_view text;
};
std::string Printable(Shown shown, std::size_t max_bytes = 160);

// Whether `text` is well-formed UTF-8 (no overlong forms, no surrogates, at most U+10FFFF).
bool IsUtf8(std::string_view text);

// Whether all of `text` matches `pattern`, in which `*` stands for any characters, none included, and everything else
// for itself. Compared as bytes; the time is bounded by the product of the lengths.
bool MatchesWildcards(std::string_view pattern, std::string_view text);

// "1.23 GB": decimal units, three significant digits, for people.
std::string HumanBytes(unsigned long long bytes);

// `"nf4" or "fp4"`, `"a", "b" or "c"`: what is allowed, for messages. REQUIRES: there is a word.
std::string QuotedChoice(std::span<const std::string> words);

// Calls `matches` for each item of a list, as tables hold lists in one text, until it returns true; whether it did.
template <typename Predicate>
bool AnyItem(std::string_view list, std::string_view separator, Predicate matches) {
  while (!list.empty()) {
    const std::size_t end = list.find(separator);
    // substr takes the rest of the list when there is no separator (npos).
    if (matches(list.substr(0, end))) return true;
    list.remove_prefix(end == std::string_view::npos ? list.size() : end + separator.size());
  }
  return false;
}

// "offset 123": a place in a file, as errors name it.
std::string AtOffset(unsigned long long offset);

}  // namespace q4
