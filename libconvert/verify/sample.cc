// Every slab draws a lot from a hash instead of a random generator: no state, no order of drawing, and the same lots on
// every machine.
#include "libconvert/verify/sample.h"

#include <string>

namespace q4 {

std::vector<std::uint64_t> SlabSample::SlabsOf(std::string_view tensor, std::uint64_t count) const {
  std::vector<std::uint64_t> slabs;
  if (takes_all()) {
    for (std::uint64_t slab = 0; slab < count; ++slab) slabs.push_back(slab);
    return slabs;
  }
  // Each slab's lot is the XXH3 of root, name and number under the seed, scaled to [0, 1). Lots below the wanted share
  // are drawn; if there are none, the smallest. A larger percentage therefore takes all slabs of a smaller one.
  std::string key(root_.begin(), root_.end());
  key += tensor;
  const std::size_t number_at = key.size();
  key.resize(number_at + sizeof(std::uint64_t));
  std::uint64_t least = 0;
  double least_lot = 1;
  for (std::uint64_t slab = 0; slab < count; ++slab) {
    // Little-endian on every machine.
    for (std::size_t byte = 0; byte < sizeof slab; ++byte) key[number_at + byte] = static_cast<char>(slab >> 8 * byte);
    const std::uint64_t digest = Xxh3({reinterpret_cast<const std::uint8_t*>(key.data()), key.size()}, seed_);
    // The upper 53 bits, which a double holds exactly.
    const double lot = static_cast<double>(digest >> 11) * 0x1p-53;
    if (lot < percent_ / 100) slabs.push_back(slab);
    if (lot < least_lot) {
      least_lot = lot;
      least = slab;
    }
  }
  if (slabs.empty()) slabs.push_back(least);
  return slabs;
}

}  // namespace q4
