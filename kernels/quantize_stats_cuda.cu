// Quantization with error statistics in one pass, for 16-bit elements in blocks of 32 or 64: see error_stats_cuda.cuh.
//
// Threads to data: a lane takes a whole block, and a warp a tile of 32 blocks and one group at a time. So the block's
// maximum, its codes and the tree of its sums (Q7.1) stay inside the lane, and every fp64 operation is one that the
// definition asks for. Rows of the tile come through shared memory: the warp copies them side by side, while it does
// the last of its work on the tile before, and each lane reads its own.
//
// A lane sums up two of the 16 sum lanes at a time, j and j + 8, and folds what it can at once. (A sum lane starts as
// its first element and not as 0 plus it, which can make a zero negative. The group's sum, which starts at 0, takes
// that back.)
//
// Memory: x is read once, 2 bytes per element, by asynchronous copies that overlap with the work on the tile before;
// 0.5 byte of codes per element and 4 bytes of scale per block are written. Nothing is read a second time but the few
// blocks that might raise a maximum.
// Occupancy: three thread blocks of 128 threads to a multiprocessor (launch bounds: at most 168 registers), because a
// lane holds its block's codes and two sets of five fp64 sums; 35 KiB of shared memory each with blocks of 64.
// Same bits: see error_stats_cuda.cuh, quantize_cuda.cuh for the encoder, and this proof:
//
// The gap ratio needs no estimate of its own: it is near 1, its largest value, only where t is near the decision bound
// that the encoder compares it with. Let the scale s be ordinary, d be the smallest |t - bound| of a block's elements,
// g = limits.gap at least 63/64, G the maximum so far, and H the largest half gap. If d > (1 - g) H + 2^-22, no gap
// ratio exceeds G. For t differs from u = x / s by at most 2^-22.99 (two roundings) and y / s from the code's value v
// by at most 2^-24, and bounds are midpoints within 2^-25. Then
// - if u lies between v and the bound, |x - y| / s < h - d + 2^-22, so the ratio is below 1 - (d - 2^-22) / H < g <= G;
// - if u lies between v and a cell border, the next bound is beyond that (EveryBoundKeepsOff), and the ratio is below
//   63/64 <= g;
// - if u lies between v and t, the ratio is below 2^-22 / 0.0026.
#include <cuda_pipeline_primitives.h>

#include <cstddef>
#include <cstdint>

#include "kernels/error_stats_cuda.cuh"
#include "kernels/quantize_cuda.cuh"

namespace q4::cuda {
namespace {

// ---- Cells with values

// A CodeCell (cuda_tables.cuh) and what its two codes decode to.
struct alignas(16) ValueCell {
  float bound;
  std::uint32_t codes;
  float low, high;  // of t <= bound, of t > bound
};

struct ValueCells {
  ValueCell cells[kCells];
};

// One 16-byte read then gives both the code and its value, which the statistics need next.
constexpr ValueCells ValueCellsOf(CodeBook book) {
  ValueCells result{};
  const auto& values = TablesOf(book).values;
  const CodeCells codes = CellsOf(book);
  for (int c = 0; c < kCells; ++c) {
    const CodeCell& cell = codes.cells[c];
    result.cells[c] = {cell.bound, cell.codes, values[cell.codes >> 28], values[cell.codes >> 24 & 15]};
  }
  return result;
}

static __constant__ constexpr TablePerBook<ValueCells> kValueCells = ForEachBook(ValueCellsOf);

constexpr float kLeastGapLimit = 63.0f / 64;
// The largest half gap, or a little more.
constexpr float LargestHalfGapOrMore(CodeBook book) { return static_cast<float>(LargestHalfGap(book) * (1 + 0x1p-20)); }
static __constant__ constexpr TablePerBook<float> kLargestHalfGaps = ForEachBook(LargestHalfGapOrMore);

// Bounds between different values lie farther from the cells' borders than 1/64 of their half gap.
constexpr bool EveryBoundKeepsOff(CodeBook book) {
  const ValueIntervals intervals = IntervalsOf(book);
  for (const float bound : TablesOf(book).bounds) {
    const double b = static_cast<double>(bound);
    if (b == 0) continue;
    int j = 0;
    while (intervals.values[j + 1] < b) ++j;
    double cells = b * 16 + 32;
    while (cells >= 1) cells -= 1;
    const double distance = (cells < 0.5 ? cells : 1 - cells) / 16;
    if (distance < intervals.HalfGap(j) / 64 + 0x1p-20) return false;
  }
  return true;
}
constexpr bool EveryBoundKeepsOff() {
  const TablePerBook<bool> keeps_off = ForEachBook<bool>(EveryBoundKeepsOff);
  for (const bool holds : keeps_off.of) {
    if (!holds) return false;
  }
  return true;
}
static_assert(EveryBoundKeepsOff());

// The table in shared memory, once for each of 8 lanes: 128-bit accesses are served 8 lanes at a time.
class SharedValueCells {
 public:
  // By all threads of the thread block; a barrier must follow.
  __device__ void Fill(CodeBook book) {
    for (int i = static_cast<int>(threadIdx.x); i < kCells * kColumns; i += static_cast<int>(blockDim.x)) {
      cells_[i / kColumns][i % kColumns] = kValueCells.of[BookIndex(book)].cells[i / kColumns];
    }
  }

