// What the markup must and must not hold; tests/python/html_report_check.py opens it in a browser.
#include "libconvert/report/html.h"

#include <algorithm>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "formats/base/json_value.h"
#include "libconvert/model/stats.h"
#include "libconvert/report/html/markup.h"
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
  CHECK(Count(page, "class=\"series s") == 4 * 7);  // a line and its name, of seven roles, drawn wide and narrow
  CHECK(page == VerifyReportHtml(report));

  page = VerifyReportHtml(VerifyReport());
  for (const html::SectionRow& row : html::kSections) {
    if (row.id == "tensors" || row.id == "checks" || row.id == "provenance")
      continue;  // there is always something to show
    const std::string id(row.id);
    CAPTURE(id);
    CHECK(page.find("#" + id + "\"") == std::string::npos);
    CHECK(page.find("<section id=\"" + id + "\"") == std::string::npos);
  }
  CHECK_THAT(page, ContainsSubstring("<section id=\"tensors\""));
}

TEST_CASE("HTML: the head tells what the model is, what was saved and whether to deploy it") {
  VerifyReport report = test::SampleReport(3);
  report.root[0] = 0xab;
  test::AddGates(0, &report);
  const auto head = [&report] { return Between(VerifyReportHtml(report), "<header>", "</header>"); };
  CHECK_THAT(head(),
             ContainsSubstring("LlamaForCausalLM, llama, 33.8 million parameters, compared with <code>sample</code>"));
  CHECK_THAT(head(), ContainsSubstring("<b>67.6 MB → 17.4 MB</b>, 74.2 % saved"));
  CHECK_THAT(head(),
             ContainsSubstring("<b>NF4, blocks of 64, double quantization, encoder absmax</b> in 21 tensors, 6 kept"));
  CHECK_THAT(head(),
             ContainsSubstring("Passed: may be deployed</b> Intact, true to its source, and all 22 gates hold"));
  CHECK_THAT(VerifyReportHtml(report), ContainsSubstring("<title>out/sample.q4 ab0000000000: passed</title>"));

  report.tensors[1].block_size = 128;
  CHECK_THAT(head(), ContainsSubstring("in 20 tensors, 1 other treatment in 1, 6 kept"));
  report.gates.clear();
  CHECK_THAT(head(),
             ContainsSubstring(
                 "Passed, as far as it was checked</b> What was checked holds; <a href=\"#checks\">no gate set"));
  report.tensors[1].proof = TensorProof::kBounded;
  CHECK_THAT(head(), ContainsSubstring("1 tensor bounded, not proven"));
  report.source.clear();
  CHECK_THAT(head(), ContainsSubstring("Every byte is intact; <a href=\"#checks\">comparison not made"));

  report = test::SampleReport(3);
  test::AddGates(9, &report);
  report.findings.resize(2);  // the listing was cut, the count was not
  CHECK_THAT(head(),
             ContainsSubstring("Failed: do not deploy</b> <a href=\"#problems\">9 broken gates</a> in 9 tensors"));
  test::AddProblems(&report);
  CHECK_THAT(head(), ContainsSubstring("<a href=\"#problems\">5 problems and 9 broken gates</a>"));
}

TEST_CASE("HTML: what is worst comes first") {
  VerifyReport report = test::SampleReport(4);
  test::AddGates(3, &report);
  report.gates[1].limit = report.gates[1].value / 100;  // the second is farthest beyond its limit
  report.findings.push_back({6201, "lost.weight", "a tensor is missing [Q4-6201]"});
  report.findings.push_back({7044, "", "a chunk is damaged [Q4-7044]"});
  report.finding_count += 2;
  const std::string page = VerifyReportHtml(report);
  const std::string broken = Between(page, "<section id=\"problems\"", "</section>");
  CHECK(broken.find("Q4-7044") < broken.find("Q4-6201"));
  const std::string gates = broken.substr(broken.find("3 broken gates"));
  CHECK(gates.find(html::TensorLink(report, report.gates[1].subject)) <
        gates.find(html::TensorLink(report, report.gates[0].subject)));

  const auto errors_in = [](const std::string& section, const std::string& begin) {
    std::vector<double> errors;
    for (std::size_t at = section.find(begin); at != std::string::npos; at = section.find(begin, at + 1)) {
      errors.push_back(std::stod(section.substr(at + begin.size())));
    }
    return errors;
  };
  const std::vector<double> roles =
      errors_in(Between(page, "<section id=\"roles\"", "</section>"), "data-label=\"NMSE\">");
  CHECK(roles.size() == 7);
  CHECK(std::is_sorted(roles.rbegin(), roles.rend()));

  // Rows: failed ones, then the others by NMSE, then those that were kept, folded away.
  const std::string rows = Between(page, "<table id=\"tensor-table\">", "</table>");
  std::vector<std::size_t> order;
  for (std::size_t at = rows.find("<tr id=\"t"); at != std::string::npos; at = rows.find("<tr id=\"t", at + 1)) {
    order.push_back(std::stoul(rows.substr(at + 9)));
  }
  REQUIRE(order.size() == report.tensors.size());
  const auto rank = [&report](std::size_t index) {
    const VerifyTensor& tensor = report.tensors[index];
    return std::pair(tensor.passed ? tensor.has_stats ? 1 : 2 : 0, tensor.has_stats ? -Derive(tensor.stats).nmse : 0.0);
  };
  CHECK(std::is_sorted(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return rank(a) < rank(b); }));
  CHECK(Count(rows, "class=\"kept\"") == 8);
  for (VerifyTensor& tensor : report.tensors) {
    tensor.scheme = Q4Scheme::kRaw;
    tensor.passed = true;
  }
  CHECK(Count(VerifyReportHtml(report), "class=\"kept\"") == 0);  // nothing else would be left
}

