// The JSON document of q4verify, as docs/schema/verify.schema.json describes it.
#pragma once

#include <string>

#include "libconvert/judge/verify_report.h"

namespace q4 {

std::string VerifyReportJson(const VerifyReport& report);

}  // namespace q4