  // One lane's column.
  class Column {
   public:
    // As SharedCodeCells::Column::Append finds its cell. REQUIRES: |t| <= 1 and one ulp.
    __device__ ValueCell CellOf(float t) const {
      const std::uint32_t address = BitsOf(__fadd_ru(t, kCellMagic)) * kRowBytes + origin_;
      ValueCell cell;
      asm("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4];"
          : "=f"(cell.bound), "=r"(cell.codes), "=f"(cell.low), "=f"(cell.high)
          : "r"(address));
      return cell;
    }
    // As SharedCodeCells::Column.
    __device__ std::uint32_t Append(std::uint32_t packed, float t) const {
      const ValueCell cell = CellOf(t);
      return __funnelshift_l(t > cell.bound ? cell.codes << 4 : cell.codes, packed, 4);
    }

   private:
    friend class SharedValueCells;
    std::uint32_t origin_;  // the shared-memory address for the bits of a sum of 0, modulo 2^32
  };

  __device__ Column ColumnOf(std::uint32_t lane) const {
    Column column;
    const auto address = static_cast<std::uint32_t>(__cvta_generic_to_shared(&cells_[-kFirstCell][lane % kColumns]));
    column.origin_ = address - BitsOf(kCellMagic) * kRowBytes;
    asm("" : "+r"(column.origin_));  // else the compiler adds its constant part anew for every element
    return column;
  }

 private:
  static constexpr int kColumns = 8;
  static constexpr std::uint32_t kRowBytes = kColumns * sizeof(ValueCell);
  ValueCell cells_[kCells][kColumns];
};

// ---- A lane's block

// The five sums of GroupSums, in its order: of one sum lane, or folded.
struct Sums {
  double of[kSums];

  __device__ void Add(const Sums& other) {
#pragma unroll
    for (int s = 0; s < kSums; ++s) of[s] = __dadd_rn(of[s], other.of[s]);
  }
};

// What a lane holds of its block: the steps of quantize_scalar.cc (MaxMagnitude, EncodeBlock) and of SumBlock, merged.
template <FloatType kType, std::uint32_t kBlockSize>
struct LaneBlock {
  static constexpr std::uint32_t kVectors = kBlockSize / kVectorSize<kType>;

  const uint4* x;                                // in shared memory
  std::uint32_t packed[kVectors] = {};           // the codes of each vector, in the order in which Encode makes them
  float max_error = 0;                           // high word, see MaxHighWord
  float least_distance = FloatOf(kF32Infinity);  // of t from a bound

