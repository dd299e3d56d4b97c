// Numbers and what they count, for people: the one place that knows how a text says one thing and how it says several.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace q4 {

// 10616832 -> "10,616,832", whatever the locale. JSON has plain numbers.
std::string Grouped(std::uint64_t number);

// "1 tensor", "2,048 tensors". `many`: the plural, where it is not `one` and an s.
std::string Counted(std::uint64_t number, std::string_view one, std::string_view many = {});

}  // namespace q4
