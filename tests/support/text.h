// Counting in texts.
#pragma once

#include <cstddef>
#include <string_view>

namespace q4::test {

// How often `part` occurs, overlaps included.
inline std::size_t Count(std::string_view text, std::string_view part) {
  std::size_t count = 0;
  for (std::size_t at = text.find(part); at != std::string_view::npos; at = text.find(part, at + 1)) ++count;
  return count;
}

}  // namespace q4::test