  // Q4.1, two elements at a time: as unsigned integers negative elements exceed the others and the largest magnitude is
  // the largest of them; as signed integers, none of them exceeds 0.
  __device__ float Maximum() const {
    std::uint32_t negative = 0, positive = 0;
#pragma unroll
    for (std::uint32_t v = 0; v < kVectors; ++v) {
      negative = __vimax3_u16x2(__vimax3_u16x2(negative, x[v].x, x[v].y), x[v].z, x[v].w);
      positive = __vimax3_s16x2(__vimax3_s16x2(positive, x[v].x, x[v].y), x[v].z, x[v].w);
    }
    const std::uint32_t max = __vmaxu2(negative & 0x7FFF7FFF, positive);
    return WidenLow<kType>(::max(max & 0xFFFF, max >> 16));
  }

  // Encodes the block, and sums up. A vector holds the elements of sum lanes 0 to 7, or 8 to 15, of a row; the first of
  // two rounds takes elements 6, 2, 7 and 3 of each vector, in this order, and the second 4, 0, 5 and 1. One round's
  // code fits the instruction cache.
  __device__ Sums Encode(float scale, float reciprocal, const SharedValueCells::Column& cells) {
    Sums sums[2] = {};
#pragma unroll 1
    for (int round = 0; round < 2; ++round) {
      const auto* words = reinterpret_cast<const std::uint32_t*>(x) + (1 - round);
#pragma unroll
      for (std::uint32_t odd = 0; odd < 2; ++odd) {
        Sums lane = PairOfLanes(words + 2, odd, scale, reciprocal, cells);  // w = 8
        lane.Add(PairOfLanes(words, odd, scale, reciprocal, cells));        // w = 4
        sums[odd].Add(lane);                                                // w = 2
      }
    }
    sums[0].Add(sums[1]);  // w = 1
    return sums[0];
  }

  // The codes of a vector as Q3.1 wants them. From the most significant nibble on: 6 2 7 3 4 0 5 1 become
  // 6 7 4 5 2 3 0 1.
  __device__ std::uint32_t Codes(std::uint32_t v) const {
    const std::uint32_t high = packed[v] & 0xF0F0F0F0, low = packed[v] << 4 & 0xF0F0F0F0;
    return __byte_perm(low | low << 4, high | high << 4, 0x7531);
  }

 private:
  // Sum lanes j and j + 8, whose elements are the low or high (odd) ones of every fourth word from `words` on, and the
  // sum of both.
  __device__ Sums PairOfLanes(const std::uint32_t* words, std::uint32_t odd, float scale, float reciprocal,
                              const SharedValueCells::Column& cells) {
    Sums pair[2];
#pragma unroll
    for (std::uint32_t v = 0; v < kVectors; ++v) {
      const float element = odd == 0 ? WidenLow<kType>(words[4 * v]) : WidenHigh<kType>(words[4 * v]);
      AddElement(element, scale, reciprocal, cells, v < 2, &packed[v], &pair[v % 2]);
    }
    pair[0].Add(pair[1]);
    return pair[0];
  }

