// What a tool does between its command line and its output, as values: for the tools, which print them, and for other
// callers, which do not (python/bind). A job takes the flags of options.h, whoever filled them.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "formats/base/status.h"
#include "libconvert/base/progress.h"
#include "libconvert/judge/verify_report.h"

namespace q4 {

// What a job hands back: results for stdout, remarks for stderr, and the exit code. A job that failed returns an error
// status instead, and nothing is printed but that.
struct ToolResult {
  std::string output;               // to stdout as it is; one JSON document when --json was given
  std::vector<std::string> notes;   // one line each to stderr, "<tool>: <note>"; not printed with -q
  std::vector<std::string> errors;  // the same, printed always: the problems behind a non-zero exit code
  // Of a conversion whose gates are broken: `errors` says the same in lines.
  std::vector<VerifyFinding> findings;
  ExitCode exit_code = ExitCode::kOk;
};

// How the caller follows a job and stops it.
struct JobHooks {
  // Called at most once, when the long work begins: a clock may start then. Returns what is told how far it is. Empty:
  // nothing is.
  std::function<ProgressCallback()> progress;
  CancelFlag* cancel = nullptr;
  // Says a note at once that ToolResult::notes does not repeat. Empty: it stands there.
  std::function<void(const std::string&)> tell;

  ProgressCallback Begin() const { return progress ? progress() : ProgressCallback(); }
};

}  // namespace q4
