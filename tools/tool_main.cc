// The frame of every tool. Before the job: signals, memory, the floating-point environment. After it: notes and errors
// to stderr, the output to stdout, and a check that stdout took it. Exceptions end here, as errors.
#include "tools/tool_main.h"

#include <malloc.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <exception>
#include <limits>
#include <new>
#include <optional>
#include <string>
#include <system_error>
#include <utility>

#include "formats/base/text.h"
#include "kernels/kernels.h"
#include "tools/usage_issues.h"

namespace q4 {
namespace {

// From the first signal to the end of a tool that may be ended anywhere. Less than a second.
constexpr std::chrono::nanoseconds kStopWithin = std::chrono::milliseconds(800);

// All that signal handlers touch of the process.
std::atomic<bool> interrupted{false};
static_assert(std::atomic<bool>::is_always_lock_free, "set from a signal handler");
// What they say, and whether that is silenced: set before they are installed. The deadline exists where they arm it.
struct Interruption {
  std::string stopping, ended;
  const bool* quiet = nullptr;
  std::optional<timer_t> deadline;
};
Interruption interruption;

void SayFromHandler(const std::string& text) {
  const ssize_t written = ::write(STDERR_FILENO, text.data(), text.size());
  (void)written;
}

// The first signal is answered at once and asks the job to stop; a second one ends the process as usual. All that is
// called here may be called in a handler (POSIX: async-signal-safe).
void OnSignal(int signal) {
  const int error = errno;
  std::signal(signal, SIG_DFL);
  if (!interrupted.exchange(true)) {
    if (!*interruption.quiet) SayFromHandler(interruption.stopping);
    if (interruption.deadline) {
      itimerspec wait{};
      wait.it_value.tv_nsec = kStopWithin.count();
      ::timer_settime(*interruption.deadline, 0, &wait, nullptr);
    }
  }
  errno = error;
}

// The job did not stop in time: a chunk at zstd:19, or a slab of an encoder that searches, takes as long as it takes.
// What is on the disk is what a kill leaves, and a conversion resumes from there.
void OnDeadline(int) {
  SayFromHandler(interruption.ended);
  ::_exit(static_cast<int>(ExitCode::kInterrupted));
}

void InstallSignalHandlers(std::string_view tool, const bool& quiet, OnInterrupt on_interrupt) {
  const std::string line = std::string(tool) + ": ";
  // A terminal shows ^C on the line of the bar.
  interruption.stopping = (::isatty(STDERR_FILENO) != 0 ? "\n" : "") + line + "stopping... (once more ends at once)\n";
  interruption.ended = line + MessageOf(Fail(kStopped, {}, {})) + "\n";
  interruption.quiet = &quiet;
  sigevent event{};
  event.sigev_notify = SIGEV_SIGNAL;
  event.sigev_signo = SIGALRM;
  timer_t timer{};
  if (on_interrupt == OnInterrupt::kEnd && ::timer_create(CLOCK_MONOTONIC, &event, &timer) == 0) {
    interruption.deadline = timer;
    std::signal(SIGALRM, OnDeadline);
  }
  // Who started the tool may have asked for a signal to be ignored, as nohup does of SIGHUP.
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    if (std::signal(signal, OnSignal) == SIG_IGN) std::signal(signal, SIG_IGN);
  }
  // A reader that has left is a write error, which Print() tells from others.
  std::signal(SIGPIPE, SIG_IGN);
#ifdef SIGXFSZ
  // A file size limit is a write error (EFBIG) too.
  std::signal(SIGXFSZ, SIG_IGN);
#endif
}

// Chunks and slabs come from the system and go back to it at once: a freed one that lingers in the allocator would
// count against the promise of --max-memory. Setting the threshold also stops glibc from raising it.
void ReturnLargeBlocks() {
#ifdef __GLIBC__
  mallopt(M_MMAP_THRESHOLD, 1 << 20);
#endif
}

// A shard is an open file while a model is read, and there may be more of them than the soft limit that systems set for
// programs with select(). The hard one is theirs to keep.
void AllowManyFiles() {
  rlimit files{};
  if (::getrlimit(RLIMIT_NOFILE, &files) != 0) return;
  files.rlim_cur = files.rlim_max;
  (void)::setrlimit(RLIMIT_NOFILE, &files);
}

// One write per line, so that lines of parallel processes in one log stay whole. Whoever made the text has escaped what
// is not q4's own; should one have forgotten it, a terminal still gets a line of text and nothing else.
void PrintLine(std::string_view tool, std::string_view text) {
  const std::string line =
      std::string(tool) + ": " + Printable(Shown{text}, std::numeric_limits<std::size_t>::max()) + "\n";
  std::fwrite(line.data(), 1, line.size(), stderr);
}

int Exit(ExitCode code) { return static_cast<int>(code); }

// Who read the output has seen enough (`q4inspect ... | head`): no word about it, and the end that shells know from
// other programs, death by SIGPIPE. Where that signal cannot kill (process 1 of a container), the number they show.
int EndWithoutReader() {
  std::signal(SIGPIPE, SIG_DFL);
  std::raise(SIGPIPE);
  return 128 + SIGPIPE;
}

// Prints the error line and returns the exit code that goes with it.
int PrintError(std::string_view tool, const absl::Status& error) {
  PrintLine(tool, MessageOf(error));
  return Exit(ExitCodeOf(error));
}

}  // namespace

