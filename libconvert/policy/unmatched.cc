#include "libconvert/policy/unmatched.h"

#include <fmt/format.h>

#include <cstddef>
#include <string>

#include "formats/base/counted.h"
#include "formats/base/status.h"
#include "formats/base/text.h"
#include "libconvert/base/name_pattern.h"
#include "libconvert/base/nearest_parts.h"
#include "libconvert/base/pattern_issues.h"

namespace q4 {
namespace {

// A pattern, and what it asks of the tensors that it matches.
struct Asked {
  std::string where;  // "--exclude", "recipe rule 2"
  NamePattern pattern;
  bool wants_quantized = false;  // they are to be quantized
  bool only_settings = false;    // how they are to be quantized, if they are
};

absl::StatusOr<std::vector<Asked>> AllOf(const PolicyOptions& options) {
  std::vector<Asked> all;
  if (options.recipe) {
    for (std::size_t i = 0; i < options.recipe->rules.size(); ++i) {
      const RecipeRule& rule = options.recipe->rules[i];
      all.push_back({fmt::format("recipe rule {}", i + 1), rule.match, rule.keep && !*rule.keep, !rule.keep});
    }
  }
  for (const PatternRule& rule : options.patterns) {
    const std::string where = rule.include ? "--include" : "--exclude";
    Q4_ASSIGN_OR_RETURN(NamePattern pattern, NamePattern::Parse(rule.regex, where));
    all.push_back({where, std::move(pattern), rule.include, false});
  }
  return all;
}

}  // namespace

absl::StatusOr<std::vector<Note>> CheckPatterns(const std::vector<SourceTensor>& tensors,
                                                const std::vector<Decision>& decisions, const PolicyOptions& options) {
  std::vector<Note> notes;
  if (tensors.empty()) return notes;
  Q4_ASSIGN_OR_RETURN(const std::vector<Asked> all, AllOf(options));
  for (const Asked& asked : all) {
    std::size_t matched = 0, quantized = 0, first = 0;
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      if (!asked.pattern.Matches(tensors[i].name)) continue;
      if (matched++ == 0) first = i;
      quantized += decisions[i].quantize;
    }
    const std::string what = fmt::format("{} '{}'", asked.where, asked.pattern.text()), shown = Printable(what, 400);
    if (matched == 0) {
      const auto name_of = [](const SourceTensor& tensor) -> std::string_view { return tensor.name; };
      // No name has a comma, so that it was to part several.
      const bool list = asked.pattern.text().find(',') != std::string::npos;
      const std::string meant = list ? "; several patterns are joined by '|', not by ','"
                                     : DidYouMeanByParts(asked.pattern.text(), tensors, name_of);
      if (!options.allow_unmatched)
        return Fail(kPatternUnmatched, {}, what, "use --allow-unmatched if that is meant" + meant);
      notes.push_back({false, shown + " matches no tensor" + Printable(meant, 400)});
    } else if (quantized == 0 && (asked.wants_quantized || asked.only_settings)) {
      notes.push_back({true, fmt::format("{} has no effect: of the {} that it matches none is quantized "
                                         "({}: {})",
                                         shown, Counted(matched, "tensor"), Printable(tensors[first].name),
                                         Printable(decisions[first].reason))});
    }
  }
  return notes;
}

}  // namespace q4
