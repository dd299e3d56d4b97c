// An allow list of endings, and of names without one. Only names that are of an allowed kind and mean something else
// all the same, to a loader or to a system, are listed as refused.
#include "formats/q4/file_names.h"

#include <algorithm>

#include "formats/base/text.h"
#include "formats/names/portable_names.h"

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

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

bool IsWordOf(std::string_view words, std::string_view word) {
  return words.find(" " + std::string(word) + " ") != std::string_view::npos;
}

bool MatchesAny(std::string_view patterns, std::string_view lower) {
  return AnyItem(patterns, " ", [lower](std::string_view pattern) { return MatchesWildcards(pattern, lower); });
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
  const std::string lower = LowerCaseName(component);
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

std::string_view Q4FileNameProblem(std::string_view name) {
  const std::string_view problem = FilePathProblem(name);
  return problem.empty() ? KindProblem(name.substr(name.rfind('/') + 1)) : problem;
}

}  // namespace q4
