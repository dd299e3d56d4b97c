#include "libconvert/card/card_head.h"

#include <algorithm>
#include <optional>

#include "absl/strings/ascii.h"

namespace q4 {
namespace {

constexpr std::size_t kMostLicenses = 8;

std::string_view Trimmed(std::string_view text) {
  const std::size_t begin = text.find_first_not_of(" \t\r");
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t\r") + 1 - begin);
}

// Takes the next line from `text`, without its end.
std::string_view NextLine(std::string_view* text) {
  const std::size_t end = text->find('\n');
  std::string_view line = text->substr(0, end);
  text->remove_prefix(end == std::string_view::npos ? text->size() : end + 1);
  if (line.ends_with('\r')) line.remove_suffix(1);
  return line;
}

bool IsDashes(std::string_view line) { return line.starts_with("---") && Trimmed(line) == "---"; }

// An identifier, a path or an address: what needs no quotes in YAML and means nothing in Markdown. "" for all else.
std::string PlainValue(std::string_view value, bool address) {
  value = Trimmed(value);
  const char quote = value.empty() ? '\0' : value.front();
  if (quote == '"' || quote == '\'') {
    const std::size_t end = value.find(quote, 1);
    if (end == std::string_view::npos) return {};
    // Behind the quote only a comment; another quote there would be a part of the value, which is then not plain.
    const std::string_view behind = value.substr(end + 1);
    if (!Trimmed(behind).empty() && (!behind.starts_with(' ') || !Trimmed(behind).starts_with('#'))) return {};
    value = value.substr(1, end - 1);
  } else if (const std::size_t comment = value.find(" #"); comment != std::string_view::npos) {
    value = Trimmed(value.substr(0, comment));
  }
  const std::string_view also = address ? "._+-/:%?=&~#" : "._+-";
  const bool plain = std::all_of(value.begin(), value.end(), [also](char c) {
    return absl::ascii_isalnum(static_cast<unsigned char>(c)) || also.find(c) != std::string_view::npos;
  });
  const bool begins_well = !value.empty() && absl::ascii_isalnum(static_cast<unsigned char>(value.front()));
  return plain && begins_well && value.size() <= 300 ? std::string(value) : std::string();
}

// The value behind "key:", if the line has this key at the top level.
std::optional<std::string_view> ValueOf(std::string_view line, std::string_view key) {
  if (!line.starts_with(key)) return std::nullopt;
  line.remove_prefix(key.size());
  if (!line.starts_with(':') || (line.size() > 1 && line[1] != ' ' && line[1] != '\t')) return std::nullopt;
  return line.substr(1);
}

}  // namespace

CardHead ParseCardHead(std::string_view text) {
  text = text.substr(0, kCardHeadBytes);
  if (text.starts_with("\xef\xbb\xbf")) text.remove_prefix(3);
  if (!IsDashes(NextLine(&text))) return {};
  CardHead head;
  bool in_licenses = false;
  while (!text.empty()) {
    const std::string_view line = NextLine(&text);
    // Three dots end the document as well; what follows is another one's.
    if (IsDashes(line) || Trimmed(line) == "...") return head;
    // "license:" and then "- mit", "- apache-2.0".
    const std::string_view item = Trimmed(line);
    if (in_licenses && item.starts_with("- ")) {
      const std::string license = PlainValue(item.substr(2), /*address=*/false);
      if (!license.empty() && head.licenses.size() < kMostLicenses) head.licenses.push_back(license);
      continue;
    }
    in_licenses = false;
    if (const auto license = ValueOf(line, "license")) {
      in_licenses = Trimmed(*license).empty();
      head.licenses.clear();
      std::string_view list = Trimmed(*license);
      if (list.starts_with('[') && list.ends_with(']')) {
        list = list.substr(1, list.size() - 2);
        while (!list.empty() && head.licenses.size() < kMostLicenses) {
          const std::size_t end = std::min(list.find(','), list.size());
          if (std::string one = PlainValue(list.substr(0, end), false); !one.empty()) head.licenses.push_back(one);
          list.remove_prefix(std::min(end + 1, list.size()));
        }
      } else if (const std::string value = PlainValue(*license, false); !value.empty())
        head.licenses.push_back(value);
    } else if (const auto name = ValueOf(line, "license_name")) {
      head.license_name = PlainValue(*name, false);
    } else if (const auto link = ValueOf(line, "license_link")) {
      head.license_link = PlainValue(*link, true);
    } else if (const auto tag = ValueOf(line, "pipeline_tag")) {
      head.pipeline_tag = PlainValue(*tag, false);
    }
  }
  // Without its second line of dashes it is no head, whatever it looks like.
  return {};
}

}  // namespace q4
