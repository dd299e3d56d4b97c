// What q4convert --dry-run says of repacking a container. Pure; JSON by docs/schema/convert-plan.schema.json, as of a
// conversion.
#pragma once

#include <string>

#include "libconvert/repack/repack.h"

namespace q4 {

std::string RepackPlanText(const Q4Model& model, const RepackPlan& plan);
std::string RepackPlanJson(const Q4Model& model, const RepackPlan& plan);

}  // namespace q4
