// Each call of the library's callback either prints a line or returns at once. A bar is redrawn in place ten times a
// second; a log gets a line every five seconds, so that a long run shows signs of life and a short one leaves no trace.
#include "tools/progress_printer.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "formats/base/text.h"
#include "tools/tool_main.h"

namespace q4 {
namespace {

// Fast enough to look alive, slow enough to cost nothing over a slow connection.
constexpr std::chrono::milliseconds kBarInterval(100);
constexpr std::chrono::seconds kLineInterval(5);
// Characters between the brackets: the whole line fits into 100 columns.
constexpr int kBarWidth = 30;

// One write and a flush, so that lines of parallel processes in one log stay whole.
void WriteToStderr(const std::string& text) {
  std::fwrite(text.data(), 1, text.size(), stderr);
  std::fflush(stderr);
}

// "m:ss", or "h:mm:ss" from an hour on.
std::string Duration(double seconds) {
  const long whole = std::lround(seconds);
  if (whole >= 3600) return fmt::format("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60);
  return fmt::format("{}:{:02}", whole / 60, whole % 60);
}

}  // namespace

// The rate is that of the whole run and not of the last moment, so the estimate is steady.
std::string ProgressLine(const Progress& progress, double seconds, bool bar) {
  const double done = static_cast<double>(progress.done_bytes);
  // An empty job has a total of 0 and is done.
  const double total = std::max(static_cast<double>(progress.total_bytes), 1.0);
  const double fraction = std::min(done / total, 1.0);
  const double rate = seconds > 0 ? done / seconds : 0;
  // Unknown until something is done.
  const std::string eta = rate > 0 ? Duration((total - done) / rate) : std::string("-");
  std::string line;
  if (bar) {
    const int filled = static_cast<int>(fraction * kBarWidth);
    line += "[" + std::string(static_cast<std::size_t>(filled), '#') +
            std::string(static_cast<std::size_t>(kBarWidth - filled), ' ') + "] ";
  }
  line += fmt::format("{:3.0f} %  {} of {}  {}/s", fraction * 100, HumanBytes(progress.done_bytes),
                      HumanBytes(progress.total_bytes), HumanBytes(static_cast<unsigned long long>(rate)));
  // Some jobs do not count tensors.
  if (progress.total_tensors != 0) {
    line += fmt::format("  {}/{} tensors", progress.done_tensors, progress.total_tensors);
  }
  return line + "  ETA " + eta;
}

ProgressPrinter::ProgressPrinter(std::string_view tool, std::string_view mode, bool quiet)
    : tool_(tool), start_(std::chrono::steady_clock::now()), last_(start_) {
  // The parser has checked `mode`; anything else is auto here.
  if (quiet || mode == "none") return;
  if (mode == "json") {
    mode_ = Mode::kJson;
  } else {
    const bool bar = mode == "bar" || (mode == "auto" && isatty(STDERR_FILENO) != 0);
    mode_ = bar ? Mode::kBar : Mode::kPlain;
  }
}

// Whatever is printed next begins on a line of its own, an error too.
ProgressPrinter::~ProgressPrinter() {
  if (bar_shown_) WriteToStderr("\n");
}

ProgressCallback ProgressPrinter::Callback() {
  if (mode_ == Mode::kNone) return {};
  return [this](const Progress& progress) { Show(progress); };
}

double ProgressPrinter::Seconds() const {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
}

void ProgressPrinter::Show(const Progress& progress) {
  const auto now = std::chrono::steady_clock::now();
  // "stopping..." stands below the bar and stays the last line until the tool's end.
  if (InterruptRequested()) {
    bar_shown_ = false;
    return;
  }
  const bool finished = progress.done_bytes >= progress.total_bytes;
  if (mode_ == Mode::kBar) {
    // The end is always drawn: a bar that stops at 97 % looks like a failure.
    if (!finished && now - last_ < kBarInterval) return;
    // Erase to the end of the line first: the new line may be shorter.
    WriteToStderr("\r\x1b[K" + ProgressLine(progress, Seconds(), /*bar=*/true));
    bar_shown_ = true;
  } else {
    if (now - last_ < kLineInterval) return;
    WriteToStderr(mode_ == Mode::kPlain
                      ? tool_ + ": " + ProgressLine(progress, Seconds(), /*bar=*/false) + "\n"
                      : fmt::format("{{\"done_bytes\":{},\"total_bytes\":{},\"done_tensors\":{},\"total_tensors\":{},"
                                    "\"seconds\":{:.3f}}}\n",
                                    progress.done_bytes, progress.total_bytes, progress.done_tensors,
                                    progress.total_tensors, Seconds()));
  }
  last_ = now;
}

JobHooks PrintingHooks(std::string_view tool, std::string_view mode, bool quiet,
                       std::optional<ProgressPrinter>* printer) {
  const auto begin = [tool, mode, quiet, printer] { return printer->emplace(tool, mode, quiet).Callback(); };
  // Before the bar is first drawn.
  const auto tell = [tool, quiet](const std::string& note) {
    if (!quiet) PrintNote(tool, note);
  };
  return {begin, &InterruptRequested(), tell};
}

}  // namespace q4
