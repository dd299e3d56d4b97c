// One UTF-8 decoder serves both the check and the escaping, so that they cannot disagree on what is well-formed.
#include "formats/base/text.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <iterator>

namespace q4 {
namespace {

struct CodePoint {
  std::uint32_t value = 0;
  std::size_t bytes = 0;  // 0: the text does not begin with a well-formed sequence
};

// Decodes the sequence at the start of `text`, which is not empty (RFC 3629). The lead byte fixes the length; the
// bounds on the value then exclude overlong forms and surrogates, which would let one character be spelled in two ways.
CodePoint DecodeUtf8(std::string_view text) {
  const auto byte = [text](std::size_t i) { return static_cast<std::uint8_t>(text[i]); };
  const std::uint8_t lead = byte(0);
  if (lead < 0x80) return {lead, 1};
  std::size_t length = 0;
  std::uint32_t value = 0;
  // Anything below would be an overlong form.
  std::uint32_t smallest = 0;
  // 0xC0 and 0xC1 could only begin overlong forms, 0xF5 and above only values beyond U+10FFFF.
  if (lead >= 0xC2 && lead <= 0xDF) {
    length = 2, value = lead & 0x1Fu, smallest = 0x80;
  } else if (lead >= 0xE0 && lead <= 0xEF) {
    length = 3, value = lead & 0x0Fu, smallest = 0x800;
  } else if (lead >= 0xF0 && lead <= 0xF4) {
    length = 4, value = lead & 0x07u, smallest = 0x10000;
  } else {
    return {};
  }
  if (text.size() < length) return {};
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xC0u) != 0x80) return {};
    value = (value << 6) | (byte(i) & 0x3Fu);
  }
  const bool surrogate = value >= 0xD800 && value <= 0xDFFF;
  if (value < smallest || surrogate || value > 0x10FFFF) return {};
  return {value, length};
}

// Characters that a terminal acts on, that break a line, that reorder or change what is shown around them, or that show
// nothing, so that two texts would look alike; and what is no character. Others may look strange, but they change
// nothing outside of their own place. Bidirectional controls and most others are of Unicode's category Cf; the letters
// and marks among them are those of Default_Ignorable_Code_Point.
constexpr struct {
  std::uint32_t first, last;
} kUnsafe[] = {
    {0x00, 0x1F},       {0x7F, 0x9F},        // C0, DEL, C1
    {0xAD, 0xAD},       {0x34F, 0x34F},      // soft hyphen, grapheme joiner
    {0x61C, 0x61C},     {0x115F, 0x1160},    // Arabic letter mark; Hangul fillers, here and below
    {0x17B4, 0x17B5},   {0x180B, 0x180F},    // Khmer inherent vowels, Mongolian selectors and separator
    {0x200B, 0x200F},   {0x2028, 0x202E},    // zero widths and marks of direction; separators, embeddings, overrides
    {0x2060, 0x206F},   {0x3164, 0x3164},    // joiners, invisible operators, isolates
    {0xFDD0, 0xFDEF},   {0xFE00, 0xFE0F},    // noncharacters, variation selectors
    {0xFEFF, 0xFEFF},   {0xFFA0, 0xFFA0},    // byte order mark
    {0xFFF0, 0xFFFB},   {0x1BCA0, 0x1BCA3},  // interlinear annotation, shorthand format controls
    {0x1D173, 0x1D17A}, {0xE0000, 0xE0FFF},  // musical controls, tags and more selectors
};

bool IsUnsafe(std::uint32_t c) {
  if ((c & 0xFFFEu) == 0xFFFE) return true;  // the last two of each plane are no characters
  return std::any_of(std::begin(kUnsafe), std::end(kUnsafe),
                     [c](const auto& range) { return c >= range.first && c <= range.last; });
}

// Whether `text` begins as an escape of Printable() does: a text that has it would look like the character.
bool BeginsLikeEscape(std::string_view text) {
  const auto is_hex = [](char c) { return std::isxdigit(static_cast<unsigned char>(c)) != 0; };
  return text.size() >= 4 && text[0] == '\\' && text[1] == 'x' && is_hex(text[2]) && is_hex(text[3]);
}

