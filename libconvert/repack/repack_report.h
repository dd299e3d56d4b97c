// What q4convert --dry-run says of repacking a container. Pure; JSON by docs/schema/convert.schema.json, as of a
// conversion.
#pragma once

#include <string>

#include "libconvert/base/bound_of.h"
#include "libconvert/repack/repack.h"

namespace q4 {

// `all`: a line for every tensor and file first. `output`: what a run would write, "" where that was not said.
std::string RepackPlanText(const Q4Model& model, const RepackPlan& plan, bool all, const std::string& output,
                           const BoundOf& bound_of = {});
std::string RepackPlanJson(const Q4Model& model, const RepackPlan& plan, const std::string& output,
                           const BoundOf& bound_of = {});

}  // namespace q4
