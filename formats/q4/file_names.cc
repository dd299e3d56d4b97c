// Everything is an allow list: characters, endings, names without an ending. Only names that are of an allowed kind and
// mean something else all the same, to a loader or to a system, are listed as refused.
#include "formats/q4/file_names.h"

#include <algorithm>

#include "fmt/format.h"
#include "formats/base/limits.h"
#include "formats/base/text.h"

namespace q4 {
namespace {

// F5.5. In lower case; a space on both sides of each, so that one search finds a whole word.
constexpr std::string_view kEndings =
    " bpe cff cfg codes conf dict ini jinja jinja2 json json5 md merges model pdf rst rtf spm tiktoken tokenizer toml "
    "txt vocab yaml yml ";

// Names in lower case that may have no ending, or one of digits only ("LICENSE-2.0"). In the order of docs/format.md.
constexpr std::string_view kBare =
    "license* licence* *-license* *_license* copying* copyright* notice* eula* use_policy* usage_policy* "
    "acceptable_use* readme* modelcard* model_card* authors* citation* changelog* tokenizer* vocab* merges*";

// F5.6: of an allowed kind, and yet not what lies beside a model for reading.
struct Refused {
  std::string_view patterns;  // of the last component in lower case
  std::string_view why;
};
constexpr Refused kRefused[] = {
    {"*.index.*", "is an index of weights"},
    {"adapter_config.json", "would make loaders add an adapter, or load another model"},
    {"model_index.json modular_model_index.json", "would make loaders assemble a pipeline of other models"},
    {"q4_export.json", "is a file of q4's own"},
    {"desktop.ini", "is read by systems that show the folder"},
};

// F5.4: device names of Windows, which no ending makes into files.
constexpr std::string_view kDevices = " con prn aux nul ";

char LowerOf(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

std::string LowerCase(std::string_view text) {
  std::string lower(text);
  std::transform(lower.begin(), lower.end(), lower.begin(), LowerOf);
  return lower;
}

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

bool IsNameCharacter(char c) {
  const char lower = LowerOf(c);
  return (lower >= 'a' && lower <= 'z') || IsDigit(c) ||
         std::string_view(" ()+,-.=@_").find(c) != std::string_view::npos;
}

bool IsWordOf(std::string_view words, std::string_view word) {
  return words.find(" " + std::string(word) + " ") != std::string_view::npos;
}

bool MatchesAny(std::string_view patterns, std::string_view lower) {
  return AnyItem(patterns, " ", [lower](std::string_view pattern) { return MatchesWildcards(pattern, lower); });
}

// COM0 to COM9, LPT0 to LPT9 and the others, by what stands before the first dot.
bool IsDevice(std::string_view lower) {
  std::string_view stem = lower.substr(0, lower.find('.'));
  while (stem.ends_with(' ')) stem.remove_suffix(1);
  if (IsWordOf(kDevices, stem)) return true;
  return stem.size() == 4 && (stem.starts_with("com") || stem.starts_with("lpt")) && IsDigit(stem[3]);
}

// What file and folder have in common.
std::string_view ComponentProblem(std::string_view component) {
  if (component.empty()) return "a component is empty";
  if (component.size() > limits::kFileNameBytes) return "a component is too long";
  if (!std::all_of(component.begin(), component.end(), IsNameCharacter)) {
    return "a character is not one of letters, digits, space and ( ) + , - . = @ _";
  }
  if (component.front() == '.') return "a component begins with a dot";
  if (component.front() == '-' || component.front() == ' ') return "a component begins with a hyphen or space";
  if (component.back() == '.' || component.back() == ' ') return "a component ends in a dot or space";
  if (IsDevice(LowerCase(component))) return "a component is a device on some systems";
  return {};
}

// Of a SentencePiece model as its makers number it: "v3", "v7m1". Not "vbs".
bool IsModelVersion(std::string_view ending) {
  const auto take_digits = [&ending] {
    const std::size_t digits = std::min(ending.find_first_not_of("0123456789"), ending.size());
    ending.remove_prefix(digits);
    return digits != 0;
  };
  if (!ending.starts_with('v')) return false;
  ending.remove_prefix(1);
  if (!take_digits()) return false;
  if (ending.empty()) return true;
  if (!ending.starts_with('m')) return false;
  ending.remove_prefix(1);
  return take_digits() && ending.empty();
}

std::string_view KindProblem(std::string_view component) {
  const std::string lower = LowerCase(component);
  for (const Refused& refused : kRefused) {
    if (MatchesAny(refused.patterns, lower)) return refused.why;
  }
  const std::size_t dot = lower.rfind('.');
  const std::string_view stem = std::string_view(lower).substr(0, dot);
  // Never empty where there is a dot, for no component ends in one.
  const std::string_view ending =
      dot == std::string::npos ? std::string_view() : std::string_view(lower).substr(dot + 1);
  if (!ending.empty() && IsWordOf(kEndings, ending)) return {};
  if (stem.ends_with(".model") && IsModelVersion(ending)) return {};
  if (std::all_of(ending.begin(), ending.end(), IsDigit) && MatchesAny(kBare, lower)) return {};
  return "its ending is none of a configuration, tokenizer, template or document";
}

}  // namespace

std::string_view Q4FolderNameProblem(std::string_view name) {
  if (name.size() > limits::kFilePathBytes) return "it is too long";
  if (std::count(name.begin(), name.end(), '/') + 2 > limits::kFilePathDepth) return "it is too deep";
  std::string_view problem;
  std::string_view rest = name;
  while (true) {
    const std::size_t slash = rest.find('/');
    const std::string_view component = rest.substr(0, slash);
    problem = ComponentProblem(component);
    // What is named as files are would stand in the way of one: a folder "config.json" or "model.safetensors".
    if (problem.empty() && component.find('.') != std::string_view::npos) problem = "a folder has a dot in its name";
    if (!problem.empty() || slash == std::string_view::npos) return problem;
    rest.remove_prefix(slash + 1);
  }
}

std::string_view Q4FilePathProblem(std::string_view name) {
  if (name.size() > limits::kFilePathBytes) return "it is too long";
  const std::size_t slash = name.rfind('/');
  std::string_view problem;
  if (slash != std::string_view::npos) problem = Q4FolderNameProblem(name.substr(0, slash));
  return problem.empty() ? ComponentProblem(name.substr(slash + 1)) : problem;  // npos + 1 is 0
}

std::string_view Q4FileNameProblem(std::string_view name) {
  const std::string_view problem = Q4FilePathProblem(name);
  return problem.empty() ? KindProblem(name.substr(name.rfind('/') + 1)) : problem;
}

std::string Q4FileNames::Add(std::string_view name) {
  const std::string lower = LowerCase(name);
  for (std::size_t end = lower.find('/'); end != std::string::npos; end = lower.find('/', end + 1)) {
    const auto at = entries_.find(std::string_view(lower).substr(0, end));
    if (at == entries_.end()) continue;
    if (at->second.is_file) return fmt::format("'{}' is a file", at->second.spelling);
    if (at->second.spelling != name.substr(0, end)) {
      return fmt::format("'{}' differs only in case", at->second.spelling);
    }
  }
  if (const auto at = entries_.find(lower); at != entries_.end()) {
    if (!at->second.is_file) return fmt::format("'{}' is a folder", at->second.spelling);
    if (at->second.spelling == name) return "it comes twice";
    return fmt::format("'{}' differs only in case", at->second.spelling);
  }
  for (std::size_t end = lower.find('/'); end != std::string::npos; end = lower.find('/', end + 1)) {
    entries_.try_emplace(lower.substr(0, end), Entry{std::string(name.substr(0, end)), false});
  }
  entries_.emplace(lower, Entry{std::string(name), true});
  return {};
}

}  // namespace q4
