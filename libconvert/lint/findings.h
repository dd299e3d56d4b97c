// The list of what a lint found. Internal to libconvert/lint*.cc.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <utility>

#include "libconvert/lint/lint.h"
#include "libconvert/lint/lint_issues.h"

namespace q4 {

// Not thread-safe.
class LintFindings {
 public:
  void Add(const Issue& issue, std::string_view where, std::string_view detail = {});
  // Findings in the order of LintRules(), and the two counts.
  void MoveTo(LintReport* report);

 private:
  struct OfRule {
    std::vector<LintFinding> kept;
    std::uint64_t count = 0;
  };
  std::map<int, OfRule> by_number_;  // issue numbers ascend as the rules do
};

}  // namespace q4
