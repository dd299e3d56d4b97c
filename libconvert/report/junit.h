// The verification as JUnit XML, for the test views of GitHub Actions, GitLab and Jenkins.
//
// Three suites: "integrity" and "comparison" (only with a source) have one test case per tensor and one for what
// belongs to none; "gates" has one per threshold and subject. A tensor that was not compared is a skipped case. There
// is no time stamp and no duration: the same verification gives the same bytes.
#pragma once

#include <string>

#include "libconvert/judge/verify_report.h"

namespace q4 {

std::string VerifyReportJunit(const VerifyReport& report);

}  // namespace q4
