// Pieces of the plain-text reports: numbers, fields and aligned tables. Pure; nothing is escaped here: names go through
// Printable() before.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "formats/base/counted.h"
#include "libconvert/base/text_style.h"

namespace q4 {

// For Printable(): a name is shown whole, each of its 4096 bytes escaped at worst.
inline constexpr std::size_t kWholeName = std::size_t{4} * 4096;

// "3.125": bits per element with three decimals; "-" without elements.
std::string BitsPer(std::uint64_t bytes, std::uint64_t elems);

// "46.74 %"; "-" of nothing.
std::string Percent(std::uint64_t part, std::uint64_t whole);

// "1 file", "3 files", "2 of 3 files".
std::string ShardsText(std::size_t present, std::uint32_t count);

// A line of a report: its name in a column of its own, then the value. Two spaces, the name padded to 12 columns, the
// value, a line feed.
std::string Field(std::string_view name, const std::string& value);
// The same for a terminal: a value that is too long for it goes on below itself, broken at blanks. What has none and is
// too long for its column, as a digest is, begins further left.
std::string Field(std::string_view name, const std::string& value, const TextStyle& style);

// Columns as wide as their widest cell; numbers to the right. On a terminal that is too narrow, columns are left out,
// and a last line names them: names and numbers are shown whole or not at all.
class Table {
 public:
  // A heading that begins with '?' and a digit may be left out, those of the smallest digit first; one that (then)
  // begins with '<' is left-aligned.
  explicit Table(std::vector<std::string> headings);
  // A cell for each heading.
  void Add(std::vector<std::string> row) { rows_.push_back(std::move(row)); }
  // All rows, the headings first, two spaces before each column and none at the end of a line; each line ends in '\n'.
  std::string Text(const TextStyle& style = {}) const;

 private:
  // By column: whether it is left-aligned; when it is left out, 0 for never. Then all rows, the headings being the
  // first.
  std::vector<bool> left_;
  std::vector<int> optional_;
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace q4
