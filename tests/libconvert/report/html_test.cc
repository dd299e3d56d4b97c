// What the markup must and must not hold; tests/python/html_report_check.py opens it in a browser.
#include "libconvert/report/html.h"

#include <limits>
#include <string>

#include "formats/base/json_value.h"
#include "libconvert/report/html/sections.h"
#include "tests/libconvert/report/sample.h"
#include "tests/support/catch.h"
#include "tests/support/must.h"
#include "tests/support/text.h"

namespace q4 {
namespace {

using test::ContainsSubstring;
using test::Count;

std::string Between(const std::string& text, const std::string& begin, const std::string& end) {
  const std::size_t from = text.find(begin);
  REQUIRE(from != std::string::npos);
  const std::size_t to = text.find(end, from + begin.size());
  REQUIRE(to != std::string::npos);
  return text.substr(from + begin.size(), to - from - begin.size());
}

Json DataOf(const std::string& page) {
  return test::Must(ParseJson(Between(page, "id=\"data\">", "</script>"), "data", 10));
}

TEST_CASE("HTML: a section for everything there is to show, and none for what there is not") {
  VerifyReport report = test::SampleReport(3);
  test::AddGates(1, &report);
  test::AddProblems(&report);
  std::string page = VerifyReportHtml(report);
  for (const html::SectionRow& row : html::kSections) {
    const std::string id(row.id);
    CAPTURE(id);
    CHECK(Count(page, "<section id=\"" + id + "\"") == 1);
    CHECK(Count(page, "<a href=\"#" + id + "\">" + std::string(row.title) + "</a>") == 1);
    CHECK(page.find(row.markup(report)) != std::string::npos);
  }
  CHECK(Count(page, "<tr id=\"t") == report.tensors.size());
  CHECK(Count(page, "class=\"series s") == 2 * 7);  // a line and its name, of seven roles
  CHECK(page == VerifyReportHtml(report));

  page = VerifyReportHtml(VerifyReport());
  for (const html::SectionRow& row : html::kSections) {
    if (row.id == "tensors" || row.id == "provenance") continue;  // there is always something to show
    const std::string id(row.id);
    CAPTURE(id);
    CHECK(page.find("#" + id + "\"") == std::string::npos);
    CHECK(page.find("<section id=\"" + id + "\"") == std::string::npos);
  }
  CHECK_THAT(page, ContainsSubstring("<section id=\"tensors\""));
}

TEST_CASE("HTML: nothing comes from outside, and the policy says so") {
  const std::string page = VerifyReportHtml(test::SampleReport(2));
  CHECK_THAT(page, ContainsSubstring("default-src 'none'; style-src 'sha256-"));
  CHECK(page.find("unsafe-inline") == std::string::npos);
  CHECK(page.find(" src=") == std::string::npos);
  CHECK(page.find(" style=\"") == std::string::npos);  // the policy would ignore it
  CHECK(page.find("url(") == std::string::npos);
  CHECK(page.find("@import") == std::string::npos);
  CHECK(Count(page, "http") == Count(page, "http://www.w3.org/2000/svg") + Count(page, "http-equiv"));
}

TEST_CASE("HTML: the data of the table are those of the report") {
  VerifyReport report = test::SampleReport(2);
  report.tensors.back().stats.sum_e2 = 0;  // SQNR infinite: null
  const Json data = DataOf(VerifyReportHtml(report));
  REQUIRE(data["tensors"].size() == report.tensors.size());
  const auto field = [&](const Json& tensor, const char* name) {
    const auto& fields = data["fields"];
    for (std::size_t i = 0; i < fields.size(); ++i) {
      if (fields[i] == name) return tensor[i];
    }
    FAIL("no field " << name);
    return Json();
  };
  for (std::size_t i = 0; i < report.tensors.size(); ++i) {
    const Json& tensor = data["tensors"][i];
    REQUIRE(tensor.size() == data["fields"].size());
    CHECK(field(tensor, "name") == report.tensors[i].name);
    CHECK(field(tensor, "elems") == report.tensors[i].elems);
    CHECK(field(tensor, "book").is_null() == (report.tensors[i].scheme == Q4Scheme::kRaw));
    if (report.tensors[i].has_stats) CHECK(field(tensor, "hist").size() == 16);
  }
  CHECK(field(data["tensors"].back(), "sqnr_db").is_null());
  CHECK(field(data["tensors"][1], "blocks").size() == kWorstBlocks);
}

TEST_CASE("HTML: names cannot become markup or script") {
  VerifyReport report = test::SampleReport(2);
  test::AddGates(9, &report);
  test::AddProblems(&report);
  test::UseHostileNames(&report);
  const std::string page = VerifyReportHtml(report);
  CHECK(Count(page, "<script") == 2);
  CHECK(Count(page, "</script") == 2);
  CHECK(page.find("<img") == std::string::npos);
  CHECK(page.find("<!--") == std::string::npos);
  const std::string markup = page.substr(0, page.find("id=\"data\""));
  CHECK(markup.find(" onmouseover='") == std::string::npos);
  CHECK(page.find("\xE2\x80\xAE") == std::string::npos);  // would turn the text around
  CHECK(DataOf(page)["tensors"].size() == report.tensors.size());
}

TEST_CASE("HTML: ten thousand tensors stay a page of a few megabytes") {
  VerifyReport report = test::SampleReport(1112);
  test::AddGates(2000, &report);
  REQUIRE(report.tensors.size() > 10000);
  const std::string page = VerifyReportHtml(report);
  CHECK(page.size() < 10'000'000);
  CHECK(Count(page, "<tr id=\"t") == report.tensors.size());
}

TEST_CASE("HTML: figures that do not exist do not break the plots") {
  VerifyReport report = test::SampleReport(1);
  for (VerifyTensor& tensor : report.tensors) {
    tensor.stats.sum_e2 = 0;
    tensor.scales = {};
  }
  report.scales = {};
  report.scales.by_exponent = {{-149, 1}, {127, 1}};
  report.scales.count = 2;
  test::AddGates(0, &report);
  report.gates[0].value = std::numeric_limits<double>::quiet_NaN();
  report.gates[0].passed = false;
  const std::string page = VerifyReportHtml(report);
  const std::string plots = Between(page, "<section id=\"layers\"", "<section id=\"provenance\"");
  CHECK(plots.find("=\"nan") == std::string::npos);
  CHECK(plots.find("=\"-nan") == std::string::npos);
  CHECK(plots.find("=\"inf") == std::string::npos);
  CHECK(Count(Between(page, "<section id=\"scales\"", "</section>"), "<rect") <= 64);
}

}  // namespace
}  // namespace q4
