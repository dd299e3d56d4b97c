// Numbers and tables of the plain-text reports. Formatting goes through fmt, which does not look at the locale.
#include "libconvert/base/text_table.h"

#include <algorithm>

#include "fmt/format.h"
#include "formats/base/text.h"

namespace q4 {

// By hand and not by a locale, which a host program may have changed.
std::string Grouped(std::uint64_t number) {
  const std::string digits = std::to_string(number);
  std::string grouped;
  for (std::size_t i = 0; i < digits.size(); ++i) {
    if (i != 0 && (digits.size() - i) % 3 == 0) grouped.push_back(',');
    grouped.push_back(digits[i]);
  }
  return grouped;
}

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
  return present == count ? fmt::format("{} files", count) : fmt::format("{} of {} files", present, count);
}

std::string Field(std::string_view name, const std::string& value) { return fmt::format("  {:<12} {}\n", name, value); }

Table::Table(std::vector<std::string> headings) {
  // '<' and '~' are marks for this constructor and not part of the heading.
  for (std::string& heading : headings) {
    left_.push_back(heading.starts_with('<'));
    if (left_.back()) heading.erase(0, 1);
    if (heading.starts_with('~')) {
      names_ = left_.size() - 1;
      heading.erase(0, 1);
    }
  }
  rows_.push_back(std::move(headings));
}

std::string Table::Text(const TextStyle& style) const {
  // Below kLeastName characters a name says nothing, and the table grows wider than the terminal.
  constexpr std::size_t kGap = 2, kLeastName = 16;
  std::vector<std::size_t> widths(left_.size());
  for (const auto& row : rows_) {
    for (std::size_t c = 0; c < row.size(); ++c) widths[c] = std::max(widths[c], DisplayWidth(row[c]));
  }
  // Only the column of names gives way: a cut number would be a wrong number.
  std::size_t total = 0;
  for (const std::size_t width : widths) total += width + kGap;
  // Subtraction of unsigned numbers: std::min keeps the rest from going below 0 where the other columns alone are too
  // wide.
  if (style.shorten && names_ < widths.size() && total > style.width) {
    const std::size_t others = total - widths[names_];
    widths[names_] = std::min(widths[names_], std::max(kLeastName, style.width - std::min(style.width, others)));
  }
  std::string text;
  for (const auto& row : rows_) {
    std::string line;
    for (std::size_t c = 0; c < row.size(); ++c) {
      const std::string cell = c == names_ && style.shorten ? ShortenMiddle(row[c], widths[c]) : row[c];
      const std::string padding(widths[c] - std::min(widths[c], DisplayWidth(cell)), ' ');
      line += std::string(kGap, ' ') + (left_[c] ? cell + padding : padding + cell);
    }
    // A left-aligned last column leaves spaces that nobody sees and every comparison of outputs trips over.
    line.erase(line.find_last_not_of(' ') + 1);
    // Painted as a whole line, after the padding: escape sequences have no width but have length.
    text += (&row == &rows_.front() ? Paint(style, Tone::kHeading, line) : line) + "\n";
  }
  return text;
}

}  // namespace q4