// `was_escaped`: what looks like an escape is one.
std::string Escaped(std::string_view text, std::size_t max_bytes, bool was_escaped) {
  std::string out;
  while (!text.empty()) {
    const CodePoint c = DecodeUtf8(text);
    // An ill-formed byte is escaped alone: the next one may begin a good sequence.
    const std::size_t bytes = c.bytes == 0 ? 1 : c.bytes;
    const bool escape = c.bytes == 0 || IsUnsafe(c.value) || (!was_escaped && BeginsLikeEscape(text));
    // An escaped byte takes four characters. Room is checked per character, so that none is cut in half.
    if (out.size() + (escape ? 4 * bytes : bytes) > max_bytes) {
      out += "...";
      break;
    }
    if (escape) {
      for (const char byte : text.substr(0, bytes)) {
        std::array<char, 5> hex{};
        std::snprintf(hex.data(), hex.size(), "\\x%02x", static_cast<unsigned>(static_cast<std::uint8_t>(byte)));
        out += hex.data();
      }
    } else {
      out += text.substr(0, bytes);
    }
    text.remove_prefix(bytes);
  }
  return out;
}

}  // namespace

std::string Printable(std::string_view text, std::size_t max_bytes) { return Escaped(text, max_bytes, false); }

std::string Printable(Shown shown, std::size_t max_bytes) { return Escaped(shown.text, max_bytes, true); }

bool IsUtf8(std::string_view text) {
  // Most names are ASCII. Eight bytes at a time have no high bit set; the rest is decoded from the first word that has.
  std::uint64_t word = 0;
  while (text.size() >= sizeof word) {
    std::memcpy(&word, text.data(), sizeof word);
    if ((word & 0x8080808080808080u) != 0) break;
    text.remove_prefix(sizeof word);
  }
  while (!text.empty()) {
    const CodePoint c = DecodeUtf8(text);
    if (c.bytes == 0) return false;
    text.remove_prefix(c.bytes);
  }
  return true;
}

// A `*` that turns out too short takes one character more; only the last one needs to.
bool MatchesWildcards(std::string_view pattern, std::string_view text) {
  // `star` is the last '*' passed, `resume` where in the text its match ends so far.
  std::size_t p = 0, t = 0, star = std::string_view::npos, resume = 0;
  while (t < text.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      resume = t;
    } else if (p < pattern.size() && pattern[p] == text[t]) {
      ++p;
      ++t;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      t = ++resume;
    } else {
      return false;
    }
  }
  // What is left of the pattern must match nothing.
  return pattern.find_first_not_of('*', p) == std::string_view::npos;
}

std::string HumanBytes(unsigned long long bytes) {
  constexpr std::array<const char*, 7> kUnits = {"B", "kB", "MB", "GB", "TB", "PB", "EB"};
  if (bytes < 1000) return std::to_string(bytes) + " B";
  double value = static_cast<double>(bytes);
  std::size_t unit = 0;
  // From 999.5 on three digits would print as 1000, so the next unit begins there. 9.995 and 99.95 below are the same
  // border one and two decimals further.
  while (value >= 999.5 && unit + 1 < kUnits.size()) {
    value /= 1000;
    ++unit;
  }
  const int decimals = value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
  std::array<char, 32> buffer{};
  std::snprintf(buffer.data(), buffer.size(), "%.*f %s", decimals, value, kUnits[unit]);
  return buffer.data();
}

std::string QuotedChoice(std::span<const std::string> words) {
  std::string text;
  for (const std::string& word : words) {
    if (!text.empty()) text += &word == &words.back() ? " or " : ", ";
    text.append("\"").append(word).append("\"");
  }
  return text;
}

std::string AtOffset(unsigned long long offset) { return "offset " + std::to_string(offset); }

}  // namespace q4
