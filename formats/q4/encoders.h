// Who chose a tensor's scales and codes: the encoders that a container can name, as a table (docs/format.md F3.4). What
// an encoder computes stands in libconvert/encode/; what a reader may expect of its work stands here.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace q4 {

// Values are stored in files and never change. kNone: nobody of ours, as in an unquantized tensor or one that was taken
// over with its codes.
enum class Q4Encoder : std::uint8_t { kNone = 0, kAbsmax = 1, kMse = 2, kWeighted = 3, kFeedback = 4 };

// What q4verify may demand of a tensor's scales and codes when it has the source, whether this version can run the
// encoder or not. A container is judged by the encoder that it names, so a forger who names another one than was used
// gets that one's demands.
struct EncoderProof {
  // Scales and codes are what the encoder chooses again, bit for bit; nothing else is asked then. Of a calibrated one
  // only with its calibration file.
  bool recompute;
  // Each code is the nearest one under the scale that is stored or under the block's largest magnitude, up to ties: of
  // a bitsandbytes checkpoint with nested scales the latter holds. An encoder that moves codes to make up for errors
  // elsewhere has neither.
  bool nearest;
  // The most that the tensor's sum of squared errors may be, in units of what absmax makes of the same source with the
  // same type, block size and nesting. Where codes are not unique, this is what keeps other weights out.
  double most_error;
  // A tensor with nested scales of which it would make nothing better is absmax's, and says so (numerics Q9.9).
  bool nested_gives_way;
};

// A row of the table.
struct Q4EncoderRow {
  Q4Encoder encoder;
  // "absmax": on the command line, in recipes and reports. "none" of kNone.
  std::string_view name;
  // Whether a block's scale is its largest magnitude: then no fp32 scale is negative, and every block that is not zero
  // has an extreme code. An encoder that searches may turn a block around or cut its extremes off.
  bool absmax_scales;
  // Whether the name of a treatment means this encoder when it names none: what everybody expects, and nobody.
  bool implied;
  // Whether it looks at a calibration file beside the weights (formats/calibration). What the file does not name is
  // left to `mse`; and whoever has not got the file cannot compute it again.
  bool calibrated;
  // Of one that is: whether its codes follow from a whole tensor and the Hessian of its inputs, and who takes a tensor
  // of which the calibration has not what this one needs (kNone of the others).
  bool needs_hessian;
  Q4Encoder otherwise;
  EncoderProof proof;
};

// Every encoder a container of version 1 may name, kNone first, in the order of their values.
std::span<const Q4EncoderRow> Q4EncoderRows();
// The same without kNone: what can be asked for.
std::span<const Q4EncoderRow> Q4NamedEncoders();

// nullptr when there is no such encoder, which untrusted bytes may claim.
const Q4EncoderRow* FindQ4Encoder(Q4Encoder encoder);
// nullptr when none that can be asked for is called so.
const Q4EncoderRow* FindQ4Encoder(std::string_view name);

// REQUIRES: the encoder is one of Q4EncoderRows(), as in every tensor that ValidateQ4Tensor() accepts.
std::string_view Q4EncoderName(Q4Encoder encoder);
// REQUIRES: as above.
const EncoderProof& ProofOf(Q4Encoder encoder);

}  // namespace q4
