// The list of what a lint found. Internal to libconvert/lint/.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <utility>

#include "libconvert/lint/lint.h"

namespace q4 {

// Keeps the first kMaxLintFindingsPerRule findings of each rule and counts all, so that a checkpoint with one fault in
// every tensor gives a report that can be read. Not thread-safe.
class LintFindings {
 public:
  // `rule` lives as long as the program. `where` and `detail` as in LintFinding.
  void Add(const LintRule& rule, std::string_view where, std::string_view detail = {});
  // Findings in the order of their rules' numbers, and the two counts.
  void MoveTo(LintReport* report);

 private:
  struct OfRule {
    std::vector<LintFinding> kept;
    std::uint64_t count = 0;
  };
  std::map<int, OfRule> by_number_;
};

}  // namespace q4
