// UTF-8 is counted by its leading bytes: every byte but a continuation byte (10xxxxxx) begins a character. That is
// enough for text which Printable() has made harmless.
#include "libconvert/base/text_style.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace q4 {
namespace {

bool IsContinuation(char c) { return (static_cast<unsigned char>(c) & 0xC0) == 0x80; }

// The byte at which the character number `index` begins.
std::size_t ByteOfCharacter(std::string_view text, std::size_t index) {
  // A stray continuation byte at the front belongs to no character and is passed over.
  std::size_t at = 0;
  while (at < text.size() && (index > 0 || IsContinuation(text[at]))) {
    if (!IsContinuation(text[at])) --index;
    ++at;
    while (at < text.size() && IsContinuation(text[at])) ++at;
  }
  return at;
}

// SGR sequences of the first eight colours, which every terminal has and which follow its theme.
std::string_view EscapeOf(Tone tone) {
  switch (tone) {
    case Tone::kHeading:
      return "\x1b[1m";
    case Tone::kName:
      return "\x1b[36m";
    case Tone::kGood:
      return "\x1b[32m";
    case Tone::kWarning:
      return "\x1b[33m";
    case Tone::kError:
      return "\x1b[1;31m";
    case Tone::kFaint:
      break;
  }
  return "\x1b[2m";
}

}  // namespace

// Each text is closed by a reset of its own, so that colours never nest or leak into the next line.
std::string Paint(const TextStyle& style, Tone tone, std::string_view text) {
  if (!style.color || text.empty()) return std::string(text);
  return std::string(EscapeOf(tone)) + std::string(text) + "\x1b[0m";
}

std::size_t DisplayWidth(std::string_view text) {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) { return !IsContinuation(c); }));
}

std::string ShortenMiddle(std::string_view text, std::size_t columns) {
  constexpr std::string_view kGap = "...";
  // "..." and a few characters on either side: shorter would name nothing.
  columns = std::max<std::size_t>(columns, 8);
  const std::size_t width = DisplayWidth(text);
  if (width <= columns) return std::string(text);
  const std::size_t kept = columns - kGap.size();
  const std::size_t end = kept / 2;  // the end of a name tells less than its beginning
  return std::string(text.substr(0, ByteOfCharacter(text, kept - end))) + std::string(kGap) +
         std::string(text.substr(ByteOfCharacter(text, width - end)));
}

std::string BarText(const TextStyle& style, double fraction, std::size_t columns) {
  // Length in columns, a fraction included.
  const double length = std::clamp(fraction, 0.0, 1.0) * static_cast<double>(columns);
  if (!style.unicode) return std::string(static_cast<std::size_t>(std::lround(length)), '#');
  // Eighths of a block, from the left.
  static constexpr std::array<std::string_view, 8> kParts = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
  const auto eighths = static_cast<std::size_t>(std::lround(length * 8));
  std::string bar;
  for (std::size_t i = 0; i < eighths / 8; ++i) bar += "█";
  return bar + std::string(kParts[eighths % 8]);
}

}  // namespace q4
