// Progress on stderr: a bar with throughput and ETA on a terminal, plain lines in a log, JSON lines for programs. The
// library reports how far it is (libconvert/base/progress.h); how often and how that is shown is decided here. stdout
// stays free for results.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>

#include "libconvert/base/progress.h"
#include "tools/job.h"

namespace q4 {

// One run of a tool. The clock starts with the object, so it is made right before the work. Used by one thread at a
// time, which the library's callback promises.
class ProgressPrinter {
 public:
  // `tool` begins each plain line. `mode`: auto, bar, plain, json or none; auto is a bar when stderr is a terminal,
  // else plain lines. `quiet` is none, whatever `mode` says.
  ProgressPrinter(std::string_view tool, std::string_view mode, bool quiet);
  // Ends the bar's line.
  ~ProgressPrinter();
  ProgressPrinter(const ProgressPrinter&) = delete;
  ProgressPrinter& operator=(const ProgressPrinter&) = delete;

  // To be handed to the library; empty when nothing is to be shown, so that progress costs nothing then. Must not
  // outlive this object.
  ProgressCallback Callback();

 private:
  enum class Mode { kNone, kBar, kPlain, kJson };
  // Since construction.
  double Seconds() const;
  // Prints, unless the last print was too recent.
  void Show(const Progress& progress);

  std::string tool_;
  Mode mode_ = Mode::kNone;
  bool bar_shown_ = false;  // the line on the terminal is not ended yet
  // When this object was made, and when something was printed last.
  std::chrono::steady_clock::time_point start_, last_;
};

// The hooks of a tool's job: a printer is made in `printer` when the long work begins, and the tool's signals stop it.
// `printer` must outlive the job; the strings too.
JobHooks PrintingHooks(std::string_view tool, std::string_view mode, bool quiet,
                       std::optional<ProgressPrinter>* printer);

// A line without its end: "[####   ]  42 %  1.2 GB of 2.9 GB  600 MB/s  12/40 tensors  ETA 0:03". `seconds` since the
// start; `bar` adds the part in brackets. Exposed for tests.
std::string ProgressLine(const Progress& progress, double seconds, bool bar);

}  // namespace q4
