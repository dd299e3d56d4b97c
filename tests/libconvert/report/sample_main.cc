// Writes the three reports of a made-up verification, for tests that look at them from outside.
//   report_sample LAYERS sound|failed|hostile STEM     writes STEM.xml, STEM.md and STEM.html
#include <fstream>
#include <string>

#include "libconvert/report/html.h"
#include "libconvert/report/junit.h"
#include "libconvert/report/markdown.h"
#include "tests/libconvert/report/sample.h"

int main(int argc, char** argv) {
  if (argc != 4) return 1;
  const std::string kind = argv[2], stem = argv[3];
  q4::VerifyReport report = q4::test::SampleReport(std::stoul(argv[1]));
  q4::test::AddGates(kind == "sound" ? 0 : 5, &report);
  if (kind != "sound") q4::test::AddProblems(&report);
  if (kind == "hostile") q4::test::UseHostileNames(&report);
  const auto write = [&stem](const char* extension, const std::string& text) {
    std::ofstream file(stem + extension, std::ios::binary);
    file << text;
    return file.flush().good();
  };
  return write(".xml", q4::VerifyReportJunit(report)) && write(".md", q4::VerifyReportMarkdown(report)) &&
                 write(".html", q4::VerifyReportHtml(report))
             ? 0
             : 1;
}
