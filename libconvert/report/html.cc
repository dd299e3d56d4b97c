// Puts the page together. Sections are rendered first, because the navigation has links to those alone that are not
// empty.
//
// The script stands at the end of the body, after the table and the data that it reads, so that it needs no load event.
// The page asks for no other file and works as a mail attachment or a build artifact; where scripts are forbidden it
// lacks only search, sorting and what opens on demand.
#include "libconvert/report/html.h"

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/string_view.h"
#include "fmt/format.h"
#include "formats/base/digest.h"
#include "libconvert/report/html/markup.h"
#include "libconvert/report/html/page_assets.h"
#include "libconvert/report/html/sections.h"

namespace q4 {
namespace {

// The hash by which a Content-Security-Policy allows one inline style or script. Names and messages of the report are
// escaped in any case; should one slip through, a browser still runs no script whose digest is not here. The digest
// covers exactly the bytes between the tags, so nothing may be put around them.
std::string PolicyDigest(std::string_view text) {
  const Sha256 digest = Sha256Of(std::span(reinterpret_cast<const std::uint8_t*>(text.data()), text.size()));
  return "'sha256-" +
         absl::Base64Escape(absl::string_view(reinterpret_cast<const char*>(digest.data()), digest.size())) + "'";
}

std::string Head(const VerifyReport& report) {
  const std::string style = std::string(html::kPageCss) + html::TensorColumnsStyle(report);
  // The title tells reports apart in tabs, histories and on paper, and two models of one file name by their seals.
  return fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta name=\"generator\" content=\"q4verify\">\n"  // known by this
      "<meta charset=\"utf-8\">\n"
      "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src {}; script-src {}; img-src "
      "data:; "
      "base-uri 'none'; form-action 'none'\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
      "<meta name=\"color-scheme\" content=\"light dark\">\n<meta name=\"referrer\" content=\"no-referrer\">\n"
      "<link rel=\"icon\" href=\"data:,\">\n"  // or browsers ask the server for one
      "<title>{} {}: {}</title>\n<style>{}</style>\n</head>\n",
      PolicyDigest(style), PolicyDigest(html::kPageJs), html::Text(report.path), html::ShortSeal(report),
      report.passed() ? "passed" : "failed", style);
}

// Links to those of the sections that the page has, in its order.
std::string Navigation(const std::vector<const html::SectionRow*>& shown) {
  std::string links;
  for (const html::SectionRow* row : shown) links += fmt::format("<a href=\"#{}\">{}</a>\n", row->id, row->title);
  return "<nav aria-label=\"Sections\">\n" + links + "</nav>\n";
}

}  // namespace

std::string VerifyReportHtml(const VerifyReport& report) {
  std::string content;
  std::vector<const html::SectionRow*> shown;
  for (const html::SectionRow& row : html::kSections) {
    const std::string markup = row.markup(report);
    if (!markup.empty()) shown.push_back(&row);
    content += markup;
  }
  // TensorData() escapes '<', so no name in it can end the block of JSON.
  return Head(report) + "<body>\n<main>\n" + html::SummarySection(report) + Navigation(shown) + content + "</main>\n" +
         "<script type=\"application/json\" id=\"data\">" + html::TensorData(report) + "</script>\n<script>" +
         std::string(html::kPageJs) + "</script>\n</body>\n</html>\n";
}

}  // namespace q4
