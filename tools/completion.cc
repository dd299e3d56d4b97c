// One description of each option, three writers. What a value is comes from the parser: a list of words, a number, or
// text. Which texts are no files, and which words a text may be, is the only thing that has to be said here.
#include "tools/completion.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "fmt/format.h"
#include "tools/usage_issues.h"

namespace q4 {
namespace {

// Values that are text and never a file: patterns, names, ranges.
constexpr std::string_view kNoFile[] = {"--include", "--exclude", "--tensor", "--filter",   "--components",
                                        "--dump",    "--limit",   "--root",   "--drop-file"};

// What the parser calls a number or a size.
constexpr std::string_view kNumbers[] = {"COUNT", "SIZE", "NUMBER"};

// Words that a text may be besides.
constexpr std::pair<std::string_view, std::string_view> kWords[] = {
    {"--device", "auto cpu cuda"}, {"--compress", "none zstd"}, {"--gate", "default"}};

struct Completed {
  std::vector<std::string> names;
  std::string about;  // its line of help
  std::string words;  // what the value may be, separated by spaces; "" for none
  bool takes_value = false, may_be_file = false, is_repeatable = false;
};

Completed Describe(const OptionInfo& option) {
  Completed out{option.names, option.about, {}, option.takes_value, false, option.is_repeatable};
  if (!option.takes_value) return out;
  // "{a,b}" is how the parser writes the words that it takes.
  const std::size_t begin = option.kind.find('{'), end = option.kind.rfind('}');
  if (begin != std::string::npos && end != std::string::npos && begin < end) {
    out.words = option.kind.substr(begin + 1, end - begin - 1);
    std::replace(out.words.begin(), out.words.end(), ',', ' ');
    return out;
  }
  const auto named = [&option](std::string_view name) {
    return std::find(option.names.begin(), option.names.end(), name) != option.names.end();
  };
  const bool is_number = std::any_of(std::begin(kNumbers), std::end(kNumbers), [&option](std::string_view kind) {
    return option.kind.find(kind) != std::string::npos;
  });
  out.may_be_file = !is_number && std::none_of(std::begin(kNoFile), std::end(kNoFile), named);
  for (const auto& [name, words] : kWords) {
    if (!named(name)) continue;
    out.words = words;
    out.may_be_file = name == "--gate";
  }
  return out;
}

// The text with a backslash before each of these characters.
std::string Escaped(std::string_view text, std::string_view characters) {
  std::string out;
  for (const char c : text) {
    if (characters.find(c) != std::string_view::npos) out += '\\';
    out += c;
  }
  return out;
}

// Within single quotes of a shell.
std::string Quoted(std::string_view text, std::string_view quote) {
  std::string out = "'";
  for (const char c : text) out += c == '\'' ? std::string(quote) : std::string(1, c);
  return out + "'";
}

std::string Bash(std::string_view tool, const std::vector<Completed>& options) {
  std::string all, cases;
  for (const Completed& option : options) {
    all += fmt::format("{}{}", all.empty() ? "" : " ", fmt::join(option.names, " "));
    if (!option.takes_value) continue;
    // `complete -o default` offers files where nothing is offered here.
    std::string action;
    if (!option.words.empty()) action = fmt::format("COMPREPLY=($(compgen -W '{}' -- \"$cur\")); ", option.words);
    if (!option.may_be_file) action += "compopt +o default 2>/dev/null; ";
    cases += fmt::format("    {}) {}return 0 ;;\n", fmt::join(option.names, " | "), action);
  }
  return fmt::format(R"(# bash completion of {0}: {0} --completion bash
_{0}() {{
  local cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD - 1]}}
  # Readline takes --option=value apart.
  if [[ $cur == = ]]; then
    cur=
  elif [[ $prev == = ]]; then
    prev=${{COMP_WORDS[COMP_CWORD - 2]}}
  fi
  COMPREPLY=()
  case $prev in
{1}  esac
  if [[ $cur == -* ]]; then
    COMPREPLY=($(compgen -W '{2}' -- "$cur"))
  fi
}}
complete -o default -F _{0} {0}
)",
                     tool, cases, all);
}

std::string Zsh(std::string_view tool, const std::vector<Completed>& options) {
  std::string specs;
  for (const Completed& option : options) {
    const std::string about = Escaped(option.about, "[]\\:");
    std::string value;
    if (option.takes_value) {
      value = ":value:";
      if (option.words.empty()) {
        value += option.may_be_file ? "_files" : " ";
      } else if (option.may_be_file) {
        value += fmt::format(R"x({{_alternative "words\:word\:({})" "files\:file\:_files"}})x", option.words);
      } else {
        value += fmt::format("({})", option.words);
      }
    }
    for (const std::string& name : option.names) {
      const std::string others = option.is_repeatable ? "*" : fmt::format("({})", fmt::join(option.names, " "));
      const std::string join = !option.takes_value ? "" : name.size() > 2 ? "=" : "+";
      specs += " \\\n    " + Quoted(fmt::format("{}{}{}[{}]{}", others, name, join, about, value), R"('\'')");
    }
  }
  return fmt::format(R"(#compdef {0}
# zsh completion of {0}: {0} --completion zsh
_{0}() {{
  _arguments -s -S{1} \
    '*:file:_files'
}}
if [ "$funcstack[1]" = _{0} ]; then
  _{0} "$@"
else
  compdef _{0} {0}
fi
)",
                     tool, specs);
}

std::string Fish(std::string_view tool, const std::vector<Completed>& options) {
  std::string out = fmt::format("# fish completion of {0}: {0} --completion fish\n", tool);
  for (const Completed& option : options) {
    out += fmt::format("complete -c {}", tool);
    for (const std::string& name : option.names) {
      out += name.size() > 2 ? " -l " + name.substr(2) : " -s " + name.substr(1);
    }
    if (option.takes_value) out += option.may_be_file ? " -r -F" : " -x";
    if (!option.words.empty()) out += " -a " + Quoted(option.words, R"(\')");
    out += " -d " + Quoted(Escaped(option.about, "\\"), R"(\')") + "\n";
  }
  return out;
}

}  // namespace

absl::StatusOr<std::string> CompletionScript(std::string_view tool, const std::vector<OptionInfo>& options,
                                             std::string_view shell) {
  std::vector<Completed> completed;
  for (const OptionInfo& option : options) {
    if (!option.is_argument) completed.push_back(Describe(option));
  }
  if (shell == "bash") return Bash(tool, completed);
  if (shell == "zsh") return Zsh(tool, completed);
  if (shell == "fish") return Fish(tool, completed);
  return Fail(kBadFlag, {}, {}, fmt::format("--completion is bash, zsh or fish, got '{}'", shell));
}

}  // namespace q4
