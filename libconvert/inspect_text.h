// The reports of q4inspect for people: plain text, aligned tables, names escaped.
#pragma once

#include <string>
#include <vector>

#include "libconvert/inspect.h"
#include "libconvert/inspect_diff.h"

namespace q4 {

// The summary in one screen, or what `detail` asks for.
std::string InspectReportText(const InspectReport& report, const InspectDetail& detail);

// `tensor` in depth: how it is stored, where it lies, how large its error is, which codes it uses.
std::string InspectTensorText(const InspectTensor& tensor);
std::string DumpText(const std::vector<DumpValue>& dump);
std::string DiffReportText(const DiffReport& report);

}  // namespace q4
