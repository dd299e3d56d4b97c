// The head of a model card: the YAML between two lines of dashes that the hub reads. No YAML parser: a few scalar
// members of the top level, in the forms in which people write them; whatever is anything else is not there. Internal
// to libconvert/card/.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace q4 {

// What a card of a quantized model takes over from that of the original. "" and none where there is nothing, or nothing
// that can be written without quotes and escapes.
struct CardHead {
  std::vector<std::string> licenses;  // "apache-2.0"; several where the card has a list
  std::string license_name, license_link, pipeline_tag;
};

// How much of a card is looked at for its head: one that is longer has none.
inline constexpr std::size_t kCardHeadBytes = std::size_t{64} << 10;

// `text`: the beginning of any file whatever.
CardHead ParseCardHead(std::string_view text);

}  // namespace q4
