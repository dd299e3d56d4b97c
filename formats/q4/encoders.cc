#include "formats/q4/encoders.h"

#include <algorithm>
#include <array>

namespace q4 {
namespace {

constexpr std::array<Q4EncoderRow, 3> kRows = {{
    {Q4Encoder::kNone, "none", false, true},
    {Q4Encoder::kAbsmax, "absmax", true, true},
    {Q4Encoder::kMse, "mse", false, false},
}};

template <typename Matches>
const Q4EncoderRow* Find(std::span<const Q4EncoderRow> among, const Matches& matches) {
  const auto found = std::find_if(among.begin(), among.end(), matches);
  return found == among.end() ? nullptr : &*found;
}

}  // namespace

std::span<const Q4EncoderRow> Q4EncoderRows() { return kRows; }

std::span<const Q4EncoderRow> Q4NamedEncoders() { return Q4EncoderRows().subspan(1); }

const Q4EncoderRow* FindQ4Encoder(Q4Encoder encoder) {
  return Find(Q4EncoderRows(), [encoder](const Q4EncoderRow& row) { return row.encoder == encoder; });
}

const Q4EncoderRow* FindQ4Encoder(std::string_view name) {
  return Find(Q4NamedEncoders(), [name](const Q4EncoderRow& row) { return row.name == name; });
}

std::string_view Q4EncoderName(Q4Encoder encoder) { return FindQ4Encoder(encoder)->name; }

}  // namespace q4
