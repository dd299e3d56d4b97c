// The sections of the HTML report, each a function from the verification to markup, "" when there is nothing to show.
// html.cc puts the summary, the navigation and kSections under each other. Internal to libconvert/report/.
//
// A new section is a function, in a file of its own, and a row of kSections. Functions are pure; the same verification
// gives the same bytes.
#pragma once

#include <string>
#include <string_view>

#include "libconvert/judge/verify_report.h"

namespace q4::html {

// What the model is, what was saved, whether it may be deployed, key figures. Always there, and above the navigation,
// hence no row of kSections.
std::string SummarySection(const VerifyReport& report);
// The first twelve digits of the seal, by which people tell two reports apart; provenance has all.
std::string ShortSeal(const VerifyReport& report);
// The tensors of TensorsSection for page.js, as one JSON document: {"books": values by code, "fields": names,
// "tensors": an array per tensor, its values in the order of "fields"}. Tensors are in the order of the report. '<' is
// escaped in it.
std::string TensorData(const VerifyReport& report);

// All that is wrong, worst first: damage, then what is not the source's, then broken gates.
std::string ProblemsSection(const VerifyReport& report);
// A line per rule with the subject nearest to its limit.
std::string GatesSection(const VerifyReport& report);
// What the verdict rests on, check by check.
std::string ChecksSection(const VerifyReport& report);
// What the model computes, by q4.evaluate, and the layers whose outputs are farthest off.
std::string EvaluationSection(const VerifyReport& report);
// SQNR by layer, a series per role, as a plot and as a table. "" for models whose names have no layers.
std::string LayersSection(const VerifyReport& report);
// Error figures of what a tensor does in its layer, all layers together, worst first.
std::string RolesSection(const VerifyReport& report);
// A row per tensor, worst first, which page.js makes sortable and searchable.
std::string TensorsSection(const VerifyReport& report);
// The headings of its columns as a style, for windows where its rows are cards: attributes would be most of the bytes.
std::string TensorColumnsStyle(const VerifyReport& report);
// The blocks that lost most.
std::string BlocksSection(const VerifyReport& report);
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
  std::string (*markup)(const VerifyReport& report);
};

// In the order of the page and of its navigation.
inline constexpr SectionRow kSections[] = {
    {"problems", "Broken", ProblemsSection},
    {"gates", "Gates", GatesSection},
    {"checks", "Checks", ChecksSection},
    {"evaluation", "Evaluation", EvaluationSection},
    {"layers", "Layers", LayersSection},
    {"roles", "Roles", RolesSection},
    {"tensors", "Tensors", TensorsSection},
    {"blocks", "Blocks", BlocksSection},
    {"codes", "Codes", CodesSection},
    {"scales", "Scales", ScalesSection},
    {"provenance", "Provenance", ProvenanceSection},
};

}  // namespace q4::html
