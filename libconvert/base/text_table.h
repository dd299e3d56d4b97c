// Pieces of the plain-text reports: numbers, fields and aligned tables. Pure; nothing is escaped here: names go through
// Printable() before.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "libconvert/base/text_style.h"

namespace q4 {

// 10616832 -> "10,616,832", whatever the locale. For people; JSON has plain numbers.
std::string Grouped(std::uint64_t number);

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

// Columns as wide as their widest cell; numbers to the right.
class Table {
 public:
  // A heading that begins with '<' is left-aligned; one that then begins with '~' holds names, which may be shortened
  // so that the table fits a terminal.
  explicit Table(std::vector<std::string> headings);
  // A cell for each heading.
  void Add(std::vector<std::string> row) { rows_.push_back(std::move(row)); }
  // All rows, the headings first, two spaces before each column and none at the end of a line; each line ends in '\n'.
  std::string Text(const TextStyle& style = {}) const;

 private:
  // By column; then the column that may be shortened, and all rows, the headings being the first.
  std::vector<bool> left_;
  std::size_t names_ = static_cast<std::size_t>(-1);  // the column that may be shortened
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace q4
