// How the scales of a tensor are spread (VerifyReport), gathered chunk by chunk in any order.
#pragma once

#include <span>

#include "libconvert/verify_report.h"

namespace q4 {

// Adds decoded scales. REQUIRES: all are finite.
void AddScales(std::span<const float> scales, ScaleSpread* spread);

void AddSpread(const ScaleSpread& from, ScaleSpread* to);

}  // namespace q4
