// The sections of the HTML report, each a function from the verification to markup, "" when there is nothing to show.
// html.cc puts the summary, the navigation and kSections under each other. Internal to libconvert/report/.
//
// A new section is a function, in a file of its own, and a row of kSections. Functions are pure; the same verification
// gives the same bytes.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "libconvert/judge/verify_report.h"

namespace q4::html {

// Verdict, key figures, what was compared. Always there, and above the navigation, hence no row of kSections.
std::string SummarySection(const VerifyReport& report);
// The tensors of TensorsSection for page.js, as one JSON document: {"books": values by code, "fields": names,
// "tensors": an array per tensor, its values in the order of "fields"}. Tensors are in the order of the report. '<' is
// escaped in it.
std::string TensorData(const VerifyReport& report);

// What is wrong and is no broken gate.
std::string ProblemsSection(const VerifyReport& report);
// Broken gates, then a line per rule with the subject nearest to its limit.
std::string GatesSection(const VerifyReport& report);
// What the model computes, by q4.evaluate, and the layers whose outputs are farthest off.
std::string EvaluationSection(const VerifyReport& report);
// SQNR by layer, a series per role, as a plot and as a table. "" for models whose names have no layers.
std::string LayersSection(const VerifyReport& report);
// Error figures of what a tensor does in its layer, all layers together.
std::string RolesSection(const VerifyReport& report);
// The tensors and the blocks that lost most.
std::string WorstSection(const VerifyReport& report);
// A row per tensor, which page.js makes sortable and searchable.
std::string TensorsSection(const VerifyReport& report);
// How often each code is used, a plot for each code book that the model has.
std::string CodesSection(const VerifyReport& report);
// How the scales are spread.
std::string ScalesSection(const VerifyReport& report);
// Where the container came from and what made it.
std::string ProvenanceSection(const VerifyReport& report);

// One section of the page.
struct SectionRow {
  std::string_view id;     // of the <section> that `markup` returns
  std::string_view title;  // of the link to it
  std::uint8_t link;       // its link's place in the navigation; each number once
  std::string (*markup)(const VerifyReport& report);
};

// In the order of the page. The link to the long table of tensors comes behind those to the plots that follow it.
inline constexpr SectionRow kSections[] = {
    {"problems", "Problems", 1, ProblemsSection},
    {"gates", "Gates", 2, GatesSection},
    {"evaluation", "Evaluation", 3, EvaluationSection},
    {"layers", "Layers", 4, LayersSection},
    {"roles", "Roles", 5, RolesSection},
    {"worst", "Worst", 6, WorstSection},
    {"tensors", "Tensors", 9, TensorsSection},
    {"codes", "Codes", 7, CodesSection},
    {"scales", "Scales", 8, ScalesSection},
    {"provenance", "Provenance", 10, ProvenanceSection},
};

}  // namespace q4::html
