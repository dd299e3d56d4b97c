// Verifies many containers in one process, for tests that make them by the ten thousand:
//   verify_many [SOURCE]     paths on stdin, one a line; on stdout a line for each: the exit code of q4verify, then the
//                            numbers of what it found
#include <iostream>
#include <set>
#include <string>

#include "formats/base/file.h"
#include "formats/base/status.h"
#include "libconvert/verify/verify.h"

int main(int argc, char** argv) {
  q4::VerifyOptions options;
  options.threads = 1;
  if (argc > 1) options.against = argv[1];
  for (std::string path; std::getline(std::cin, path);) {
    const auto report = q4::VerifyModel(q4::PosixFileSystem(), path, options);
    std::set<int> issues;
    int code = 0;
    if (!report.ok()) {
      code = static_cast<int>(q4::ExitCodeOf(report.status()));
      issues.insert(q4::IssueNumberOf(report.status()));
    } else if (!report->passed()) {
      code = static_cast<int>(q4::ExitCode::kCheckFailed);
      for (const q4::VerifyFinding& finding : report->findings) issues.insert(finding.issue);
    }
    std::cout << code;
    for (const int issue : issues) std::cout << ' ' << issue;
    std::cout << std::endl;  // flushed: whoever asks waits for it, and knows by it which path a crash is about
  }
  return 0;
}