  // One element: its code (Q4.3, Q4.6), its decoded value (Q6.1), its terms of the five sums.
  __device__ void AddElement(float element, float scale, float reciprocal, const SharedValueCells::Column& cells,
                             bool is_first, std::uint32_t* packed_codes, Sums* sums) {
    const float t = __fmul_rn(element, reciprocal);
    const ValueCell cell = cells.CellOf(t);
    const bool is_high = t > cell.bound;
    least_distance = fminf(least_distance, fabsf(__fsub_rn(t, cell.bound)));
    *packed_codes = __funnelshift_l(is_high ? cell.codes << 4 : cell.codes, *packed_codes, 4);

    const float y32 = __fmul_rn(is_high ? cell.high : cell.low, scale);
    const double x64 = static_cast<double>(element), y64 = static_cast<double>(y32);
    const double e = __dsub_rn(x64, y64);
    max_error = MaxHighWord(max_error, e);
    const Sums terms = {{e, fabs(e), __dmul_rn(e, e), __dmul_rn(x64, x64), __dmul_rn(x64, y64)}};
    if (is_first) {
      *sums = terms;
    } else {
      sums->Add(terms);
    }
  }
};

// ---- Kernel

// Code counts rest in shared memory because registers are short: a lane needs them once for each tile.
template <std::uint32_t kVectors>
struct CommonShared : StatsShared {
  SharedValueCells cells;
  uint4 lane_counts[2][kStatsThreads];                 // every lane's code counts: their low and high vectors
  uint4 rows[kStatsWarps][kTileBlocks][kVectors + 1];  // padded: 8 lanes, each in its row, meet no bank twice
};

// A warp's work, tile after tile: fetch, encode, count, look again. One object per thread, with the lane's part of it.
template <FloatType kType, std::uint32_t kBlockSize>
class TileWorker {
 public:
  using Block = LaneBlock<kType, kBlockSize>;
  static constexpr std::uint32_t kVectors = Block::kVectors;
  using Shared = CommonShared<kVectors>;

  __device__ TileWorker(const QuantizeArgs& quantize, const ErrorStatsArgs& stats, Shared* shared)
      : quantize_(quantize), stats_(stats), shared_(*shared), cells_(shared->cells.ColumnOf(Lane())) {}

  // Starts to copy the full blocks of the tile that begins at block `first`; rows without one become zeros. No lane
  // needs the tile before any more.
  __device__ void Fetch(std::uint64_t first) const {
    __syncwarp();
    constexpr std::uint32_t kRowsAtOnce = kWarp / kVectors;
    const std::uint32_t count = FullBlocks(first), row = Lane() / kVectors;
    const auto* x = static_cast<const uint4*>(quantize_.x) + first * kVectors + Lane();
    uint4* to = &shared_.rows[Warp()][row][Lane() % kVectors];
    if (count == kTileBlocks) {
#pragma unroll
      for (std::uint32_t i = 0; i < kVectors; ++i) {
        __pipeline_memcpy_async(to + i * kRowsAtOnce * (kVectors + 1), x + i * kWarp, sizeof(uint4));
      }
    } else {
#pragma unroll 1
      for (std::uint32_t i = 0; i < kVectors; ++i) {
        to[i * kRowsAtOnce * (kVectors + 1)] = row + i * kRowsAtOnce < count ? LoadVector(x + i * kWarp) : uint4{};
      }
    }
    __pipeline_commit();
  }

  // Waits for the tile fetched last, encodes it, fetches the one at `next`, and does the rest of the work. What remains
  // is to add the tile's sums to the group's: the next call does so before it encodes, or FinishGroup.
  __device__ void Work(std::uint64_t first, std::uint64_t next, bool is_first_of_group) {
    const std::uint32_t count = FullBlocks(first);
    const bool is_active = Lane() < count;
    __pipeline_wait_prior(0);
    __syncwarp();
    Block block{shared_.rows[Warp()][Lane()]};
    // The scale of a full block is its maximum, unclamped; what it divides by is clamped (Q4.3).
    const float scale = block.Maximum();  // Q4.1
    const std::uint64_t own = first + Lane();
    // Statistics are unspecified then, so the tile's may be left out.
    if (__any_sync(kAllLanes, !IsFinite(scale))) {
      NoteFirstBadOf(own, is_active);
      Fetch(next);
      return;
    }
    const float reciprocal = __frcp_rn(ClampTiny(scale));  // Q4.3
    // Before the shared sums are overwritten below. At a group's first tile they are the last group's and are dropped.
    const double group_sum = AddedGroupSum();
    group_sum_ = is_first_of_group ? 0 : group_sum;
    const Sums sums = block.Encode(scale, reciprocal, cells_);
    Fetch(next);
    CountCodes(block, is_active);
    if (is_active) Store(own, scale, block);
#pragma unroll
    for (int s = 0; s < kSums; ++s) shared_.sums[Warp()][s][Lane()] = sums.of[s];
    __syncwarp();

    const double e2 = sums.of[2], x2 = sums.of[3];
    const float max_error = block.max_error, distance = block.least_distance;
    NoteExtremesWhere<1>(stats_, first, e2, x2, &shared_, [&](const Limits& limits) {
      const float largest_half_gap = kLargestHalfGaps.of[BookIndex(quantize_.book)];
      const float settling = __fadd_ru(__fmul_ru(__fsub_ru(1.0f, limits.gap), largest_half_gap), 0x1p-22f);
      return is_active && !(distance > settling && limits.gap >= kLeastGapLimit && limits.Cover(max_error, e2, x2) &&
                            IsOrdinary<kType>(scale));
    });
  }

