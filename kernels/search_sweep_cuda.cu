// The exact sweep of the encoders mse and weighted on the device (docs/numerics.md Q9.7, Q16.2): search_sweep.cc,
// without its sort. A warp takes a block. Each element knows the scale at which it passes its next bound; the largest
// of these, the first element among equals, comes next. A lane keeps the next of its own elements and looks for it
// again only after it was taken, so a passage costs a maximum over the warp and the search of one lane. The sums, whose
// order is that of passages, are added by all lanes alike.
//
// Memory: 9 bytes of shared memory per element, read over and over; x is read three times.
// Same bits: products, quotients, sums and comparisons are those of search_sweep.cc, in its order.
#include <cstdint>

#include "kernels/cuda_launch.cuh"
#include "kernels/search_cuda.cuh"
#include "kernels/search_cuda_kernels.cuh"

namespace q4::cuda {
namespace {

struct SweepTable {
  double values[16];  // by count of bounds below; products with elements are exact
  float bounds[15];
  int negative_bounds, zero_bounds;
};
constexpr SweepTable SweepTableOf(CodeBook book) {
  const CodeBookTables& tables = TablesOf(book);
  SweepTable result{};
  for (std::size_t count = 0; count < 16; ++count)
    result.values[count] = static_cast<double>(tables.values[tables.order[count]]);
  for (std::size_t k = 0; k < 15; ++k) {
    result.bounds[k] = tables.bounds[k];
    result.negative_bounds += tables.bounds[k] < 0;
    result.zero_bounds += tables.bounds[k] == 0;
  }
  return result;
}
static __constant__ constexpr TablePerBook<SweepTable> kSweepTables = ForEachBook(SweepTableOf);

// One sign's way through the bounds, for a warp. Shared memory has room for the block: elements over the largest
// magnitude, the scale of the next passage (0: none), the count of bounds below.
struct SweptBlock {
  float* u;
  float* next;
  std::uint8_t* counts;
  std::uint32_t size;
  const SweepTable* table;
  const ElementWeights* weights;
  std::uint32_t first;  // the block's first element in the slab

  // What an error in an element counts; times 1.0 changes no bit.
  __device__ double WeightOf(std::uint32_t i) const {
    return weights->features == nullptr ? 1.0 : static_cast<double>(weights->features[FeatureOf(*weights, first + i)]);
  }

