// Numbers and tables of the plain-text reports. Formatting goes through fmt, which does not look at the locale.
#include "libconvert/base/text_table.h"

#include <algorithm>

#include "fmt/format.h"
#include "formats/base/text.h"

namespace q4 {

// Three decimals tell block sizes apart: fp32 scales cost 32 / block size bits per element.
std::string BitsPer(std::uint64_t bytes, std::uint64_t elems) {
  return elems == 0 ? "-" : fmt::format("{:.3f}", 8 * static_cast<double>(bytes) / static_cast<double>(elems));
}

std::string Percent(std::uint64_t part, std::uint64_t whole) {
  return whole == 0 ? "-" : fmt::format("{:.2f} %", 100 * static_cast<double>(part) / static_cast<double>(whole));
}

// A count of 0 or 1 is that of a model in one file.
std::string ShardsText(std::size_t present, std::uint32_t count) {
  if (count <= 1) return "1 file";
  return (present == count ? "" : fmt::format("{} of ", present)) + Counted(count, "file");
}

std::string Field(std::string_view name, const std::string& value) { return fmt::format("  {:<12} {}\n", name, value); }

std::string Field(std::string_view name, const std::string& value, const TextStyle& style) {
  // What Field() puts before the value: two blanks, 12 columns and one more blank.
  constexpr std::size_t kValue = 15;
  if (!style.shorten || kValue + DisplayWidth(value) <= style.width) return Field(name, value);
  std::string text = fmt::format("  {:<12} ", name);
  std::size_t at = kValue;  // columns of the line
  bool begun = false;       // whether a piece stands in the line
  std::string_view rest = value;
  while (!rest.empty()) {
    const std::size_t end = std::min(rest.find(' '), rest.size());
    const std::string_view piece = rest.substr(0, end);
    const std::size_t width = DisplayWidth(piece);
    // The first piece keeps its column where it fits no line at all.
    if (at + (begun ? 1 : 0) + width > style.width && (begun || 2 + width <= style.width)) {
      text.erase(text.find_last_not_of(' ') + 1);  // of a name that stands alone
      const std::size_t indent = std::max<std::size_t>(2, std::min(kValue, style.width - std::min(style.width, width)));
      text += "\n" + std::string(indent, ' ');
      at = indent;
    } else if (begun) {
      text += " ";
      ++at;
    }
    text += piece;
    at += width;
    begun = true;
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  return text + "\n";
}

Table::Table(std::vector<std::string> headings) {
  // '?N' and '<' are marks for this constructor and not part of the heading.
  for (std::string& heading : headings) {
    const bool optional = heading.starts_with('?');
    optional_.push_back(optional ? heading[1] - '0' : 0);
    if (optional) heading.erase(0, 2);
    left_.push_back(heading.starts_with('<'));
    if (left_.back()) heading.erase(0, 1);
  }
  rows_.push_back(std::move(headings));
}

std::string Table::Text(const TextStyle& style) const {
  constexpr std::size_t kGap = 2;
  std::vector<std::size_t> widths(left_.size());
  for (const auto& row : rows_) {
    for (std::size_t c = 0; c < row.size(); ++c) widths[c] = std::max(widths[c], DisplayWidth(row[c]));
  }
  std::size_t total = 0;
  for (const std::size_t width : widths) total += width + kGap;
  std::vector<bool> shown(left_.size(), true);
  for (int digit = 1; style.shorten && digit <= 9; ++digit) {
    for (std::size_t c = 0; c < widths.size() && total > style.width; ++c) {
      if (optional_[c] != digit) continue;
      shown[c] = false;
      total -= widths[c] + kGap;
    }
  }
  std::string text, left_out;
  for (const auto& row : rows_) {
    std::string line;
    for (std::size_t c = 0; c < row.size(); ++c) {
      if (!shown[c]) continue;
      const std::string padding(widths[c] - DisplayWidth(row[c]), ' ');
      line += std::string(kGap, ' ') + (left_[c] ? row[c] + padding : padding + row[c]);
    }
    // A left-aligned last column leaves spaces that nobody sees and every comparison of outputs trips over.
    line.erase(line.find_last_not_of(' ') + 1);
    // Painted as a whole line, after the padding: escape sequences have no width but have length.
    text += (&row == &rows_.front() ? Paint(style, Tone::kHeading, line) : line) + "\n";
  }
  for (std::size_t c = 0; c < shown.size(); ++c) {
    if (!shown[c]) left_out += (left_out.empty() ? "" : ", ") + rows_.front()[c];
  }
  if (!left_out.empty()) text += Paint(style, Tone::kFaint, "  (a wider terminal shows " + left_out + ")") + "\n";
  return text;
}

}  // namespace q4
