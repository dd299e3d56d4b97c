// What standard output is: a terminal with its size, colours and characters, or a pipe. The one place that asks; the
// library is told (libconvert/base/text_style.h).
#pragma once

#include <string_view>

#include "libconvert/base/text_style.h"

namespace q4 {

// `color` is "auto", "always" or "never". auto: colour on a terminal, unless TERM is "dumb" or unset or NO_COLOR is set
// and not empty (https://no-color.org). Line drawing characters and shortened names only on a terminal, the former only
// if LC_ALL, LC_CTYPE or LANG says UTF-8. The width is the terminal's, or COLUMNS; 100 in a pipe.
TextStyle StyleOfStdout(std::string_view color);

}  // namespace q4
