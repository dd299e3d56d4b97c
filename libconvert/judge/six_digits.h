// Numbers of messages.
#pragma once

#include <string>

#include "fmt/format.h"

namespace q4 {

// For people: six digits, or all of them where six could not be told from `other`, which stands beside it.
inline std::string SixDigits(double value, double other) {
  std::string text = fmt::format("{:.6g}", value);
  return value != other && text == fmt::format("{:.6g}", other) ? fmt::to_string(value) : text;
}

}  // namespace q4
