// The list of what a lint found. Internal to libconvert/lint/.
//
// Rules are checked tensor by tensor, but a person reads rule by rule; this is where one order becomes the other.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <utility>

#include "formats/base/text.h"
#include "libconvert/lint/lint.h"

namespace q4 {

// Keeps the first kMaxLintFindingsPerRule findings of each rule and counts all, so that a checkpoint with one fault in
// every tensor gives a report that can be read. Not thread-safe.
class LintFindings {
 public:
  // Faults that are added from here on lie in this folder of the model, "" for the model's own: `where` begins with it.
  void Enter(std::string_view folder) { folder_ = folder; }
  // Notes one fault. `rule` lives as long as the program, the texts are copied; `where` as in LintFinding. `detail` may
  // hold names, which are escaped here; a message of a reader has its own escaped already.
  void Add(const LintRule& rule, std::string_view where, std::string_view detail = {});
  void Add(const LintRule& rule, std::string_view where, Shown message);
  // Whether there was none, in no folder.
  bool empty() const { return by_number_.empty(); }
  // Appends the findings in the order of their rules' numbers and adds to the two counts. Call it once, at the end; the
  // object is of no use afterwards.
  void MoveTo(LintReport* report);

 private:
  struct OfRule {
    std::vector<LintFinding> kept;
    std::uint64_t count = 0;  // all, the kept ones included
  };
  std::map<int, OfRule> by_number_;  // by Issue::number
  std::string folder_;
};

}  // namespace q4
