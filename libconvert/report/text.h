// The report of q4verify for people: plain text, names escaped.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "libconvert/base/text_style.h"
#include "libconvert/judge/verify_report.h"

namespace q4 {

// The summary, in lines that end in a line feed. Findings are not part of it: they are error lines.
std::string VerifyReportText(const VerifyReport& report, const TextStyle& style = {});

// What a tool prints of the findings on stderr, without line feeds: a line for each of the first ten, or of all that
// are listed, and one that counts the others. `finding_count` counts all of them.
inline constexpr std::size_t kShownFindings = 10;
std::vector<std::string> FindingLines(const std::vector<VerifyFinding>& findings, std::uint64_t finding_count,
                                      bool all = false);

}  // namespace q4
