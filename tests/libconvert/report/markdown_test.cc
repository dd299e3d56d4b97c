#include "libconvert/report/markdown.h"

#include <sstream>
#include <string>

#include "tests/libconvert/report/sample.h"
#include "tests/support/catch.h"

namespace q4 {
namespace {

using test::ContainsSubstring;

TEST_CASE("Markdown: the verdict comes first, then what broke") {
  VerifyReport report = test::SampleReport(3);
  test::AddGates(0, &report);
  CHECK(VerifyReportMarkdown(report).starts_with("## ✅ q4verify: `out/sample.q4` passed\n"));

  test::AddGates(2, &report);
  test::AddProblems(&report);
  const std::string text = VerifyReportMarkdown(report);
  CHECK(text.starts_with("## ❌ q4verify: `out/sample.q4` **failed**\n\n7 problems in 2 tensors.\n"));
  CHECK(text.find("### Broken gates") < text.find("### Problems"));
  CHECK(text.find("### Problems") < text.find("### Worst tensors"));
  CHECK_THAT(text, ContainsSubstring("| `weights` | `model.layers.0.mlp.down_proj.weight` | `nmse` | **"));
  CHECK_THAT(text, ContainsSubstring("≤ 0.001 |"));
  CHECK_THAT(text, ContainsSubstring("[Q4-6201]`"));
  CHECK_THAT(text, ContainsSubstring("| `down_proj` | 3 |"));
  CHECK_THAT(text, ContainsSubstring("<details><summary>Provenance</summary>"));
  CHECK_THAT(text, ContainsSubstring("block_size 64, compress zstd:3"));
  CHECK(text == VerifyReportMarkdown(report));
}

TEST_CASE("Markdown: however much there is to say, it fits into a comment and says what it leaves out") {
  VerifyReport report = test::SampleReport(1500);
  test::AddGates(5000, &report);
  for (int i = 0; i < 100; ++i) report.findings.push_back({6207, "t", std::string(10000, '<')});
  for (int i = 0; i < 1000; ++i) {
    report.groups.push_back({VerifyGroup::Kind::kRole, std::string(1000, '`') + std::to_string(i), report.model});
  }
  report.path = report.source = report.only = report.baseline = report.architecture = std::string(100000, '|');
  const std::string text = VerifyReportMarkdown(report);
  CHECK(text.size() <= kMarkdownBytes);
  CHECK_THAT(text, ContainsSubstring("\nand "));
  // 10,500 tensors, 5,000 broken: the rows shown and those left out are all of them.
  std::istringstream lines(text.substr(text.find("### Broken gates")));
  std::string line;
  std::size_t shown = 0;
  while (std::getline(lines, line) && !line.starts_with("and ")) shown += line.starts_with("| `weights`");
  CHECK(line == "and " + std::string("4,") + std::to_string(5000 - shown).substr(1) + " more");
}

TEST_CASE("Markdown: names stay inside their code spans and cells") {
  VerifyReport report = test::SampleReport(2);
  test::AddGates(8, &report);
  test::AddProblems(&report);
  test::UseHostileNames(&report);
  std::istringstream lines(VerifyReportMarkdown(report));
  std::string line;
  std::size_t columns = 0, rows = 0;
  while (std::getline(lines, line)) {
    // Outside code spans there is nothing but our own text.
    std::string outside;
    bool inside = false;
    for (const char c : line) {
      if (c == '`') {
        inside = !inside;
      } else if (!inside) {
        outside.push_back(c);
      }
    }
    CHECK_FALSE(inside);
    CHECK(outside.find("script") == std::string::npos);
    CHECK(outside.find('@') == std::string::npos);
    CHECK(outside.find("](") == std::string::npos);
    for (const char c : line) CHECK((static_cast<unsigned char>(c) >= 0x20));
    // GitHub splits a row at every '|' without a backslash, inside code spans too.
    if (!line.starts_with("|")) {
      columns = 0;
      continue;
    }
    std::size_t bars = 0;
    for (std::size_t i = 0; i < line.size(); ++i) bars += line[i] == '|' && (i == 0 || line[i - 1] != '\\');
    if (columns == 0) columns = bars;
    CHECK(bars == columns);
    ++rows;
  }
  CHECK(rows > 30);
}

}  // namespace
}  // namespace q4
