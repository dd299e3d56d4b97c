// How plain-text reports are drawn: for a pipe (the default) or for a terminal. Libraries are told, they never ask the
// terminal themselves; tools/terminal.h does.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace q4 {

struct TextStyle {
  bool color = false;       // ANSI escape sequences
  bool unicode = false;     // box drawing and block elements; else ASCII
  bool shorten = false;     // long names are cut in the middle to fit `width`; never in a pipe, where tools read them
  std::size_t width = 100;  // columns
};

enum class Tone { kHeading, kName, kGood, kWarning, kError, kFaint };

// `text` in a colour, or as it is.
std::string Paint(const TextStyle& style, Tone tone, std::string_view text);

// Columns that `text` takes on a terminal. REQUIRES: UTF-8 without control characters, as Printable() gives. East Asian
// wide characters count as one.
std::size_t DisplayWidth(std::string_view text);

// `text`, or its beginning and its end with "..." between them, at most `columns` wide (but at least 8).
std::string ShortenMiddle(std::string_view text, std::size_t columns);

// A bar of `fraction` (0 to 1) of `columns`.
std::string BarText(const TextStyle& style, double fraction, std::size_t columns);

}  // namespace q4
