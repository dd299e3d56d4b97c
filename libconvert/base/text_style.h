// How plain-text reports are drawn: for a pipe (the default) or for a terminal. Libraries are told, they never ask the
// terminal themselves; tools/terminal.h does.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace q4 {

// The defaults are those of a pipe.
struct TextStyle {
  bool color = false;       // ANSI escape sequences
  bool unicode = false;     // box drawing and block elements; else ASCII
  bool shorten = false;     // long names are cut in the middle to fit `width`; never in a pipe, where tools read them
  std::size_t width = 100;  // columns
};

// What a text means, not how it looks: the escape sequences are chosen in text_style.cc.
enum class Tone { kHeading, kName, kGood, kWarning, kError, kFaint };

// `text` in a colour, or as it is. With style.color the text is followed by a reset, so painted texts can be joined.
std::string Paint(const TextStyle& style, Tone tone, std::string_view text);

// Columns that `text` takes on a terminal. REQUIRES: UTF-8 without control characters, as Printable() gives. East Asian
// wide characters count as one.
std::size_t DisplayWidth(std::string_view text);

// `text`, or its beginning and its end with "..." between them, at most `columns` wide (but at least 8). Widths as
// DisplayWidth counts them; never cuts inside a UTF-8 sequence.
std::string ShortenMiddle(std::string_view text, std::size_t columns);

// A bar of `fraction` (0 to 1) of `columns`. In eighths of a block with `style.unicode`, else in '#'. Fractions outside
// 0 to 1 are taken for the nearer end.
std::string BarText(const TextStyle& style, double fraction, std::size_t columns);

}  // namespace q4
