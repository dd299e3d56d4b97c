// Sums are added one by one in a fixed order, so that every way of cutting a tensor gives the same bits. Maxima keep
// the first of equals, which is the smallest index because slabs and tensors come in order.
//
// Three levels follow the same rules: a slab's statistics, which the kernels count from the slab's begin, go into a
// tensor's, which count from the tensor's begin, and these into a model's, where indices stay those of the named
// tensor.
#include "libconvert/model/stats.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "fmt/format.h"
#include "formats/base/text.h"

namespace q4 {
namespace {

void AddCounts(const Q4Stats& from, Q4Stats* to) {
  to->count += from.count;
  to->zero_blocks += from.zero_blocks;
  to->tiny_blocks += from.tiny_blocks;
  to->clipped += from.clipped;
  to->overflow += from.overflow;
  for (std::size_t code = 0; code < to->hist.size(); ++code) to->hist[code] += from.hist[code];
}

}  // namespace

void TensorStatsAccumulator::AddSlab(std::uint64_t first_elem, std::uint32_t block_size, const SlabStats& slab,
                                     std::span<const GroupSums> groups) {
  stats_.count += slab.count;
  // Counts of blocks add up, since no block lies in two slabs.
  stats_.zero_blocks += slab.zero_blocks;
  stats_.tiny_blocks += slab.tiny_blocks;
  stats_.clipped += slab.clipped;
  stats_.overflow += slab.overflow;
  for (std::size_t code = 0; code < stats_.hist.size(); ++code) stats_.hist[code] += slab.hist[code];
  // Not summed by slab first: (a + b) + (c + d) rounds otherwise than ((a + b) + c) + d, and a tensor's sums would then
  // depend on how it was cut.
  for (const GroupSums& group : groups) {
    stats_.sum_e += group.e;
    stats_.sum_abs_e += group.abs_e;
    stats_.sum_e2 += group.e2;
    stats_.sum_x2 += group.x2;
    stats_.sum_xy += group.xy;
  }
  // Strictly larger, so that an equal error further on does not move the index (Q8.2, Q8.10).
  if (slab.max_abs_err > stats_.max_abs_err) {
    stats_.max_abs_err = slab.max_abs_err;
    stats_.max_abs_err_index = first_elem + slab.max_abs_err_index;
  }
  stats_.max_gap_ratio = std::max(stats_.max_gap_ratio, slab.max_gap_ratio);
  if (slab.worst_block_e2 > stats_.worst_block_e2) {
    stats_.worst_block_e2 = slab.worst_block_e2;
    stats_.worst_block = first_elem / block_size + slab.worst_block;
  }
}

void TensorStatsAccumulator::AddSlab(std::uint64_t first_elem, std::uint32_t block_size, const TiledStats& slab) {
  std::span<const GroupSums> groups = slab.groups;
  // Groups of all tiles lie one after the other. Each tile begins with a whole group, so that their number follows from
  // its elements.
  for (const SlabStats& tile : slab.tiles) {
    const std::uint64_t count = GroupCount(BlockCount(tile.count, block_size));
    AddSlab(first_elem, block_size, tile, groups.first(count));
    groups = groups.subspan(count);
    first_elem += tile.count;
  }
}

DerivedStats Derive(const Q4Stats& stats) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  DerivedStats derived;
  if (stats.count != 0) {
    const double count = static_cast<double>(stats.count);
    derived.mse = stats.sum_e2 / count;
    derived.rmse = std::sqrt(derived.mse);
    derived.bias = stats.sum_e / count;
    derived.mae = stats.sum_abs_e / count;
  }
  // Q8.4: a source of zeros that decodes to zeros is without error; one that does not has no finite ratio.
  if (stats.sum_x2 != 0) {
    derived.nmse = stats.sum_e2 / stats.sum_x2;
  } else {
    derived.nmse = stats.sum_e2 == 0 ? 0 : kInfinity;
  }
  derived.sqnr_db = derived.nmse == 0 ? kInfinity : -10 * std::log10(derived.nmse);
  // S(y*y) is not recorded: (x - y)^2 = x^2 - 2xy + y^2 gives it from the sums that are, up to rounding, which may also
  // make it slightly negative.
  const double sum_y2 = std::max(0.0, stats.sum_e2 - stats.sum_x2 + 2 * stats.sum_xy);
  // Q8.6: two zero vectors agree; a zero vector has no direction in common with another one.
  if (stats.sum_x2 == 0 && sum_y2 == 0) {
    derived.cosine = 1;
  } else if (stats.sum_x2 == 0 || sum_y2 == 0) {
    derived.cosine = 0;
  } else {
    derived.cosine = stats.sum_xy / (std::sqrt(stats.sum_x2) * std::sqrt(sum_y2));
  }
  return derived;
}

void AddTensor(std::string_view name, const Q4Stats& stats, ModelStats* model) {
  // Sums of tensors are added as they are (Q8.11); the groups that they were made of are not recorded.
  Q4Stats& total = model->total;
  ++model->tensors;
  AddCounts(stats, &total);
  total.sum_e += stats.sum_e;
  total.sum_abs_e += stats.sum_abs_e;
  total.sum_e2 += stats.sum_e2;
  total.sum_x2 += stats.sum_x2;
  total.sum_xy += stats.sum_xy;
  if (stats.max_abs_err > total.max_abs_err) {
    total.max_abs_err = stats.max_abs_err;
    total.max_abs_err_index = stats.max_abs_err_index;
    model->max_abs_err_tensor = name;
  }
  if (stats.max_gap_ratio > total.max_gap_ratio) {
    total.max_gap_ratio = stats.max_gap_ratio;
    model->max_gap_ratio_tensor = name;
  }
  if (stats.worst_block_e2 > total.worst_block_e2) {
    total.worst_block_e2 = stats.worst_block_e2;
    total.worst_block = stats.worst_block;
    model->worst_block_tensor = name;
  }
}

std::string ErrorSummary(const ModelStats& model) {
  const DerivedStats derived = Derive(model.total);
  return fmt::format("SQNR {:.3f} dB, NMSE {:.6g}, largest error {:.6g} in '{}'", derived.sqnr_db, derived.nmse,
                     model.total.max_abs_err, Printable(model.max_abs_err_tensor));
}

double CodeEntropyBits(const Q4Stats& stats) {
  // The codes of all elements; the padding nibble of an odd count is not among them (Q8.1).
  std::uint64_t codes = 0;
  for (std::uint64_t n : stats.hist) codes += n;
  double bits = 0;
  for (std::uint64_t n : stats.hist) {
    // The limit of p log p at 0 is 0, but log2(0) is not finite.
    if (n == 0) continue;
    const double share = static_cast<double>(n) / static_cast<double>(codes);
    bits -= share * std::log2(share);
  }
  return bits;
}

}  // namespace q4
