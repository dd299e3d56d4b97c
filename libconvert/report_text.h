// The reports of q4verify and q4inspect for people: plain text, aligned tables, names escaped. The same in a terminal,
// a pipe and a log.
#pragma once

#include <string>

#include "libconvert/inspect.h"
#include "libconvert/inspect_diff.h"
#include "libconvert/report_json.h"
#include "libconvert/verify.h"

namespace q4 {

// The summary; findings are error lines and not part of it.
std::string VerifyReportText(const VerifyReport& report);

// The summary in one screen, or what `detail` asks for.
std::string InspectReportText(const InspectReport& report, const InspectDetail& detail);

// `tensor` in depth: how it is stored, where it lies, how large its error is, which codes it uses.
std::string InspectTensorText(const InspectTensor& tensor);
std::string DumpText(const std::vector<DumpValue>& dump);
std::string DiffReportText(const DiffReport& report);

}  // namespace q4
