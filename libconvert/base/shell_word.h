// Words of commands that are printed to be typed again.
#pragma once

#include <string>
#include <string_view>

namespace q4 {

// The word as sh reads it: as it is where no character of it means anything, else in single quotes. Control characters
// stay what they are: a caller looks whether a terminal may be shown them.
std::string ShellWord(std::string_view word);

}  // namespace q4
