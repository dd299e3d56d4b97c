// The table of encoders, and the loop that puts a slab through one of them. The table is short and searched from front
// to back; encoders that are only reserved have a row in formats/q4/encoders.cc and none here.
#include "libconvert/encode/encoder.h"

#include <array>

#include "libconvert/encode/absmax.h"
#include "libconvert/encode/mse.h"

namespace q4 {

std::span<const Encoder* const> Encoders() {
  // Made at the first call, so that it is there for whoever asks before main() begins.
  static const std::array<const Encoder*, 4> encoders = {&AbsmaxEncoder(), &MseEncoder(), &WeightedEncoder(),
                                                         &FeedbackEncoder()};
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
  // Reserved ones too: a name that is known but not built has an error of its own, which says so.
  for (const Q4EncoderRow& row : Q4NamedEncoders()) names.emplace_back(row.name);
  return names;
}

std::uint64_t SearchingEncoder::ChooseCodes(const KernelTable& kernels, const SlabShape& shape, const std::uint8_t* x,
                                            float* scales, std::uint8_t* codes) const {
  const std::uint64_t bad = ChooseScales(kernels, shape, x, scales);
  if (bad == kAllFinite) CodesUnder(kernels, shape, x, scales, codes);
  return bad;
}

void SearchingEncoder::CodesUnder(const KernelTable& kernels, const SlabShape& shape, const std::uint8_t* x,
                                  const float* decoded, std::uint8_t* codes) {
  kernels.codes_under(shape.type, shape.book(), x, shape.elems, shape.block_size, decoded, codes);
}

bool GivesWay(std::span<const NestedLoss> losses) {
  NestedLoss sum;
  for (const NestedLoss& group : losses) {
    sum.error += group.error;
    sum.absmax_floor += group.absmax_floor;
  }
  return !(sum.error < sum.absmax_floor);
}

std::uint64_t EncodeSlab(const Encoder& encoder, const KernelTable& kernels, const SlabShape& shape,
                         const std::uint8_t* x, std::uint8_t* codes, float* scales, const float* decoded,
                         TiledStats* stats) {
  for (const Tile& tile : CutIntoTiles(shape, stats)) {
    const SlabShape tile_shape = PartOf(shape, tile.first, tile.elems);
    const std::uint8_t* const tile_x = x + tile.first * FloatSize(shape.type);
    std::uint64_t bad = kAllFinite;
    if (decoded != nullptr && encoder.searching() != nullptr) {
      SearchingEncoder::CodesUnder(kernels, tile_shape, tile_x, decoded + tile.first_block, codes + tile.first / 2);
    } else {
      bad = encoder.ChooseCodes(kernels, tile_shape, tile_x, scales + tile.first_block, codes + tile.first / 2);
    }
    // Codes lie two to a byte, and a tile begins at an even element, so that its codes begin with a byte.
    // Tiles come in order, so this is the slab's first bad element; the rest is not looked at (numerics Q1.4).
    if (bad != kAllFinite) return tile.first + bad;
    // At once, while x and the codes are in the cache: that is what tiles are for. The error is that of the scales that
    // a reader decodes, not of those the codes were chosen under.
    TakeTileStats(kernels, shape, tile, x, codes, decoded != nullptr ? decoded : scales);
  }
  return kAllFinite;
}

}  // namespace q4
