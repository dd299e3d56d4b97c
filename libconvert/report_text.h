// The report of q4verify for people: plain text, names escaped. The same in a terminal, a pipe and a log.
#pragma once

#include <string>

#include "libconvert/verify_report.h"

namespace q4 {

// The summary; findings are error lines and not part of it.
std::string VerifyReportText(const VerifyReport& report);

}  // namespace q4
