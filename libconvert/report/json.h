// The verification as a JSON document for programs, as docs/schema/verify.schema.json describes it. It rounds nothing
// and has every tensor with all figures; `q4verify --baseline` reads it back.
#pragma once

#include <string>

#include "formats/base/json_value.h"
#include "libconvert/judge/verify_report.h"

namespace q4 {

// A verdict and a finding, as every report of a tool has them.
Json VerdictJson(const GateVerdict& verdict);
Json FindingJson(const VerifyFinding& finding);

// The whole document, with a final line feed. Numbers that JSON cannot hold (infinity, NaN) are null, and so are texts
// that nobody stated. The provenance of the container is a part of the document, or null if it is no JSON. The same
// verification gives the same bytes.
std::string VerifyReportJson(const VerifyReport& report);

}  // namespace q4