TEST_CASE("HTML: the plot says where its axis begins, which limits there are and what it leaves out") {
  VerifyReport report = test::SampleReport(4);
  const auto layers = [&report] { return Between(VerifyReportHtml(report), "<section id=\"layers\"", "</section>"); };
  // Values of 20.3 to 20.9 dB: three decibels at least.
  CHECK_THAT(layers(), ContainsSubstring("The axis covers 19 to 22.5 dB and does not begin at 0"));
  CHECK(Count(layers(), "class=\"limit\"") == 0);
  const auto add = [&report](const char* gate, GateVerdict::Scope scope, const char* subject, const char* statistic,
                             bool is_maximum, double limit) {
    report.gates.push_back({gate, scope, subject, statistic, is_maximum, limit, 0, true});
  };
  using Scope = GateVerdict::Scope;
  add("error", Scope::kTensor, "x", "nmse", true, 0.016);
  add("error", Scope::kTensor, "y", "nmse", true, 0.016);
  CHECK_THAT(layers(), ContainsSubstring("error ≥ 17.96"));
  CHECK(Count(layers(), "class=\"limit\"") == 4);  // one line, named, drawn wide and narrow
  add("far", Scope::kRole, "q_proj", "sqnr_db", false, 3);
  CHECK_THAT(layers(), ContainsSubstring("The limit far ≥ 3 lies below it."));
  add("bias", Scope::kTensor, "x", "bias", true, 1);
  add("whole", Scope::kModel, "", "sqnr_db", false, 18);
  CHECK(Count(layers(), "class=\"limit\"") == 4);  // neither is a limit on what is drawn
  report.baseline = "old.json";
  add("baseline", Scope::kLayer, "model.layers.0", "nmse", true, 0.01);
  add("baseline", Scope::kLayer, "model.layers.1", "nmse", true, 0.011);
  add("baseline", Scope::kTensor, "x", "nmse", true, 0.5);
  CHECK_THAT(layers(), ContainsSubstring(">baseline</text>"));
  CHECK(Count(layers(), "class=\"limit\"") == 8);
  for (int i = 0; i < 5; ++i)
    add(("rule " + std::to_string(i)).c_str(), Scope::kTensor, "x", "sqnr_db", false, 15.0 + i);
  CHECK_THAT(layers(), ContainsSubstring("the 4 strictest are drawn, 4 not"));

  report.tensors.back().layer.clear();
  CHECK_THAT(layers(), ContainsSubstring("because in no layer: " + html::Name(report.tensors.back().name)));
  for (VerifyTensor& tensor : report.tensors) {
    if (tensor.layer == "model.layers.2") tensor.scheme = Q4Scheme::kRaw;
  }
  CHECK_THAT(layers(), ContainsSubstring("Nothing is quantized in 1 of 4 layers."));
}

TEST_CASE("HTML: every word of error is explained, by an element that the keyboard opens") {
  const std::string page = VerifyReportHtml(test::SampleReport(2));
  for (const char* word : {"SQNR", "NMSE", "half steps", "clipped", "Σe²", "role", "treatment", "scale", "cosine"}) {
    CAPTURE(word);
    CHECK_THAT(page, ContainsSubstring("<dt>" + std::string(word) + "</dt><dd>"));
  }
  for (const char* word : {"SQNR", "NMSE", "Largest error", "Bits per weight", "seal"}) {
    CAPTURE(word);
    CHECK_THAT(page, ContainsSubstring("<details class=\"term\"><summary>" + std::string(word) + "</summary><p>"));
  }
}

TEST_CASE("HTML: no word is without sense") {
  VerifyReport report = test::SampleReport(2);
  test::AddGates(1, &report);
  report.compared_absmax = true;
  report.absmax.tensors = 1;
  const std::string page = VerifyReportHtml(report);
  CHECK(page.find("<dd></dd>") == std::string::npos);
  CHECK(page.find("</summary><p></p>") == std::string::npos);
}

TEST_CASE("HTML: cards leave no hole, however many there are") {
  VerifyReport report = test::SampleReport(2);
  const auto columns = [&report] { return Between(VerifyReportHtml(report), "<dl class=\"tiles c", "\""); };
  CHECK(columns() == "4");  // 7
  test::AddGates(0, &report);
  CHECK(columns() == "4");  // 8
  report.compared_absmax = true;
  CHECK(columns() == "3");  // 9
  report.model = {};
  CHECK(columns() == "3");  // 6
  CHECK(Between(VerifyReportHtml(VerifyReport()), "<dl class=\"tiles c", "\"") == "4");
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