  // The tail block, of whose tile Work has done the rest.
  __device__ void WorkOnTail(std::uint64_t k) const {
    QuantizeTail<true>(quantize_, cells_);
    __syncwarp();  // its codes and scales are read by other lanes
    AddTail(stats_, k, &shared_);
    __syncwarp();
  }

  // Due before the first tile.
  __device__ void StartCounting() const { StoreCounts({}); }

  // The end of a group: writes its sums, and adds the lane's code counts to the thread block's.
  __device__ void FinishGroup(std::uint64_t group) const {
    const double sum = AddedGroupSum();
    if (Lane() < kSums) reinterpret_cast<double*>(stats_.groups + group)[Lane()] = sum;
    CodeCounts counts = CodeCounts::From(shared_.lane_counts[0][threadIdx.x], shared_.lane_counts[1][threadIdx.x]);
    counts.FlushTo(shared_.counts);
    StoreCounts(counts);
  }

 private:
  static __device__ std::uint32_t Lane() { return threadIdx.x % kWarp; }
  static __device__ std::uint32_t Warp() { return threadIdx.x / kWarp; }

  // The group's sums with those of the last tile: lane s has sum s, and lanes without one do as the last of these.
  // Missing blocks add zeros.
  __device__ double AddedGroupSum() const {
    return shared_.AddTile(group_sum_, Warp(), ::min(Lane(), std::uint32_t{kSums - 1}));
  }

  __device__ void CountCodes(const Block& block, bool is_active) const {
    CodeCounts counts = CodeCounts::From(shared_.lane_counts[0][threadIdx.x], shared_.lane_counts[1][threadIdx.x]);
#pragma unroll
    for (std::uint32_t v = 0; v < kVectors; v += 4) {
      const uint4 codes = make_uint4(block.packed[v], block.packed[v + 1], block.packed[v + 2], block.packed[v + 3]);
      counts.Add(is_active ? codes : uint4{});
    }
    StoreCounts(counts);
  }
  __device__ void StoreCounts(const CodeCounts& counts) const {
    shared_.lane_counts[0][threadIdx.x] = counts.Low();
    shared_.lane_counts[1][threadIdx.x] = counts.High();
  }

  __device__ std::uint32_t FullBlocks(std::uint64_t first) const {
    const std::uint64_t end = quantize_.n / kBlockSize;
    return first < end ? static_cast<std::uint32_t>(::min(end - first, std::uint64_t{kTileBlocks})) : 0;
  }

  // Each lane looks through its own block; the first find is its smallest (Q1.4).
  __device__ void NoteFirstBadOf(std::uint64_t block, bool is_active) const {
    for (std::uint64_t i = block * kBlockSize; is_active && i < (block + 1) * kBlockSize; ++i) {
      if (IsFinite(LoadElement(kType, quantize_.x, i))) continue;
      NoteFirstBad(quantize_.first_bad, i);
      return;
    }
  }

  // The block's scale and its codes, 16 bytes at a time.
  __device__ void Store(std::uint64_t k, float scale, const Block& block) const {
    quantize_.scales[k] = scale;
    auto* out = reinterpret_cast<uint4*>(quantize_.codes + k * (kBlockSize / 2));
#pragma unroll
    for (std::uint32_t v = 0; v < kVectors; v += 4) {
      out[v / 4] = make_uint4(block.Codes(v), block.Codes(v + 1), block.Codes(v + 2), block.Codes(v + 3));
    }
  }

