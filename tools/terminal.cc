// The terminal is asked once, when a report is drawn. Every answer has a safe default: no colour, ASCII, 100 columns,
// so that a pipe and a log get plain text.
#include "tools/terminal.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <string>

namespace q4 {
namespace {

// Unset and empty are alike.
std::string Variable(const char* name) {
  const char* const value = std::getenv(name);
  return value == nullptr ? std::string() : std::string(value);
}

// As the C library chooses the locale of characters (LC_ALL before LC_CTYPE before LANG), without loading it: a locale
// that is set but not installed would count as "C".
bool LocaleIsUtf8() {
  std::string locale;
  for (const char* name : {"LC_ALL", "LC_CTYPE", "LANG"}) {
    locale = Variable(name);
    if (!locale.empty()) break;
  }
  std::transform(locale.begin(), locale.end(), locale.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return locale.find("utf-8") != std::string::npos || locale.find("utf8") != std::string::npos;
}

// The terminal's own width, else what the shell says in COLUMNS within reason, else `fallback`.
std::size_t Columns(std::size_t fallback) {
  winsize size{};
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
  const std::string columns = Variable("COLUMNS");
  const unsigned long stated = std::strtoul(columns.c_str(), nullptr, 10);
  return stated > 0 && stated < 10'000 ? stated : fallback;
}

}  // namespace

TextStyle StyleOfStdout(std::string_view color) {
  const bool terminal = isatty(STDOUT_FILENO) != 0;
  const std::string kind = Variable("TERM");
  TextStyle style;
  // NO_COLOR only matters to "auto": a flag of the command line is stronger than the environment.
  style.color = color == "always" ||
                (color == "auto" && terminal && !kind.empty() && kind != "dumb" && Variable("NO_COLOR").empty());
  style.unicode = terminal && kind != "dumb" && LocaleIsUtf8();
  // Names are cut for eyes only: a pipe may feed a program that looks for them.
  style.shorten = terminal;
  if (terminal) style.width = Columns(style.width);
  return style;
}

}  // namespace q4
