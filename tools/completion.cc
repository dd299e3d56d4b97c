// One description of each option, three writers. What a value is, the parser's name of it tells, which --help shows.
#include "tools/completion.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "fmt/format.h"
#include "tools/usage_issues.h"

namespace q4 {
namespace {

// What the parser calls a value that is a file or a folder. It calls others by a word of their own (N, RE, OWNER/NAME),
// or by the words that they may be: "FILE|default", "none|zstd[:LEVEL]", and "{a,b}" where there are no others.
constexpr std::string_view kFiles[] = {"FILE", "DIR", "OUTPUT", "SOURCE", "OTHER"};

struct Completed {
  std::vector<std::string> names;
  std::string about;  // its line of help
  std::string words;  // what the value may be, separated by spaces; "" for none
  bool takes_value = false, may_be_file = false, is_repeatable = false;
};

bool IsLowerCase(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) { return c >= 'a' && c <= 'z'; });
}

Completed Describe(const OptionInfo& option) {
  Completed out{option.names, option.about, {}, option.takes_value, false, option.is_repeatable};
  const std::string_view kind = option.kind;
  const std::size_t begin = kind.find('{'), end = kind.rfind('}');
  if (begin < end && end != std::string_view::npos) {
    out.words = kind.substr(begin + 1, end - begin - 1);
    std::replace(out.words.begin(), out.words.end(), ',', ' ');
    return out;
  }
  const bool is_choice = kind.find('|') != std::string_view::npos;
  for (std::size_t from = 0; from <= kind.size();) {
    const std::size_t to = std::min(kind.find('|', from), kind.size());
    // Behind a colon is how it is checked ("N:COUNT"), or what may follow, as in brackets.
    const std::string_view word = kind.substr(from, std::min(kind.find_first_of(":[", from), to) - from);
    from = to + 1;
    if (std::find(std::begin(kFiles), std::end(kFiles), word) != std::end(kFiles)) out.may_be_file = true;
    // "cuda" and "cuda:N" are one word.
    const bool is_new = (" " + out.words + " ").find(fmt::format(" {} ", word)) == std::string::npos;
    if (is_choice && is_new && IsLowerCase(word)) out.words += (out.words.empty() ? "" : " ") + std::string(word);
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
