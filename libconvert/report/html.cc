#include "libconvert/report/html.h"

#include <array>
#include <cstdint>
#include <span>
#include <string_view>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/string_view.h"
#include "fmt/format.h"
#include "formats/base/digest.h"
#include "libconvert/report/html/markup.h"
#include "libconvert/report/html/page_assets.h"
#include "libconvert/report/html/sections.h"

namespace q4 {
namespace {

// What a Content-Security-Policy names an inline style or script by.
std::string PolicyDigest(std::string_view text) {
  const Sha256 digest = Sha256Of(std::span(reinterpret_cast<const std::uint8_t*>(text.data()), text.size()));
  return "'sha256-" +
         absl::Base64Escape(absl::string_view(reinterpret_cast<const char*>(digest.data()), digest.size())) + "'";
}

std::string Head(const VerifyReport& report) {
  return fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src {}; script-src {}; img-src "
      "data:; "
      "base-uri 'none'; form-action 'none'\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
      "<meta name=\"color-scheme\" content=\"light dark\">\n<meta name=\"referrer\" content=\"no-referrer\">\n"
      "<link rel=\"icon\" href=\"data:,\">\n"  // or browsers ask the server for one
      "<title>{}: {}</title>\n<style>{}</style>\n</head>\n",
      PolicyDigest(html::kPageCss), PolicyDigest(html::kPageJs), html::Text(report.path),
      report.passed() ? "passed" : "failed", html::kPageCss);
}

// Links to those of the sections that the page has.
std::string Navigation(std::string_view content) {
  static constexpr std::array<std::pair<const char*, const char*>, 9> kSections{{{"problems", "Problems"},
                                                                                 {"gates", "Gates"},
                                                                                 {"layers", "Layers"},
                                                                                 {"roles", "Roles"},
                                                                                 {"worst", "Worst"},
                                                                                 {"codes", "Codes"},
                                                                                 {"scales", "Scales"},
                                                                                 {"tensors", "Tensors"},
                                                                                 {"provenance", "Provenance"}}};
  std::string links;
  for (const auto& [id, title] : kSections) {
    if (content.find(fmt::format("<section id=\"{}\"", id)) == std::string_view::npos) continue;
    links += fmt::format("<a href=\"#{}\">{}</a>\n", id, title);
  }
  return "<nav aria-label=\"Sections\">\n" + links + "</nav>\n";
}

}  // namespace

std::string VerifyReportHtml(const VerifyReport& report) {
  const std::string content = html::ProblemsSection(report) + html::GatesSection(report) + html::LayersSection(report) +
                              html::RolesSection(report) + html::WorstSection(report) + html::TensorsSection(report) +
                              html::CodesSection(report) + html::ScalesSection(report) +
                              html::ProvenanceSection(report);
  return Head(report) + "<body>\n<main>\n" + html::SummarySection(report) + Navigation(content) + content +
         "</main>\n" + "<script type=\"application/json\" id=\"data\">" + html::TensorData(report) +
         "</script>\n<script>" + std::string(html::kPageJs) + "</script>\n</body>\n</html>\n";
}

}  // namespace q4
