// The reports of q4inspect for people: aligned tables, names escaped, drawn as `style` says (color, Unicode, width).
// Pure: all of them return text and read nothing. json.h has the same values for scripts.
#pragma once

#include <string>
#include <vector>

#include "libconvert/base/text_style.h"
#include "libconvert/inspect/diff.h"
#include "libconvert/inspect/inspect.h"

namespace q4 {

// The summary in one screen, or what `detail` asks for instead of it: tree, tensors, statistics, code usage, scales,
// files, in this order.
std::string InspectReportText(const InspectReport& report, const InspectDetail& detail, const TextStyle& style = {});

// `tensor` in depth: how it is stored, where it lies, its scales if `detail` has them and, if statistics are recorded,
// how large its error is and which codes it uses.
std::string InspectTensorText(const InspectTensor& tensor, const InspectDetail& detail = {},
                              const TextStyle& style = {});
// A table of dumped elements, with code and scale if the tensor is quantized. `dump` is what DumpTensor() returned.
std::string DumpText(const std::vector<DumpValue>& dump);
// What differs in all: counts with the verdict, sizes, the errors against the source, what changed how often. Then the
// differences, one line or two each, with "-", "+" and "~" for what went, came and changed: `all`, or of changed
// tensors the five whose values are furthest apart and of others the first five.
std::string DiffReportText(const DiffReport& report, bool all = true);

}  // namespace q4
