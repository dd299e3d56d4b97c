// Progress on stderr: a bar with throughput and ETA on a terminal, plain lines in a log, JSON lines for programs.
#pragma once

#include <chrono>
#include <string>
#include <string_view>

#include "libconvert/base/progress.h"

namespace q4 {

class ProgressPrinter {
 public:
  // `mode`: auto, bar, plain, json or none; auto is a bar when stderr is a terminal, else plain lines.
  ProgressPrinter(std::string_view tool, std::string_view mode, bool quiet);
  // Ends the bar's line.
  ~ProgressPrinter();
  ProgressPrinter(const ProgressPrinter&) = delete;
  ProgressPrinter& operator=(const ProgressPrinter&) = delete;

  // To be handed to the library; empty when nothing is to be shown. Must not outlive this object.
  ProgressCallback Callback();
  double Seconds() const;

 private:
  enum class Mode { kNone, kBar, kPlain, kJson };
  void Show(const Progress& progress);

  std::string tool_;
  Mode mode_ = Mode::kNone;
  bool bar_shown_ = false;
  std::chrono::steady_clock::time_point start_, last_;
};

// "bar", "1.2 GB/s", "ETA 0:42": the pieces of a line, exposed for tests.
std::string ProgressLine(const Progress& progress, double seconds, bool bar);

}  // namespace q4
