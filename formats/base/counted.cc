#include "formats/base/counted.h"

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

std::string Counted(std::uint64_t number, std::string_view one, std::string_view many) {
  std::string text = Grouped(number) + " ";
  if (number != 1 && !many.empty()) return text.append(many);
  text.append(one);
  return number == 1 ? text : text + "s";
}

}  // namespace q4
