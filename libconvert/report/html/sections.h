// The sections of the HTML report, each a function from the verification to markup; "" when there is nothing to show.
// Internal to report_html; libconvert/report/html.cc puts them in order.
#pragma once

#include <string>

#include "libconvert/judge/verify_report.h"

namespace q4::html {

// Verdict, key figures, what was compared.
std::string SummarySection(const VerifyReport& report);
// What is wrong and is no broken gate.
std::string ProblemsSection(const VerifyReport& report);
// Broken gates, then a line per rule with the subject nearest to its limit.
std::string GatesSection(const VerifyReport& report);
// SQNR by layer, a series per role.
std::string LayersSection(const VerifyReport& report);
// A row per tensor, which page.js makes sortable and searchable.
std::string TensorsSection(const VerifyReport& report);
// The same tensors for page.js, as one JSON document.
std::string TensorData(const VerifyReport& report);
// How often each code is used, and how the scales are spread.
std::string CodesSection(const VerifyReport& report);
std::string ScalesSection(const VerifyReport& report);
std::string WorstSection(const VerifyReport& report);
std::string RolesSection(const VerifyReport& report);
std::string ProvenanceSection(const VerifyReport& report);

}  // namespace q4::html
