// The error statistics of docs/numerics.md Q8: from slabs to a tensor, from tensors to a model, and the ratios that
// people read. The one copy of these definitions: converter, inspector, verifier and reports all use it.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "formats/q4/container.h"
#include "kernels/kernels.h"
#include "libconvert/scheme/slab.h"

namespace q4 {

// Folds the slabs of one tensor, in element order, into its statistics. The result does not depend on how the tensor
// was cut, because the group sums are added one by one (Q7.3, Q7.4). Not thread-safe: kernels run on any thread, and
// one thread at a time adds their results in order.
class TensorStatsAccumulator {
 public:
  // Adds a slab or a smaller piece. `first_elem` is its first element in the tensor, at a multiple of 256 blocks;
  // `block_size` counts elements. `slab` and `groups` are what KernelTable::error_stats wrote, with indices that count
  // from `first_elem`. REQUIRES: slabs come in element order without gaps.
  void AddSlab(std::uint64_t first_elem, std::uint32_t block_size, const SlabStats& slab,
               std::span<const GroupSums> groups);

  // The same for a slab that was worked on tile by tile.
  void AddSlab(std::uint64_t first_elem, std::uint32_t block_size, const TiledStats& slab);

  // The statistics of all that was added so far. More may be added afterwards.
  const Q4Stats& Finish() const { return stats_; }

 private:
  Q4Stats stats_;
};

// The ratios of Q8.3 to Q8.6, derived when they are printed. Undefined ones are infinite or NaN here and null in JSON.
// Never stored, never compared bitwise: log10 and sqrt of a report may differ in the last digit between C libraries.
struct DerivedStats {
  // Mean squared error per element, in squared units of the weights; rmse is its root.
  double mse = 0;
  double rmse = 0;
  // Mean error, with its sign, and mean magnitude of the error.
  double bias = 0;
  double mae = 0;
  // Squared errors over squared source values; infinity when only the source is all zero.
  double nmse = 0;
  // -10 log10(nmse); infinity when nmse is 0.
  double sqnr_db = 0;
  // Of the angle between source and decoded values, 1 for the same direction; 0 if one of them alone is all zero.
  double cosine = 1;
};
// Of a tensor or of totals. Without elements the means are 0.
DerivedStats Derive(const Q4Stats& stats);

// Totals over the quantized tensors of a model (Q8.11).
struct ModelStats {
  // How many tensors were added. Kept tensors and those without statistics are not among them.
  std::uint64_t tensors = 0;
  // Counts and sums are totals. The maxima are over all tensors; their indices count inside the tensors named below.
  Q4Stats total;
  // The first tensor with the maximum; "" if no tensor has any error.
  std::string max_abs_err_tensor;
  std::string max_gap_ratio_tensor;
  std::string worst_block_tensor;
};

// Adds one tensor to the totals. REQUIRES: tensors come in bytewise order of their names, because floating-point sums
// depend on the order (Q8.11).
void AddTensor(std::string_view name, const Q4Stats& stats, ModelStats* model);

// What people read first: "SQNR 20.612 dB, NMSE 0.00868, largest error 0.0961 in 'name'". The name is escaped and
// shortened for a terminal.
std::string ErrorSummary(const ModelStats& model);

// Shannon entropy of the codes in bits, 0 to 4: what a perfect coder of single codes would need per element. 0 without
// any codes. Compression of a container's codes cannot do much better than this.
double CodeEntropyBits(const Q4Stats& stats);

}  // namespace q4