  const QuantizeArgs& quantize_;
  const ErrorStatsArgs& stats_;
  Shared& shared_;
  SharedValueCells::Column cells_;
  double group_sum_ = 0;
};

// One warp per group.
template <FloatType kType, std::uint32_t kBlockSize>
__global__ void __launch_bounds__(kStatsThreads, 3)
    QuantizeStatsKernel(const __grid_constant__ QuantizeArgs quantize, const __grid_constant__ ErrorStatsArgs stats) {
  using Worker = TileWorker<kType, kBlockSize>;
  __shared__ typename Worker::Shared shared;
  auto* workspace = static_cast<StatsWorkspace*>(stats.workspace);
  shared.Prepare(workspace);
  shared.cells.Fill(quantize.book);
  __syncthreads();

  const std::uint64_t blocks = BlockCount(quantize.n, kBlockSize), full_blocks = quantize.n / kBlockSize,
                      groups = GroupCount(blocks);
  const std::uint64_t warps = std::uint64_t{gridDim.x} * kStatsWarps;
  Worker worker(quantize, stats, &shared);
  worker.StartCounting();
  std::uint64_t group = std::uint64_t{blockIdx.x} * kStatsWarps + threadIdx.x / kWarp;
  // The first tile; each Work then fetches the next one, that of the warp's next group included.
  worker.Fetch(group * kScaleGroup);
  for (; group < groups; group += warps) {
    shared.RefreshLimits();
    const std::uint64_t end = ::min((group + 1) * kScaleGroup, blocks);
#pragma unroll 1
    for (std::uint64_t first = group * kScaleGroup; first < end; first += kTileBlocks) {
      const bool is_last = first + kTileBlocks >= end;
      worker.Work(first, is_last ? (group + warps) * kScaleGroup : first + kTileBlocks, first % kScaleGroup == 0);
      if (is_last && full_blocks < end) worker.WorkOnTail(full_blocks);
    }
    worker.FinishGroup(group);
  }
  __syncthreads();
  WritePartial(shared, &workspace->partials[blockIdx.x]);
}

template <FloatType kType, std::uint32_t kBlockSize>
KernelError Launch(const QuantizeArgs& quantize, const ErrorStatsArgs& stats, StreamHandle stream) {
  const auto kernel = QuantizeStatsKernel<kType, kBlockSize>;
  const std::uint64_t groups = GroupCount(BlockCount(quantize.n, kBlockSize));
  unsigned grid = 0;
  if (KernelError error = ResidentGrid(kernel, kStatsThreads,
                                       ::min(groups / kStatsWarps + (groups % kStatsWarps != 0), kMaxGrid), &grid);
      !error.ok()) {
    return error;
  }
  // Without elements there is nothing to launch, and the statistics are zeros.
  if (grid > 0) {
    kernel<<<grid, kStatsThreads, 0, RawStream(stream)>>>(quantize, stats);
    if (KernelError error = CheckLaunch("quantize with error statistics"); !error.ok()) return error;
  }
  return MergePartials(stats, grid, stream);
}

template <FloatType kType>
KernelError Launch(const QuantizeArgs& quantize, const ErrorStatsArgs& stats, StreamHandle stream) {
  return quantize.block_size == 32 ? Launch<kType, 32>(quantize, stats, stream)
                                   : Launch<kType, 64>(quantize, stats, stream);
}

}  // namespace

KernelError QuantizeCommonShape(const QuantizeArgs& quantize, const ErrorStatsArgs& stats, StreamHandle stream) {
  return quantize.type == FloatType::kF16 ? Launch<FloatType::kF16>(quantize, stats, stream)
                                          : Launch<FloatType::kBF16>(quantize, stats, stream);
}

}  // namespace q4::cuda
