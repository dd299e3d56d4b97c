// Holds the statistics of a report against gates.
#pragma once

#include <string>
#include <vector>

#include "libconvert/judge/gate.h"
#include "libconvert/judge/verify_findings.h"
#include "libconvert/judge/verify_report.h"

namespace q4 {

// Appends a verdict to `report->gates` for every limit of every subject, and a finding for every breach: exit code 6,
// naming subject, rule, statistic, what it is and what it may be. Also found wrong: a tensor to be judged that has no
// statistics, and a rule that matches nothing unless it is `optional`, because a gate that tests nothing lets
// everything pass. Each gate judges for itself, so that a file cannot lift a flag. REQUIRES: `report` has tensors,
// groups and model. `findings` may already hold others; `gates` must outlive the call only.
void JudgeGates(const std::vector<Gate>& gates, FindingList* findings, VerifyReport* report);

// What the plan of a conversion to `path` shows already, one index per shard: a finding for every rule that can match
// nothing (kGateMatchesNothing), so that a gate which tests nothing fails before the work and not after it. Data can
// only take subjects away, never add one.
VerifyReport JudgePlan(const std::vector<Gate>& gates, const std::vector<const Q4Index*>& shards,
                       const std::string& path);

// The same of containers that were just written to `path`, one index per shard: findings and verdicts of the whole
// model on its recorded statistics.
VerifyReport JudgeConversion(const std::vector<Gate>& gates, const std::vector<const Q4Index*>& shards,
                             const std::string& path);

}  // namespace q4
