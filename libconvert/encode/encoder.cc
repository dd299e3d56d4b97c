#include "libconvert/encode/encoder.h"

#include <array>

#include "libconvert/encode/absmax.h"

namespace q4 {

std::span<const Encoder* const> Encoders() {
  static const std::array<const Encoder*, 1> encoders = {&AbsmaxEncoder()};
  return encoders;
}

const Encoder* FindEncoder(Q4Encoder id) {
  for (const Encoder* const encoder : Encoders()) {
    if (encoder->id() == id) return encoder;
  }
  return nullptr;
}

const Encoder& EncoderOf(Q4Encoder id) { return *FindEncoder(id); }

std::vector<std::string> EncoderNames() {
  std::vector<std::string> names;
  for (const Q4EncoderRow& row : Q4NamedEncoders()) names.emplace_back(row.name);
  return names;
}

Proof ProofOf(Q4Encoder id) {
  const Encoder* const encoder = FindEncoder(id);
  return encoder == nullptr ? Proof::kNone : encoder->proof();
}

std::uint64_t EncodeSlab(const Encoder& encoder, const KernelTable& kernels, const SlabShape& shape,
                         const std::uint8_t* x, std::uint8_t* codes, float* scales, const float* decoded,
                         TiledStats* stats) {
  for (const Tile& tile : CutIntoTiles(shape, stats)) {
    SlabShape tile_shape = shape;
    tile_shape.elems = tile.elems;
    const std::uint64_t bad = encoder.ChooseCodes(kernels, tile_shape, x + tile.first * FloatSize(shape.type),
                                                  scales + tile.first_block, codes + tile.first / 2);
    // Tiles come in order, so this is the slab's first bad element; the rest is not looked at (numerics Q1.4).
    if (bad != kAllFinite) return tile.first + bad;
    // At once, while x and the codes are in the cache. Errors are those of the scales that a reader will get.
    TakeTileStats(kernels, shape, tile, x, codes, decoded != nullptr ? decoded : scales);
  }
  return kAllFinite;
}

}  // namespace q4
