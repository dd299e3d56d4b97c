// The JSON documents of q4verify and q4inspect, as docs/schema/verify.schema.json and inspect.schema.json describe
// them.
#pragma once

#include <string>
#include <vector>

#include "libconvert/inspect.h"
#include "libconvert/inspect_diff.h"
#include "libconvert/verify.h"

namespace q4 {

std::string VerifyReportJson(const VerifyReport& report);

// What to show beyond the summary.
struct InspectDetail {
  std::vector<const InspectTensor*> tensors;  // listed, in this order
  bool list_tensors = false;
  bool stats = false;  // error statistics: of the model, and of each listed tensor
  bool hist = false;   // code usage
  bool files = false;
  std::vector<DumpValue> dump;  // of the one listed tensor
};

std::string InspectReportJson(const InspectReport& report, const InspectDetail& detail);
std::string DiffReportJson(const DiffReport& report);

}  // namespace q4
