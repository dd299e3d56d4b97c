// Two columns: names and value at the left, the description at the right, wrapped. A name that is too long for its
// column has a line of its own.
#include "tools/option_help.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <vector>

namespace q4 {
namespace {

constexpr std::size_t kWidth = 80;
constexpr std::size_t kColumn = 28;  // where descriptions begin

// The footer of every --help; ExitCode in formats/base/status.h is what it describes.
constexpr char kExitCodes[] =
    "Exit codes: 0 done; 1 usage; 2 I/O; 3 invalid input; 4 internal or device;\n"
    "5 unsupported; 6 a check failed; 7 interrupted.\n";

// The words of `text` in lines of at most kWidth columns, the first one behind `head`, all from column kColumn on. No
// line but the first begins with '-': programs look there for names.
std::string Wrapped(const std::string& head, std::string_view text) {
  std::string out = head;
  std::size_t at = head.size();  // columns of the last line
  if (at + 2 > kColumn) {
    out += "\n";
    at = 0;
  }
  out.append(kColumn - at, ' ');
  at = kColumn;
  while (!text.empty()) {
    std::size_t end = std::min(text.find(' '), text.size());
    // What follows and begins with '-' stays on the line of the word before it.
    while (end + 1 < text.size() && text[end + 1] == '-') end = std::min(text.find(' ', end + 1), text.size());
    const std::string_view word = text.substr(0, end);
    if (at > kColumn && at + 1 + word.size() > kWidth) {
      out += "\n" + std::string(kColumn, ' ');
      at = kColumn;
    } else if (at > kColumn) {
      out += " ";
      ++at;
    }
    out += word;
    at += word.size();
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return out + "\n";
}

std::string OptionText(const CLI::Option& option) {
  std::vector<std::string> names = NamesOf(option);
  // As people look for them: "-o, --output".
  std::stable_sort(names.begin(), names.end(),
                   [](const std::string& a, const std::string& b) { return a.size() == 2 && b.size() != 2; });
  const std::string value = option.get_positional() ? std::string() : ValueOf(option);
  std::string head = "  ";
  for (const std::string& name : names) head += (head.size() > 2 ? ", " : "") + name;
  if (!value.empty()) head += " " + value;
  std::string about = option.get_description();
  // Flags have none; where the description says it already, once is enough.
  const std::string fallback = option.get_default_str();
  if (!fallback.empty() && about.find("default") == std::string::npos) about += " (default: " + fallback + ")";
  if (option.get_required() && !option.get_positional()) about += " (required)";
  return Wrapped(head, about);
}

}  // namespace

std::vector<std::string> NamesOf(const CLI::Option& option) {
  std::vector<std::string> names;
  for (const std::string& name : option.get_lnames()) names.push_back("--" + name);
  for (const std::string& name : option.get_snames()) names.push_back("-" + name);
  // The spellings that say no are mostly among them: --no-double-quant.
  for (const std::string& plain : option.get_fnames()) {
    std::string name = (plain.size() == 1 ? "-" : "--") + plain;
    if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(std::move(name));
  }
  if (names.empty()) names.push_back(option.get_name(/*positional=*/true));
  return names;
}

bool IsFlag(const CLI::Option& option) { return option.get_items_expected_max() == 0; }

std::string ValueOf(const CLI::Option& option) {
  if (IsFlag(option)) return {};
  // CLI11 says "FILE", or "TEXT:{a,b}" where the words are those of a validator and nobody has named the value.
  const std::string kind = option.get_type_name();
  const std::size_t list = kind.find(":{");
  if (list == std::string::npos || !kind.starts_with("TEXT")) {
    for (const std::string_view check : {":COUNT", ":SIZE", ":NUMBER"}) {
      if (kind.ends_with(check)) return kind.substr(0, kind.size() - check.size());
    }
    return kind.substr(0, list);
  }
  std::string words = kind.substr(list + 2, kind.size() - list - 3);
  std::replace(words.begin(), words.end(), ',', '|');
  return words;
}

std::string HelpText(const CLI::App& app) {
  std::vector<std::pair<std::string, std::string>> groups;  // heading and lines, in the order of their first options
  std::string arguments, usage = "Usage: " + app.get_name();
  // CLI11 adds its --help first, and it belongs to the last ones.
  std::vector<const CLI::Option*> options = app.get_options();
  std::stable_partition(options.begin(), options.end(), [&](const auto* o) { return o != app.get_help_ptr(); });
  for (const CLI::Option* option : options) {
    if (option->get_positional()) {
      arguments += OptionText(*option);
      usage += " " + NamesOf(*option).front();
      continue;
    }
    if (option->get_required() || option->check_lname("output")) {
      const std::string what = NamesOf(*option).back() + " " + ValueOf(*option);
      usage += option->get_required() ? " " + what : " [" + what + "]";
    }
    const std::string& heading = option->get_group();
    auto group = std::find_if(groups.begin(), groups.end(), [&](const auto& g) { return g.first == heading; });
    if (group == groups.end()) group = groups.emplace(groups.end(), heading, std::string());
    group->second += OptionText(*option);
  }
  std::string text = app.get_description() + "\n\n" + usage + " [options]\n\n" + arguments;
  for (const auto& [heading, lines] : groups) text += "\n" + heading + ":\n" + lines;
  return text + "\n" + app.get_footer() + "\n" + kExitCodes + "Manual: man " + app.get_name() + ", or docs/" +
         app.get_name() + ".md of the project.\n";
}

}  // namespace q4
