// The verification as one HTML page for people: verdict and key figures, gates, error by layer, a sortable and
// searchable table of all tensors, code and scale histograms, worst blocks, provenance.
//
// The page is self-contained. It loads nothing, and its Content-Security-Policy forbids it to: only the style and the
// script that it carries, known by their digests, take effect. Without JavaScript it is complete but for what opens on
// demand. The same verification gives the same bytes. docs/q4verify.md shows it.
#pragma once

#include <string>

#include "libconvert/judge/verify_report.h"

namespace q4 {

std::string VerifyReportHtml(const VerifyReport& report);

}  // namespace q4
