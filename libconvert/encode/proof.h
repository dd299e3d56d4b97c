// What q4verify may demand of a tensor's scales and codes when it has the source: a row for each encoder that a
// container can name, whether this version can run it or not. A container that names an encoder is judged by that
// encoder's row, so a forger who names another one than was used gets that one's demands.
#pragma once

#include <span>

#include "formats/q4/encoders.h"

namespace q4 {

struct EncoderProof {
  Q4Encoder encoder;
  // Scales and codes are what the encoder chooses again, bit for bit; nothing else is asked then.
  bool recompute;
  // Each code is the nearest one under the scale that is stored or under the block's largest magnitude, up to ties: of
  // a bitsandbytes checkpoint with nested scales the latter holds. An encoder that moves codes to make up for errors
  // elsewhere has neither.
  bool nearest;
  // The most that the tensor's sum of squared errors may be, in units of what absmax makes of the same source with the
  // same type, block size and nesting. Where codes are not unique, this is what keeps other weights out.
  double most_error;
};

// In the order of Q4EncoderRows(), one for each.
std::span<const EncoderProof> EncoderProofs();
// REQUIRES: the encoder is one of Q4EncoderRows(), as in every tensor that ValidateQ4Tensor() accepts.
const EncoderProof& ProofOf(Q4Encoder encoder);

// How much farther than the nearest code a chosen one may lie, as a share of the scale: what the bounds of
// bitsandbytes' CUDA kernels and rounding make of a tie (numerics Q11).
inline constexpr double kTieSlack = 1e-5;

}  // namespace q4
