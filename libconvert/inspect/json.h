// The JSON documents of q4inspect, as docs/schema/inspect.schema.json describes them. For scripts: numbers are exact,
// names stand as they are in the files, in JSON's escapes. text.h makes the reports for people of the same values.
#pragma once

#include <string>

#include "libconvert/inspect/diff.h"
#include "libconvert/inspect/inspect.h"

namespace q4 {

// The report as a document of kind "q4inspect-report". The summary is always complete; `detail` adds tensors, their
// statistics, files and dumped elements. Ends with a line feed.
std::string InspectReportJson(const InspectReport& report, const InspectDetail& detail);
// The comparison as a document of kind "q4inspect-diff". Ends with a line feed.
std::string DiffReportJson(const DiffReport& report);

}  // namespace q4