const std::atomic<bool>& InterruptRequested() { return interrupted; }

void PrintNote(std::string_view tool, std::string_view note) { PrintLine(tool, note); }

absl::Status StatusOfException() {
  try {
    throw;
  } catch (const std::bad_alloc&) {
    return Fail(kToolOutOfMemory, {}, {});
  } catch (const std::system_error& e) {
    // A thread that cannot be started: its stack does not fit, or the process may have no more threads.
    const bool short_of_memory = e.code() == std::errc::resource_unavailable_try_again;
    return Fail(short_of_memory ? kToolOutOfMemory : kInternalError, {}, {}, e.what());
  } catch (const std::exception& e) {
    return Fail(kInternalError, {}, {}, e.what());
  }
}

namespace internal {

std::string Harmless(std::string text) {
  std::string_view output = text;
  constexpr std::size_t kAll = std::numeric_limits<std::size_t>::max();
  const auto is_plain = [](char c) { return c == '\n' || (c >= 0x20 && c < 0x7F); };
  if (std::all_of(output.begin(), output.end(), is_plain)) return text;
  std::string out;
  while (!output.empty()) {
    const std::size_t plain = std::min(output.find_first_of("\n\x1b"), output.size());
    out += Printable(Shown{output.substr(0, plain)}, kAll);
    output.remove_prefix(plain);
    if (output.empty()) break;
    std::size_t own = 1;
    if (output[0] == '\x1b') {
      own = output.substr(0, 2) == "\x1b[" ? output.find_first_not_of("0123456789;", 2) : std::string_view::npos;
      own = own != std::string_view::npos && output[own] == 'm' ? own + 1 : 0;
      if (own == 0) out += Printable(output.substr(0, 1), kAll);
    }
    out += output.substr(0, own);
    output.remove_prefix(std::max<std::size_t>(own, 1));
  }
  return out;
}

// Notes come before errors and both before the output, so that the last lines of a terminal are the result.
int Run(std::string_view tool, const bool& quiet, const Body& body, OnInterrupt on_interrupt) {
  InstallSignalHandlers(tool, quiet, on_interrupt);
  ReturnLargeBlocks();
  AllowManyFiles();
  try {
    // Q10.2. A preloaded library may have set flush-to-zero; results would then differ from those of other machines.
    if (!FloatEnvironmentIsCanonical()) {
      return PrintError(tool, Fail(kFloatEnvironment, {}, {}));
    }
    absl::StatusOr<ToolResult> result = body();
    if (!result.ok()) {
      return PrintError(tool, result.status());
    }
    if (!quiet) {
      for (const std::string& note : result->notes) PrintLine(tool, note);
    }
    for (const std::string& error : result->errors) PrintLine(tool, error);
    const std::string output = Harmless(std::exchange(result->output, {}));
    // fclose() too: a full disk may show only when the last buffer is written.
    const bool written = std::fwrite(output.data(), 1, output.size(), stdout) == output.size();
    if (!written || std::fflush(stdout) != 0 || std::fclose(stdout) != 0) {
      if (errno != EPIPE) return PrintError(tool, Fail(kCannotPrint, "stdout", {}));
      // A verdict is worth more than how much of it was read.
      if (result->exit_code == ExitCode::kOk) return EndWithoutReader();
    }
    return Exit(result->exit_code);
  } catch (...) {
    return PrintError(tool, StatusOfException());
  }
}

}  // namespace internal
}  // namespace q4
