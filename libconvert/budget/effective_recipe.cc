// Names that differ in their first number alone, as those of layers do, share a pattern: "^h\.(?:0|1|7)\.fc\.weight$".
// Experts of a layer are chosen alike: their number is any, where no other tensor has such a name. Patterns are joined
// until a rule is long; each rule is short enough for the bound on compiled patterns (base/name_pattern.cc).
#include "libconvert/budget/effective_recipe.h"

#include <algorithm>
#include <map>
#include <string>
#include <string_view>
#include <utility>

#include "formats/base/status.h"
#include "libconvert/base/name_pattern.h"

namespace q4 {
namespace {

constexpr std::size_t kLongestRule = 2000;  // characters, unless one pattern is longer
constexpr std::size_t kMostNumbers = 256;   // of one pattern

bool IsNumber(std::string_view part) {
  return !part.empty() && std::all_of(part.begin(), part.end(), [](char c) { return c >= '0' && c <= '9'; });
}

// A name with its first number taken out, and the number of an expert masked.
struct NameForm {
  std::string before, number, after;  // as patterns; `number` is "" where there is none
  bool masked = false;
};

NameForm FormOf(std::string_view name, bool mask) {
  NameForm form;
  bool after_experts = false;
  for (std::size_t begin = 0; begin <= name.size();) {
    const std::size_t end = std::min(name.find('.', begin), name.size());
    const std::string_view part = name.substr(begin, end - begin);
    std::string& to = form.number.empty() ? form.before : form.after;
    if (begin != 0) to += "\\.";
    if (mask && after_experts && IsNumber(part)) {
      to += "[0-9]+";
      form.masked = true;
    } else if (form.number.empty() && !after_experts && IsNumber(part)) {
      form.number = part;
    } else {
      to += NamePattern::Quoted(part);
    }
    after_experts = part.ends_with("experts");
    begin = end + 1;
  }
  return form;
}

std::string TextOf(const NameForm& form) { return form.before + form.number + form.after; }

// Patterns for the names of one kind of settings.
class Patterns {
 public:
  void Add(const NameForm& form) {
    const auto [at, is_new] = places_.try_emplace({form.before, form.after, form.number.empty()}, forms_.size());
    if (is_new) forms_.push_back({form.before, form.after, {}});
    if (form.number.empty()) return;
    std::vector<std::string>& numbers = forms_[at->second].numbers;
    if (std::find(numbers.begin(), numbers.end(), form.number) != numbers.end()) return;
    numbers.push_back(form.number);
    if (numbers.size() >= kMostNumbers) places_.erase(at);
  }

  // Whole patterns, each for one rule.
  std::vector<std::string> Joined() const {
    std::vector<std::string> rules;
    std::string text;
    for (const Form& form : forms_) {
      std::string one = form.before;
      if (form.numbers.size() == 1) one += form.numbers.front();
      if (form.numbers.size() > 1) {
        one += "(?:";
        for (std::size_t i = 0; i < form.numbers.size(); ++i) one += (i == 0 ? "" : "|") + form.numbers[i];
        one += ")";
      }
      one += form.after;
      if (!text.empty() && text.size() + one.size() > kLongestRule) rules.push_back(std::exchange(text, {}));
      text += (text.empty() ? "" : "|") + one;
    }
    if (!text.empty()) rules.push_back(text);
    for (std::string& rule : rules) rule = "^(?:" + rule + ")$";
    return rules;
  }

 private:
  struct Form {
    std::string before, after;
    std::vector<std::string> numbers;
  };
  std::map<std::tuple<std::string, std::string, bool>, std::size_t> places_;
  std::vector<Form> forms_;
};

}  // namespace

absl::StatusOr<Recipe> RecipeFor(const Checkpoint& checkpoint, const std::vector<ChosenTensor>& chosen, Recipe recipe) {
  // How many tensors of the model have each masked name; a mask is right where all of them were chosen alike.
  std::map<std::string, std::size_t> masked;
  for (const SourceTensor& tensor : checkpoint.tensors()) {
    if (const NameForm form = FormOf(tensor.name, true); form.masked) ++masked[TextOf(form)];
  }
  std::vector<QuantSettings> kinds;
  std::vector<std::size_t> kind_of;
  for (const ChosenTensor& each : chosen) {
    QuantSettings settings = each.settings;
    if (!settings.quantized()) settings.encoder = Q4Encoder::kNone;
    kind_of.push_back(static_cast<std::size_t>(std::find(kinds.begin(), kinds.end(), settings) - kinds.begin()));
    if (kind_of.back() == kinds.size()) kinds.push_back(settings);
  }
  for (std::size_t kind = 0; kind < kinds.size(); ++kind) {
    std::map<std::string, std::size_t> alike;
    std::vector<std::string_view> names;
    for (std::size_t i = 0; i < chosen.size(); ++i) {
      if (kind_of[i] != kind) continue;
      names.push_back(checkpoint.tensors()[chosen[i].source].name);
      if (const NameForm form = FormOf(names.back(), true); form.masked) ++alike[TextOf(form)];
    }
    Patterns patterns;
    for (const std::string_view name : names) {
      NameForm form = FormOf(name, true);
      if (form.masked && alike[TextOf(form)] != masked[TextOf(form)]) form = FormOf(name, false);
      patterns.Add(form);
    }
    for (const std::string& pattern : patterns.Joined()) {
      Q4_ASSIGN_OR_RETURN(NamePattern match, NamePattern::Parse(pattern, "the chosen recipe"));
      RecipeRule rule{std::move(match), {}, {}, {}, {}, {}, /*chosen=*/true};
      if (kinds[kind].quantized()) {
        rule.scheme = kinds[kind].scheme;
        rule.block_size = kinds[kind].block_size;
        rule.double_quant = kinds[kind].nested;
        rule.encoder = kinds[kind].encoder;
      } else {
        rule.keep = true;
      }
      recipe.rules.push_back(std::move(rule));
    }
  }
  return recipe;
}

}  // namespace q4
