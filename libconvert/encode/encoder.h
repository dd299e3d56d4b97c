// How scales and codes are chosen: an encoder for each entry of formats/q4/encoders.h that this version can run.
// Engine, plan and q4verify ask the encoder and never which one it is; a new one is a file here and a row in
// encoder.cc.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "formats/q4/encoders.h"
#include "kernels/kernels.h"
#include "libconvert/scheme/slab.h"

namespace q4 {

// What q4verify may demand of a tensor's scales and codes when it has the source.
enum class Proof : std::uint8_t {
  kRecompute,  // they are what the encoder chooses again, bit for bit
  kNearest,    // the scales are free; each code is the nearest one under its decoded scale
  kNone,       // nothing: who chose them, or what else was looked at, is not known here
};

// Has no state: one object per encoder, for all threads. All functions see whole blocks, but for a tensor's last; what
// they choose depends on the block alone, never on how a tensor was cut.
class Encoder {
 public:
  virtual ~Encoder() = default;

  virtual Q4Encoder id() const = 0;
  std::string_view name() const { return Q4EncoderName(id()); }
  virtual Proof proof() const = 0;

  // The scales of the elements at `x`, before they are nested: scales[BlockCount(shape.elems, shape.block_size)].
  // Returns kAllFinite, or the smallest index of a NaN or infinite element; then outputs are unspecified.
  virtual std::uint64_t ChooseScales(const KernelTable& kernels, const SlabShape& shape, const std::uint8_t* x,
                                     float* scales) const = 0;

  // The same scales, and codes[PackedBytes(shape.elems)] with them. Codes are chosen under the scales before nesting.
  virtual std::uint64_t ChooseCodes(const KernelTable& kernels, const SlabShape& shape, const std::uint8_t* x,
                                    float* scales, std::uint8_t* codes) const = 0;
};

// Those that this version can run, in the order of their numbers in a container, which may name others.
std::span<const Encoder* const> Encoders();

// nullptr when this version cannot run it: it is reserved (`mse`), or kNone. To ask for such a one is an error with
// exit code 5, or the file would name an encoder that did not choose its codes.
const Encoder* FindEncoder(Q4Encoder id);
// REQUIRES: FindEncoder(id) != nullptr, as for every tensor of a ConversionPlan that is to be quantized.
const Encoder& EncoderOf(Q4Encoder id);

// The names of all that can be asked for, built or reserved, in that order.
std::vector<std::string> EncoderNames();

// What may be demanded of a container that names this encoder: kNone of one that this version cannot run.
Proof ProofOf(Q4Encoder id);

// The elements at `x` through the encoder, and their error statistics, in tiles that stay in the cache:
// codes[PackedBytes(elems)], scales[BlockCount(elems)] (before nesting). With `decoded` scales, statistics are taken
// with those. Returns as ChooseCodes().
std::uint64_t EncodeSlab(const Encoder& encoder, const KernelTable& kernels, const SlabShape& shape,
                         const std::uint8_t* x, std::uint8_t* codes, float* scales, const float* decoded,
                         TiledStats* stats);

}  // namespace q4
