#include "formats/q4/encoders.h"

#include <algorithm>
#include <array>

namespace q4 {
namespace {

// Bounds with their reasons.
constexpr std::array<Q4EncoderRow, 5> kRows = {{
    // Taken over from bitsandbytes: its absmax encoder, whose scales are ours but for the nested ones, of which 0.17 %
    // are not the nearest on its CPU. On 48 tensors of its CPU and 12 of its CUDA kernels the error was at most
    // 1.000011 times ours, and no code farther off than the nearest by more than 1.3e-7 of its scale; with room for
    // releases and devices that were not measured.
    {Q4Encoder::kNone, "none", false, true, false, false, Q4Encoder::kNone, {false, true, 1.001, false}},
    {Q4Encoder::kAbsmax, "absmax", true, true, false, false, Q4Encoder::kNone, {true, true, 1.0, false}},
    // Never worse than absmax, by tensor at least (numerics Q9.9); room for sums of another order.
    {Q4Encoder::kMse, "mse", false, false, false, false, Q4Encoder::kNone, {true, true, 1.0 + 1e-9, true}},
    // Nearest codes, whatever counted; never worse than absmax by its weights, which the plain error knows nothing of.
    // Measured: 0.82 to 0.96 of absmax' with moments spread as those of real inputs, at most 1.52 with 16 times the
    // spread, 3.03 in layers of 8 rows and few columns, and 5.5 where one input of 61 is alive; twice that, rounded up.
    {Q4Encoder::kWeighted, "weighted", false, false, true, false, Q4Encoder::kMse, {true, true, 12.0, true}},
    // Moves codes to make up for errors elsewhere. Honest errors in the weights of a tensor were measured at up to 2.43
    // times those of absmax on MiniLM (FP4, few texts), and at up to 8.8 times where features differ much in size and
    // tokens are few; twice that, rounded up.
    {Q4Encoder::kFeedback, "feedback", false, false, true, true, Q4Encoder::kWeighted, {true, false, 18.0, true}},
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

const EncoderProof& ProofOf(Q4Encoder encoder) { return FindQ4Encoder(encoder)->proof; }

}  // namespace q4
