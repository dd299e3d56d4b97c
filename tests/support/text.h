// Texts as tests need them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace q4::test {

// The characters as bytes; `text` must outlive them.
inline std::span<const std::uint8_t> AsBytes(std::string_view text) {
  return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}

// How often `part` occurs, overlaps included.
inline std::size_t Count(std::string_view text, std::string_view part) {
  std::size_t count = 0;
  for (std::size_t at = text.find(part); at != std::string_view::npos; at = text.find(part, at + 1)) ++count;
  return count;
}

}  // namespace q4::test
