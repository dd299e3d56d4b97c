// The reports of q4inspect for people: aligned tables, names escaped; drawn as `style` says.
#pragma once

#include <string>
#include <vector>

#include "libconvert/base/text_style.h"
#include "libconvert/inspect/diff.h"
#include "libconvert/inspect/inspect.h"

namespace q4 {

// The summary in one screen, or what `detail` asks for.
std::string InspectReportText(const InspectReport& report, const InspectDetail& detail, const TextStyle& style = {});

// `tensor` in depth: how it is stored, where it lies, how large its error is, which codes it uses.
std::string InspectTensorText(const InspectTensor& tensor, const TextStyle& style = {});
std::string DumpText(const std::vector<DumpValue>& dump);
std::string DiffReportText(const DiffReport& report);

}  // namespace q4
