// What every tool's main() does around its one job: parse, run, print, exit code. Only this file prints results and
// errors or exits; jobs return values, so that tests can call them. A tool is
//
//   int main(int argc, char** argv) { return RunTool<ConvertFlags>("q4convert", argc, argv, Convert,
//   OnInterrupt::kEnd); }
#pragma once

#include <atomic>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/base/status.h"
#include "tools/job.h"

namespace q4 {

// True once SIGINT, SIGTERM or SIGHUP arrived; never false again. Long operations poll it between chunks and end with
// exit code 7. A second signal ends the process at once.
const std::atomic<bool>& InterruptRequested();

// Prints a note on stderr, as those of ToolResult are.
void PrintNote(std::string_view tool, std::string_view note);

// What is to be said of an exception that left a job, to be called while it is handled: exhausted memory and a thread
// that was refused are kToolOutOfMemory, anything else kInternalError.
absl::Status StatusOfException();

// What a tool does whose job has not ended within a second of the first signal: end there and then with exit code 7, as
// it may be killed anywhere, or wait for the job, which has something to clear away.
enum class OnInterrupt { kEnd, kWait };

namespace internal {
// Parsing and the job together, so that one handler sees the errors of both.
using Body = std::function<absl::StatusOr<ToolResult>()>;
// The results as they are, but for characters that have no business in them: whoever made the text has escaped what is
// not q4's own, and should one have forgotten it, a terminal still gets text and nothing else. Colours (ESC [ numbers
// m) are q4's own.
std::string Harmless(std::string output);
// Runs `body`, prints what it returns and maps it to the process's exit code. `quiet` silences notes; it is a reference
// because `body` parses it. Catches what escapes as an exception: exhausted memory is kToolOutOfMemory, anything else
// kInternalError.
int Run(std::string_view tool, const bool& quiet, const Body& body, OnInterrupt on_interrupt = OnInterrupt::kWait);
}  // namespace internal

// The whole of a tool's main(): returns the exit code. ParseFlags(argc, argv, &flags) of tools/options.h parses; its
// text, if any (--help, --version), is printed instead of running. `tool` begins every line on stderr.
template <typename Flags>
int RunTool(std::string_view tool, int argc, char** argv, absl::StatusOr<ToolResult> (*job)(const Flags&),
            OnInterrupt on_interrupt) {
  Flags flags;
  const internal::Body body = [&]() -> absl::StatusOr<ToolResult> {
    Q4_ASSIGN_OR_RETURN(std::optional<std::string> text, ParseFlags(argc, argv, &flags));
    if (text) {
      ToolResult result;
      result.output = *std::move(text);
      return result;
    }
    return job(flags);
  };
  return internal::Run(tool, flags.quiet, body, on_interrupt);
}

}  // namespace q4
