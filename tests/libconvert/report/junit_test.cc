// The structure is checked by tests/cli/reports_test.py with an XML parser; here what stands where.
#include "libconvert/report/junit.h"

#include "tests/libconvert/report/sample.h"
#include "tests/support/catch.h"
#include "tests/support/text.h"

namespace q4 {
namespace {

using test::ContainsSubstring;
using test::Count;

TEST_CASE("JUnit: a suite per kind, a case per tensor and gate") {
  VerifyReport report = test::SampleReport(2);
  test::AddGates(0, &report);
  const std::string xml = VerifyReportJunit(report);
  CHECK_THAT(xml,
             ContainsSubstring(
                 "tests=\"59\" failures=\"0\" errors=\"0\" skipped=\"0\">\n  <testsuite name=\"checks\" tests=\"4\""));
  CHECK_THAT(xml, ContainsSubstring("<testsuite name=\"integrity\" tests=\"19\""));
  CHECK_THAT(xml, ContainsSubstring("<testsuite name=\"comparison\" tests=\"19\""));
  CHECK_THAT(xml, ContainsSubstring("<testsuite name=\"evaluation\" tests=\"2\""));
  CHECK_THAT(xml, ContainsSubstring("<testsuite name=\"gates\" tests=\"15\""));
  CHECK_THAT(xml,
             ContainsSubstring("name=\"weights: nmse at most 0.05, tensor 'model.layers.0.mlp.down_proj.weight'\"/>"));
  CHECK(xml == VerifyReportJunit(report));

  report.source.clear();
  CHECK(Count(VerifyReportJunit(report), "<testsuite ") == 4);
  report.gates.clear();
  report.evaluation.reset();
  CHECK(Count(VerifyReportJunit(report), "<testsuite ") == 2);
}

TEST_CASE("JUnit: every problem fails the case it belongs to") {
  VerifyReport report = test::SampleReport(2);
  test::AddGates(3, &report);
  test::AddProblems(&report);
  const std::string xml = VerifyReportJunit(report);
  CHECK_THAT(xml, ContainsSubstring("tests=\"60\" failures=\"8\""));
  CHECK_THAT(xml, ContainsSubstring("classname=\"q4.integrity\" name=\"container\">\n      <failure type=\"Q4-7041\""));
  CHECK_THAT(xml,
             ContainsSubstring("classname=\"q4.comparison\" name=\"lost.weight\">\n      <failure type=\"Q4-6201\""));
  CHECK_THAT(xml, ContainsSubstring("name=\"source and embedded files\">\n      <failure type=\"Q4-6214\""));
  CHECK(Count(xml, "<failure type=\"weights\"") == 3);
}

TEST_CASE("JUnit: what was not compared is skipped, what is not listed still fails") {
  VerifyReport report = test::SampleReport(1);
  report.tensors[0].compared = false;
  report.tensors[0].compared_elems = 0;
  report.tensors[0].proof = TensorProof::kNotCompared;
  report.tensors[1].proof = TensorProof::kBounded;
  report.tensors[4].passed = false;
  report.finding_count = 1;
  const std::string xml = VerifyReportJunit(report);
  // The tensors, and the comparison, which was made in part.
  CHECK(Count(xml, "<skipped ") == 3);
  CHECK_THAT(xml, ContainsSubstring("<skipped message=\"not compared with the source\"/>"));
  CHECK_THAT(xml, ContainsSubstring("<skipped message=\"bounded, not proven: encoder "));
  CHECK_THAT(xml, ContainsSubstring("<skipped message=\"part: "));
  CHECK_THAT(xml, ContainsSubstring("name=\"" + report.tensors[4].name + "\">\n      <failure type=\"unlisted\""));
  CHECK_THAT(xml, ContainsSubstring("problems that are not listed"));
}

TEST_CASE("JUnit: names cannot become markup, and only characters of XML 1.0 remain") {
  VerifyReport report = test::SampleReport(2);
  test::AddGates(4, &report);
  test::AddProblems(&report);
  test::UseHostileNames(&report);
  const std::string xml = VerifyReportJunit(report);
  CHECK(xml.find("<script") == std::string::npos);
  CHECK(xml.find("<img") == std::string::npos);
  CHECK(xml.find("\xEF\xBF\xBE") == std::string::npos);
  CHECK(xml.find("\xEF\xBF\xBF") == std::string::npos);
  for (const char c : xml) CHECK((static_cast<unsigned char>(c) >= 0x20 || c == '\n'));
  CHECK_THAT(xml, ContainsSubstring("\\xef\\xbf\\xbe"));
}

}  // namespace
}  // namespace q4
