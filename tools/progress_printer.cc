#include "tools/progress_printer.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "formats/base/text.h"

namespace q4 {
namespace {

constexpr std::chrono::milliseconds kBarInterval(100);
constexpr std::chrono::seconds kLineInterval(5);
constexpr int kBarWidth = 30;

void WriteToStderr(const std::string& text) {
  std::fwrite(text.data(), 1, text.size(), stderr);
  std::fflush(stderr);
}

std::string Duration(double seconds) {
  const auto whole = static_cast<long>(seconds + 0.5);
  if (whole >= 3600) return fmt::format("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60);
  return fmt::format("{}:{:02}", whole / 60, whole % 60);
}

}  // namespace

std::string ProgressLine(const Progress& progress, double seconds, bool bar) {
  const double done = static_cast<double>(progress.done_bytes);
  const double total = std::max(static_cast<double>(progress.total_bytes), 1.0);
  const double fraction = std::min(done / total, 1.0);
  const double rate = seconds > 0 ? done / seconds : 0;
  const std::string eta = rate > 0 ? Duration((total - done) / rate) : std::string("-");
  std::string line;
  if (bar) {
    const int filled = static_cast<int>(fraction * kBarWidth);
    line += "[" + std::string(static_cast<std::size_t>(filled), '#') +
            std::string(static_cast<std::size_t>(kBarWidth - filled), ' ') + "] ";
  }
  line += fmt::format("{:3.0f} %  {} of {}  {}/s", fraction * 100, HumanBytes(progress.done_bytes),
                      HumanBytes(progress.total_bytes), HumanBytes(static_cast<unsigned long long>(rate)));
  if (progress.total_tensors != 0) {
    line += fmt::format("  {}/{} tensors", progress.done_tensors, progress.total_tensors);
  }
  return line + "  ETA " + eta;
}

ProgressPrinter::ProgressPrinter(std::string_view tool, std::string_view mode, bool quiet)
    : tool_(tool), start_(std::chrono::steady_clock::now()), last_(start_) {
  if (quiet || mode == "none") return;
  if (mode == "json") {
    mode_ = Mode::kJson;
  } else {
    const bool bar = mode == "bar" || (mode == "auto" && isatty(STDERR_FILENO) != 0);
    mode_ = bar ? Mode::kBar : Mode::kPlain;
  }
}

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
  const bool finished = progress.done_bytes >= progress.total_bytes;
  if (mode_ == Mode::kBar) {
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

}  // namespace q4
