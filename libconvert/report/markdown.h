// The verification as GitHub-flavoured Markdown, for a comment on a pull request: verdict, summary, what broke, worst
// tensors, roles, and the provenance folded away.
//
// Everything that comes from a file stands in a code span, where neither HTML, links, mentions nor table cells have a
// meaning. The text has at most kMarkdownBytes bytes whatever the model: a comment may have 65,536 characters. Lists
// that are cut say how many entries they leave out.
#pragma once

#include <cstddef>
#include <string>

#include "libconvert/judge/verify_report.h"

namespace q4 {

std::string VerifyReportMarkdown(const VerifyReport& report);
inline constexpr std::size_t kMarkdownBytes = 60'000;

}  // namespace q4
