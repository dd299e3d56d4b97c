#include "tools/tool_main.h"

#include <malloc.h>

#include <csignal>
#include <cstdio>
#include <exception>
#include <new>

#include "formats/base/text.h"
#include "kernels/kernels.h"

namespace q4 {
namespace {

std::atomic<bool> interrupted{false};
static_assert(std::atomic<bool>::is_always_lock_free, "set from a signal handler");

// The first signal asks the job to stop at the next chunk; a second one ends the process as usual.
void OnSignal(int signal) {
  interrupted.store(true);
  std::signal(signal, SIG_DFL);
}

void InstallSignalHandlers() {
  std::signal(SIGINT, OnSignal);
  std::signal(SIGTERM, OnSignal);
  std::signal(SIGHUP, OnSignal);
  std::signal(SIGPIPE, SIG_IGN);  // a closed stdout is a write error with exit code 2, not a silent death
#ifdef SIGXFSZ
  std::signal(SIGXFSZ, SIG_IGN);  // a file size limit is a write error (EFBIG) too
#endif
}

// Chunks and slabs come from the system and go back to it at once: a freed one that lingers in the allocator would count against
// the promise of --max-memory.
void ReturnLargeBlocks() {
#ifdef __GLIBC__
  mallopt(M_MMAP_THRESHOLD, 1 << 20);
#endif
}

// One write per line, so that lines of parallel processes in one log stay whole.
void PrintLine(std::string_view tool, std::string_view text) {
  const std::string line = std::string(tool) + ": " + std::string(text) + "\n";
  std::fwrite(line.data(), 1, line.size(), stderr);
}

int Exit(ExitCode code) { return static_cast<int>(code); }

}  // namespace

const std::atomic<bool>& InterruptRequested() { return interrupted; }

namespace internal {

int Run(std::string_view tool, const bool& quiet, const Body& body) {
  InstallSignalHandlers();
  ReturnLargeBlocks();
  try {
    if (!FloatEnvironmentIsCanonical()) {
      PrintLine(tool,
                "the floating-point environment flushes subnormals or does not round to nearest, so results would "
                "differ (a preloaded library set it?) [Q4-9001]");
      return Exit(ExitCode::kInternal);
    }
    absl::StatusOr<ToolResult> result = body();
    if (!result.ok()) {
      PrintLine(tool, MessageOf(result.status()));
      return Exit(ExitCodeOf(result.status()));
    }
    if (!quiet) {
      for (const std::string& note : result->notes) PrintLine(tool, note);
    }
    for (const std::string& error : result->errors) PrintLine(tool, error);
    const bool written = std::fwrite(result->output.data(), 1, result->output.size(), stdout) == result->output.size();
    if (!written || std::fflush(stdout) != 0 || std::fclose(stdout) != 0) {
      PrintLine(tool, "stdout: cannot write the results [Q4-2090]");
      return Exit(ExitCode::kIo);
    }
    return Exit(result->exit_code);
  } catch (const std::bad_alloc&) {
    PrintLine(tool, "out of memory: raise the process's limit or lower --max-memory [Q4-2091]");
    return Exit(ExitCode::kIo);
  } catch (const std::exception& e) {
    PrintLine(tool, "internal error: " + Printable(e.what()) + " [Q4-9002]");
    return Exit(ExitCode::kInternal);
  }
}

}  // namespace internal
}  // namespace q4