  // The scale at which an element with so many bounds below passes the next one outwards, or 0.
  __device__ float NextOf(float v, int count) const {
    const int bound = v > 0 ? count : count - 1;
    if (v == 0 || bound < 0 || bound > 14) return 0;
    return __fdiv_rn(v, table->bounds[bound]);
  }
};

constexpr float kSweepFrom = 1.6f, kSweepTo = 0.5f;

struct SweepBest {
  double uc = 0, cc = 0, score = -1, best_uc = 1, best_cc = 1;
  __device__ void Judge(double sign) {
    if (!(cc > 0)) return;
    const double now = __ddiv_rn(__dmul_rn(uc, uc), cc);
    if (!(now > score)) return;
    score = now;
    best_uc = sign * uc;  // exact
    best_cc = cc;
  }
};

__device__ void SweepSign(const SweptBlock& block, float sign, SweepBest* best) {
  const std::uint32_t lane = threadIdx.x % kWarp;
  __syncwarp();  // all have read the other sign's counts, which need not have changed since
  for (std::uint32_t i = lane; i < block.size; i += kWarp) {
    const float v = sign * block.u[i];
    int count = block.table->negative_bounds + (v > 0 ? block.table->zero_bounds : 0);
    float at = block.NextOf(v, count);
    while (at > kSweepFrom) {
      count += v > 0 ? 1 : -1;
      at = block.NextOf(v, count);
    }
    block.next[i] = at > kSweepTo ? at : 0.0f;
    block.counts[i] = static_cast<std::uint8_t>(count);
  }
  __syncwarp();
  best->uc = best->cc = 0;
  for (std::uint32_t i = 0; i < block.size; ++i) {
    const double value = block.table->values[block.counts[i]], h = block.WeightOf(i);
    best->uc = __dadd_rn(best->uc, __dmul_rn(__dmul_rn(static_cast<double>(sign * block.u[i]), h), value));
    best->cc = __dadd_rn(best->cc, __dmul_rn(__dmul_rn(value, value), h));
  }
  best->Judge(static_cast<double>(sign));

  // Scales are positive, so their bits ascend as they do; the smaller index wins among equals.
  const auto own_next = [&] {
    float at = 0;
    std::uint32_t element = 0;
    for (std::uint32_t i = lane; i < block.size; i += kWarp) {
      if (block.next[i] > at) {
        at = block.next[i];
        element = i;
      }
    }
    return std::uint64_t{BitsOf(at)} << 32 | (0xFFFFFFFF - element);
  };
  std::uint64_t own = own_next();
  for (;;) {
    std::uint64_t first = own;
    for (std::uint32_t w = kWarp / 2; w >= 1; w /= 2) {
      const std::uint64_t other = __shfl_xor_sync(kAllLanes, first, w);
      first = other > first ? other : first;
    }
    if (first >> 32 == 0) break;
    const std::uint32_t i = 0xFFFFFFFF - static_cast<std::uint32_t>(first);
    const float v = sign * block.u[i];
    const int from = block.counts[i], to = from + (v > 0 ? 1 : -1);
    __syncwarp();  // all have read the count
    const double old_value = block.table->values[from], new_value = block.table->values[to];
    const double h = block.WeightOf(i);
    const double gained = __dsub_rn(__dmul_rn(new_value, new_value), __dmul_rn(old_value, old_value));
    best->uc = __dadd_rn(best->uc, __dmul_rn(__dmul_rn(static_cast<double>(v), h), __dsub_rn(new_value, old_value)));
    best->cc = __dadd_rn(best->cc, __dmul_rn(gained, h));
    best->Judge(static_cast<double>(sign));
    if (i % kWarp == lane) {
      const float at = block.NextOf(v, to);
      block.next[i] = at > kSweepTo ? at : 0.0f;
      block.counts[i] = static_cast<std::uint8_t>(to);
      own = own_next();
    }
    __syncwarp();
  }
}

// One warp to a thread block: as many of them fit as their elements allow.
template <bool kBothSigns>
__global__ void __launch_bounds__(kWarp) SweepKernel(const SearchScalesArgs args, std::uint64_t blocks) {
  extern __shared__ __align__(16) unsigned char shared_bytes[];
  if (*args.first_bad != kAllFinite) return;
  const std::uint64_t full = args.n / args.block_size;
  const SweepTable& table = kSweepTables.of[BookIndex(args.book)];
  float* const u = reinterpret_cast<float*>(shared_bytes);
  auto* const counts = reinterpret_cast<std::uint8_t*>(u + 2 * args.block_size);
  for (std::uint64_t k = blockIdx.x; k < blocks; k += gridDim.x) {
    const float a = args.absmax[k];
    if (!(a >= kTiny)) continue;
    const bool is_tail = k == full;
    const LanesOfBlock block = LanesOf(args.type, args.x, args.n, args.block_size, {k, is_tail, true});
    const float p = __frcp_rn(a);
    __syncwarp();
    for (std::uint32_t i = threadIdx.x; i < block.size; i += kWarp) {
      u[i] = __fmul_rn(LoadElement(args.type, args.x, block.first + i), p);
    }
    __syncwarp();
    const SweptBlock swept = {
        u, u + args.block_size, counts, block.size, &table, &args.weights, static_cast<std::uint32_t>(block.first)};
    SweepBest best;
    SweepSign(swept, 1, &best);
    if constexpr (kBothSigns) SweepSign(swept, -1, &best);
    const float wanted = SnappedScale(a, __double2float_rn(__ddiv_rn(best.best_uc, best.best_cc)));
    const float chosen = args.scales[k];
    // The first half of the warp takes the error of what was chosen, the second that of the sweep's scale.
    const bool is_second = threadIdx.x >= kBlockLanes;
    const float s = is_second && IsUsableScale(args.type, wanted) ? wanted : chosen;
    const float m = SignedDivisor(s), r = __frcp_rn(m);
    double sum = 0;
    for (std::uint32_t i = threadIdx.x % kBlockLanes; i < block.size; i += kBlockLanes) {
      const float x = LoadElement(args.type, args.x, block.first + i);
      const float t = is_tail ? __fdiv_rn(x, m) : __fmul_rn(x, r);
      int count = 0;
      for (int b = 0; b < 15; ++b) count += t > table.bounds[b];
      // The table's values are fp32 numbers.
      const float y = __fmul_rn(__double2float_rn(table.values[count]), s);
      const double e = __dsub_rn(static_cast<double>(x), static_cast<double>(y));
      sum = __dadd_rn(sum, __dmul_rn(__dmul_rn(e, e), swept.WeightOf(i)));
    }
    sum = FoldLanes(sum);
    const double other = __shfl_xor_sync(kAllLanes, sum, kBlockLanes);
    if (threadIdx.x == kBlockLanes && sum < other) args.scales[k] = s;
  }
}

}  // namespace

KernelError SweepScales(const SearchScalesArgs& args, StreamHandle stream) {
  const std::uint64_t blocks = BlockCount(args.n, args.block_size);
  const std::size_t bytes = std::size_t{args.block_size} * (2 * sizeof(float) + 1);
  const auto launch = [&](auto kernel) -> KernelError {
    if (KernelError error = AllowSharedMemory(kernel, bytes); !error.ok()) return error;
    unsigned grid = 0;
    if (KernelError error = ResidentGrid(kernel, static_cast<int>(kWarp), blocks, &grid, bytes); !error.ok())
      return error;
    kernel<<<grid, kWarp, bytes, RawStream(stream)>>>(args, blocks);
    return CheckLaunch("sweep scales");
  };
  return TriesBothSigns(args.book) ? launch(SweepKernel<true>) : launch(SweepKernel<false>);
}

}  // namespace q4::cuda
