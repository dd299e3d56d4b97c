// Error statistics of codes and scales that exist, and the general case of QuantizeWithStats: see error_stats_cuda.cuh.
//
// Threads to data: a thread block has four warps, each with a tile. A warp works on 8 blocks of its tile at once, four
// lanes to a block. Of Q7.1's 16 sum lanes, a block's lane q owns q, q + 4, q + 8 and q + 12, each in increasing order
// of the elements. So half of the tree's steps stay inside a lane.
// Memory: x is read once, by the warp side by side into shared memory, a piece of each of 8 blocks at a time; codes are
// read twice, for decoding and for counting, the second time from a cache. Work: nine fp64 operations and two
// conversions for each element, as Q8.3 defines them.
// Occupancy: four thread blocks of 128 threads to a multiprocessor (launch bounds: at most 128 registers), 17 KiB of
// shared memory each.
// Same bits: see error_stats_cuda.cuh. What is left to prove is which blocks need not be looked at again:
//
// A lane's gap ratio estimate r is the largest fl(fl(e) fl(1 / h)) of its elements, h being the half gap next to the
// code's value on the side that the sign of e tells. Let the scale s be ordinary and positive. Let g be the maximum so
// far, G, or 1.99 if that is less, less 2^-18 of it. If r <= fl(g s) and G is at least 2^-10, no gap ratio exceeds G:
// - fl(e), fl(1 / h), both products and the limit err by at most 2^-24 of themselves each, the reference by a few
//   2^-53: 2^-18 covers all of them. A product that underflows errs by 2^-150, far less than 2^-20 of the limit, which
//   is at least 2^-111.
// - r < 1.99 s means that x lies less than 0.995 intervals from y on that side. y differs from v s by at most
//   2^-24 |v s|, less than 0.001 of any interval. So u = x / s is in that interval and h is right; or x lies between y
//   and v s, which makes the true ratio smaller than 2^-24 / 0.0026, below 2^-10 <= G.
// - Next to the outermost values there is no interval; what lies there is clipped.
// A negative scale mirrors the block: of -x and -s the u, |e| and ratios are those of x and s, y and e change their
// signs without rounding. So the same holds with |s|, once r is taken of -e: by factors that are negated.
#include <cstddef>
#include <cstdint>

#include "kernels/error_stats_cuda.cuh"
#include "kernels/quantize_cuda.cuh"

namespace q4::cuda {
namespace {

constexpr std::uint32_t kBlockLanes = 4;                   // lanes of a warp that share a block
constexpr std::uint32_t kSetBlocks = kWarp / kBlockLanes;  // a warp's blocks at a time

// A block is read in pieces of at most 128 bytes, a piece in rows of 16 elements: one for each sum lane.
constexpr std::uint32_t kRow = kSumLanes;
constexpr std::uint32_t kPieceVectors = 8;

// ---- Tables

// What an element's code decodes to, and the factors of the gap ratio estimate.
struct alignas(16) DecodeEntry {
  float value;
  float above, below;  // the reciprocal half gap above the value; the negated one below it
  float unused;

  // Under a negative scale.
  __device__ DecodeEntry Mirrored() const { return {value, -above, -below, unused}; }
};

struct DecodeTable {
  DecodeEntry entries[16];
};

// `rank` is the value's place among the distinct ones; FP4's two zeros share it. The factor is 0 where there is no
// interval.
constexpr DecodeTable DecodeTableOf(CodeBook book) {
  DecodeTable table{};
  const ValueIntervals intervals = IntervalsOf(book);
  const auto& values = TablesOf(book).values;
  for (std::size_t code = 0; code < 16; ++code) {
    int rank = 0;
    while (intervals.values[rank] != static_cast<double>(values[code])) ++rank;
    const double above = rank < 15 && intervals.HalfGap(rank) > 0 ? 1.0 / intervals.HalfGap(rank) : 0.0;
    const double below = rank > 0 ? -1.0 / intervals.HalfGap(rank - 1) : 0.0;
    table.entries[code] = {values[code], static_cast<float>(above), static_cast<float>(below), 0.0f};
  }
  return table;
}

static __constant__ constexpr TablePerBook<DecodeTable> kDecodeTables = ForEachBook(DecodeTableOf);

// ---- Shared memory

// The decode table begins at a multiple of its size, and a row of it is 128 bytes: so one "and" and one "or" make an
// address from an element's code. A row holds 8 copies of the entry: 128-bit accesses are served 8 lanes at a time, and
// no two of those meet in a bank. Behind it lies the table for negative scales.
constexpr std::uint32_t kCodeRow = 128, kCodeTable = 16 * kCodeRow;

struct DecodeRows {
  DecodeEntry entries[2 * 16][kCodeRow / sizeof(DecodeEntry)];
};
static_assert(sizeof(DecodeRows) == 2 * kCodeTable);

struct GeneralShared : StatsShared {
  // The table lies at the first multiple of kCodeTable in here: the toolkit does not honour an alignment above 1024 in
  // shared memory.
  unsigned char table_bytes[3 * kCodeTable];
  uint4 pieces[kStatsWarps][kSetBlocks][kPieceVectors + 1];  // padded: the 8 lanes of an access meet no bank twice

  __device__ DecodeRows& Rows() {
    const auto address = static_cast<std::uint32_t>(__cvta_generic_to_shared(table_bytes));
    return *reinterpret_cast<DecodeRows*>(table_bytes + (0u - address) % kCodeTable);
  }
};

// ---- Sums of a tile (the fast path)

// The elements q, q + 4, q + 8 and q + 12 of a row, as fp32: four words apart or, of 16-bit types, two words apart and
// all in the same half. __byte_perm takes out the half and widens bf16 at the same time.
template <FloatType kType>
__device__ void LoadRow(const uint4* row, std::uint32_t q, float x[4]) {
  const auto* words = reinterpret_cast<const std::uint32_t*>(row);
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    if constexpr (kType == FloatType::kF32) {
      x[j] = FloatOf(words[4 * j + q]);
    } else if constexpr (kType == FloatType::kBF16) {
      x[j] = FloatOf(__byte_perm(words[2 * j + q / 2], 0, q % 2 == 0 ? 0x1044 : 0x3244));
    } else {
      x[j] = WidenLow<kType>(__byte_perm(words[2 * j + q / 2], 0, q % 2 == 0 ? 0x4410 : 0x4432));
    }
  }
}

// One lane's part of a block.
class PartSums {
 public:
  __device__ PartSums(float scale, GeneralShared* shared) : scale_(scale) {
    DecodeEntry* column = &shared->Rows().entries[scale < 0 ? 16 : 0][threadIdx.x % (kCodeRow / sizeof(DecodeEntry))];
    decode_ = static_cast<std::uint32_t>(__cvta_generic_to_shared(column));
    // Q8.7: with |scale| below TINY, and with a NaN, nothing counts as clipped.
    clip_limit_ = fabsf(scale) >= kTiny ? fabsf(scale) : FloatOf(kF32Infinity);
  }

  // Adds element x to the lane's sum lane j of four. Its code is in the bits of `code_row` that kCodeRow counts.
  template <bool kMayClip>
  __device__ void Add(int j, float x, std::uint32_t code_row) {
    const std::uint32_t offset = code_row & (15 * kCodeRow);
    float value, above, below, unused;
    asm("ld.shared.v4.f32 {%0, %1, %2, %3}, [%4];"
        : "=f"(value), "=f"(above), "=f"(below), "=f"(unused)
        : "r"(decode_ | offset));
    // The steps of SumBlock in error_stats_scalar.cc, on sum lane q + 4 j.
    const float y = __fmul_rn(value, scale_);
    const double x64 = static_cast<double>(x), y64 = static_cast<double>(y);
    const double e = __dsub_rn(x64, y64);
    max_error_ = MaxHighWord(max_error_, e);
    e_[j] = __dadd_rn(e_[j], e);
    abs_e_[j] = __dadd_rn(abs_e_[j], fabs(e));
    e2_[j] = __dadd_rn(e2_[j], __dmul_rn(e, e));
    x2_[j] = __dadd_rn(x2_[j], __dmul_rn(x64, x64));
    xy_[j] = __dadd_rn(xy_[j], __dmul_rn(x64, y64));
    // The gap ratio estimate. One product is it, the other is not positive. As integers, the larger of non-negative
    // floats is the larger, and negative ones lose.
    const float e32 = __fsub_rn(x, y);
    ratio_bits_ =
        __vimax3_s32(ratio_bits_, __float_as_int(__fmul_rn(e32, above)), __float_as_int(__fmul_rn(e32, below)));
    if constexpr (kMayClip) {
      asm("{.reg .pred p; setp.gt.f32 p, %1, %2; @p add.u32 %0, %0, 1;}"
          : "+r"(clipped_)
          : "f"(fabsf(x)), "f"(clip_limit_));
    }
  }

  // Q7.1's tree: the sums of the whole block, in all of its lanes.
  __device__ void Fold(double sums[kSums]) {
    double* const lanes[kSums] = {e_, abs_e_, e2_, x2_, xy_};
#pragma unroll
    for (int s = 0; s < kSums; ++s) {
      const double low = __dadd_rn(lanes[s][0], lanes[s][2]), high = __dadd_rn(lanes[s][1], lanes[s][3]);  // w = 8
      sums[s] = __dadd_rn(low, high);                                                                      // w = 4
#pragma unroll
      for (int w = 2; w >= 1; w /= 2) sums[s] = __dadd_rn(sums[s], __shfl_xor_sync(kAllLanes, sums[s], w));
    }
  }

  __device__ float ratio() const { return __int_as_float(ratio_bits_); }
  __device__ float max_error() const { return max_error_; }
  __device__ std::uint32_t clipped() const { return clipped_; }

 private:
  double e_[4] = {}, abs_e_[4] = {}, e2_[4] = {}, x2_[4] = {}, xy_[4] = {};
  std::uint32_t decode_;  // address in shared memory
  float scale_, clip_limit_;
  float max_error_ = 0;
  int ratio_bits_ = 0;
  std::uint32_t clipped_ = 0;
};

// Counts the codes of blocks [first, first + count), all full, 32 to a lane at a time. Codes were read a moment ago, so
// the cache has them.
__device__ void CountTile(const ErrorStatsArgs& args, std::uint64_t first, std::uint32_t count, StatsShared* shared) {
  const std::uint8_t* codes = args.codes + first * (args.block_size / 2);
  const std::uint32_t bytes = count * (args.block_size / 2);
  CodeCounts counts;
  for (std::uint32_t at = threadIdx.x % kWarp * 16; at < bytes; at += kWarp * 16) counts.Add(LoadVector(codes + at));
  counts.FlushTo(shared->counts);
}

// Blocks [first, first + count) of a tile, count <= kTileBlocks, all full. Their sums go to the warp's part of
// shared->sums. Returns how many elements of the lane were clipped.
template <FloatType kType, std::uint32_t kPieceRows, bool kMayClip>
__device__ std::uint32_t AddTile(const ErrorStatsArgs& args, std::uint64_t first, std::uint32_t count,
                                 GeneralShared* shared) {
  constexpr std::uint32_t kPiece = kPieceRows * kRow;  // elements
  constexpr std::uint32_t kRowVectors = kRow * kElementBytes<kType> / 16;
  constexpr std::uint32_t kVectors = kPieceRows * kRowVectors;
  static_assert(kVectors <= kPieceVectors);
  const std::uint32_t warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp, own = lane / kBlockLanes,
                      q = lane % kBlockLanes;
  const std::uint32_t block_bytes = args.block_size * kElementBytes<kType>;
  uint4(*pieces)[kPieceVectors + 1] = shared->pieces[warp];

  // The lane loads vector lane % kVectors of block lane / kVectors, and of every kLoadBlocks-th block after that one.
  constexpr std::uint32_t kLoadBlocks = kWarp / kVectors;
  const std::uint32_t load_block = lane / kVectors, load_vector = lane % kVectors;
  const auto* x = static_cast<const unsigned char*>(args.x) + (first + load_block) * block_bytes + load_vector * 16;
  const auto* codes = args.codes + (first + own) * (args.block_size / 2);
  const float* scales = args.scales + first + own;
  std::uint32_t clipped = 0;

#pragma unroll 1
  for (std::uint32_t set = 0; set < count; set += kSetBlocks) {
    const bool is_active = set + own < count;
    const float scale = is_active ? scales[set] : 0.0f;
    PartSums sums(scale, shared);
#pragma unroll 1
    for (std::uint32_t at = 0; at < args.block_size; at += kPiece) {
      // Missing blocks are zeros with code 0: they add nothing, but for the count of code 0, which is derived in the
      // end.
      uint4 loaded[kSetBlocks / kLoadBlocks], piece_codes[kPieceRows / 2];
#pragma unroll
      for (std::uint32_t j = 0; j < kSetBlocks / kLoadBlocks; ++j) {
        const bool exists = set + load_block + j * kLoadBlocks < count;
        loaded[j] = exists ? LoadVector(x + at * kElementBytes<kType> + j * kLoadBlocks * block_bytes) : uint4{};
      }
#pragma unroll
      for (std::uint32_t j = 0; j < kPieceRows / 2; ++j) {
        piece_codes[j] = is_active ? LoadVector(codes + at / 2 + j * 16) : uint4{};
      }
      __syncwarp();
#pragma unroll
      for (std::uint32_t j = 0; j < kSetBlocks / kLoadBlocks; ++j)
        pieces[load_block + j * kLoadBlocks][load_vector] = loaded[j];
      __syncwarp();
#pragma unroll
      for (std::uint32_t row = 0; row < kPieceRows; ++row) {
        float elements[4];
        LoadRow<kType>(&pieces[own][row * kRowVectors], q, elements);
        // Byte b holds the codes of elements 2b (high nibble) and 2b + 1 of a row: the lane's are in bytes q / 2, q / 2
        // + 2, ...
        const std::uint32_t shift = q / 2 * 8 + (q % 2 == 0 ? 4 : 0);
        const uint4& two_rows = piece_codes[row / 2];
        const std::uint32_t low = (row % 2 == 0 ? two_rows.x : two_rows.z) >> shift;
        const std::uint32_t high = (row % 2 == 0 ? two_rows.y : two_rows.w) >> shift;
        static_assert(kCodeRow == 1 << 7);
        sums.template Add<kMayClip>(0, elements[0], low << 7);
        sums.template Add<kMayClip>(1, elements[1], low >> (16 - 7));
        sums.template Add<kMayClip>(2, elements[2], high << 7);
        sums.template Add<kMayClip>(3, elements[3], high >> (16 - 7));
      }
    }
    x += kSetBlocks * block_bytes;
    codes += kSetBlocks * (args.block_size / 2);
    clipped += sums.clipped();

    double folded[kSums];
    sums.Fold(folded);
    if (q == 0) {
#pragma unroll
      for (int s = 0; s < kSums; ++s) shared->sums[warp][s][set + own] = folded[s];
    }
    NoteExtremesWhere<kBlockLanes>(args, first + set, folded[2], folded[3], shared, [&](const Limits& limits) {
      const float gap = __fmul_rd(fminf(limits.gap, 1.99f), 1 - 0x1p-18f);
      return is_active && !(limits.gap >= 0x1p-10f && sums.ratio() <= __fmul_rn(gap, fabsf(scale)) &&
                            limits.Cover(sums.max_error(), folded[2], folded[3]) && IsOrdinary<kType>(scale));
    });
  }
  return clipped;
}

// ---- Groups and thread blocks

// What is done to a tile before its statistics are taken. Alone: nothing.
struct AlreadyQuantized {
  static constexpr bool kMayClip = true;
  __device__ void Prepare(CodeBook) {}
  __device__ void Tile(const QuantizeArgs&, std::uint64_t, std::uint64_t) const {}
  __device__ void Tail(const QuantizeArgs&) const {}
};

// Quantizes the tile, so that its elements come from a cache when their statistics are taken.
template <FloatType kType, std::uint32_t kBlockSize>
struct QuantizeFirst {
  static constexpr bool kMayClip = false;  // the scale is the largest magnitude, or larger
  SharedCodeCells cells;

  __device__ void Prepare(CodeBook book) { cells.Fill(book); }
  __device__ void Tile(const QuantizeArgs& args, std::uint64_t first, std::uint64_t full_end) const {
    constexpr std::uint32_t kWantedVectors = 8;
    using Shape = QuantizeShape<kType, kBlockSize, kWantedVectors>;
    static_assert(kTileBlocks * kBlockSize % Shape::kTile == 0);
    const std::uint64_t begin = first * kBlockSize, end = ::min(begin + kTileBlocks * kBlockSize, full_end);
    for (std::uint64_t i = begin; i < end; i += Shape::kTile) {
      QuantizeTile<Shape, true>(args, i, end, cells.ColumnOf(threadIdx.x % kWarp));
    }
  }
  __device__ void Tail(const QuantizeArgs& args) const {
    QuantizeTail<true>(args, cells.ColumnOf(threadIdx.x % kWarp));
  }
};

// A team of warps, all of one thread block.
template <std::uint32_t kTeamWarps>
__device__ void SyncTeam() {
  static_assert(kTeamWarps == 1 || kTeamWarps == kStatsWarps);
  if constexpr (kTeamWarps == 1) {
    __syncwarp();
  } else {
    __syncthreads();
  }
}

template <FloatType kType, std::uint32_t kPieceRows, std::uint32_t kTeamWarps, typename Before>
__global__ void __launch_bounds__(kStatsThreads, 4)
    ErrorStatsKernel(const __grid_constant__ ErrorStatsArgs args, const __grid_constant__ QuantizeArgs quantize_args) {
  // kPieceRows * kRow elements of a block are read at a time; kTeamWarps warps share a group.
  __shared__ GeneralShared shared;
  __shared__ Before before;
  auto* workspace = static_cast<StatsWorkspace*>(args.workspace);
  shared.Prepare(workspace);
  constexpr std::uint32_t kCopies = kCodeRow / sizeof(DecodeEntry);
  for (std::uint32_t i = threadIdx.x; i < 2 * 16 * kCopies; i += kStatsThreads) {
    const std::uint32_t row = i / kCopies;
    const DecodeEntry entry = kDecodeTables.of[BookIndex(args.book)].entries[row % 16];
    shared.Rows().entries[row][i % kCopies] = row < 16 ? entry : entry.Mirrored();
  }
  before.Prepare(args.book);
  __syncthreads();

  const std::uint64_t blocks = BlockCount(args.n, args.block_size), full_blocks = args.n / args.block_size;
  const std::uint64_t groups = GroupCount(blocks);
  const std::uint32_t warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp, rank = warp % kTeamWarps;
  constexpr std::uint32_t kTeams = kStatsWarps / kTeamWarps;  // per thread block
  std::uint32_t clipped = 0;
  for (std::uint64_t group = std::uint64_t{blockIdx.x} * kTeams + warp / kTeamWarps; group < groups;
       group += gridDim.x * kTeams) {
    shared.RefreshLimits();
    double group_sum = 0;  // lane s of the team's first warp holds sum s
#pragma unroll 1
    for (std::uint32_t tile = 0; tile < kGroupTiles; tile += kTeamWarps) {
      const std::uint64_t team_first = group * kScaleGroup + tile * kTileBlocks,
                          first = team_first + rank * kTileBlocks;
      if (first < full_blocks) {
        const auto count = static_cast<std::uint32_t>(::min(full_blocks - first, std::uint64_t{kTileBlocks}));
        before.Tile(quantize_args, first, full_blocks * args.block_size);
        __syncwarp();  // its codes and scales are read by other lanes
        clipped += AddTile<kType, kPieceRows, Before::kMayClip>(args, first, count, &shared);
        CountTile(args, first, count, &shared);
      }
      if (full_blocks < blocks && full_blocks >= first && full_blocks < first + kTileBlocks) {
        before.Tail(quantize_args);
        __syncwarp();
        AddTail(args, full_blocks, &shared);
      }
      SyncTeam<kTeamWarps>();
      // Q7.3: the team's tiles in the order of their blocks, by the lane that owns the sum. All of the tile's sums are
      // in shared memory by now, and the second barrier keeps them until they are added.
      if (rank == 0 && lane < kSums) {
        for (std::uint32_t w = 0; w < kTeamWarps && team_first + w * kTileBlocks < blocks; ++w) {
          const auto size =
              static_cast<std::uint32_t>(::min(blocks - team_first - w * kTileBlocks, std::uint64_t{kTileBlocks}));
          group_sum = shared.AddTile(group_sum, warp + w, lane, size);
        }
      }
      SyncTeam<kTeamWarps>();
    }
    if (rank == 0 && lane < kSums) reinterpret_cast<double*>(args.groups + group)[lane] = CanonicalNan(group_sum);
  }

  clipped = SumOverWarp(clipped);
  if (lane == 0) shared.extremes[warp].clipped += clipped;
  __syncthreads();
  WritePartial(shared, &workspace->partials[blockIdx.x]);
}

// The last kernel: one thread block merges what the others left. Integers and maxima, so any order gives the same.
constexpr int kMergeThreads = 128;

__global__ void __launch_bounds__(kMergeThreads)
    MergePartialsKernel(const SlabStats* partials, std::uint32_t count, std::uint64_t n, SlabStats* stats) {
  __shared__ SlabStats parts[kMergeThreads];
  SlabStats all = {};
  for (std::uint32_t i = threadIdx.x; i < count; i += kMergeThreads) MergeInto(partials[i], &all);
  parts[threadIdx.x] = all;
  for (std::uint32_t width = kMergeThreads / 2; width >= 1; width /= 2) {
    __syncthreads();
    if (threadIdx.x < width) MergeInto(parts[threadIdx.x + width], &parts[threadIdx.x]);
  }
  if (threadIdx.x == 0) {
    all = parts[0];
    all.count = n;
    // Codes 0 are what is left of n; so neither missing blocks nor the padding nibble count (Q8.1).
    all.hist[0] = n;
    for (int code = 1; code < 16; ++code) all.hist[0] -= all.hist[code];
    *stats = all;
  }
}

template <FloatType kType, std::uint32_t kPieceRows, std::uint32_t kTeamWarps, typename Before>
KernelError LaunchErrorStats(const ErrorStatsArgs& args, const QuantizeArgs& quantize_args, StreamHandle stream) {
  const auto kernel = ErrorStatsKernel<kType, kPieceRows, kTeamWarps, Before>;
  const std::uint64_t warps = GroupCount(BlockCount(args.n, args.block_size)) * kTeamWarps;
  unsigned grid = 0;
  if (KernelError error =
          ResidentGrid(kernel, kStatsThreads, ::min(warps / kStatsWarps + (warps % kStatsWarps != 0), kMaxGrid), &grid);
      !error.ok()) {
    return error;
  }
  if (grid > 0) {
    kernel<<<grid, kStatsThreads, 0, RawStream(stream)>>>(args, quantize_args);
    if (KernelError error = CheckLaunch("error statistics"); !error.ok()) return error;
  }
  return MergePartials(args, grid, stream);
}

// Groups of blocks larger than this are few enough to share out among a thread block's warps.
constexpr std::uint32_t kLargestWarpBlock = 256;

template <FloatType kType, std::uint32_t kPieceRows>
KernelError LaunchErrorStats(const ErrorStatsArgs& args, StreamHandle stream) {
  if (args.block_size <= kLargestWarpBlock)
    return LaunchErrorStats<kType, kPieceRows, 1, AlreadyQuantized>(args, {}, stream);
  return LaunchErrorStats<kType, kPieceRows, kStatsWarps, AlreadyQuantized>(args, {}, stream);
}

KernelError CheckStatsArgs(const ErrorStatsArgs& args) {
  if (!IsBlockSize(args.block_size)) return BadArgument("block size");
  if (!IsAligned16(args.x) || !IsAligned16(args.codes) || !IsAligned16(args.scales) || !IsAligned16(args.workspace)) {
    return BadArgument("misaligned pointer");
  }
  return {};
}

// Pieces of four rows are 128 bytes of 16-bit elements; blocks of 32, and fp32, have pieces of two.
template <FloatType kType>
KernelError ErrorStatsOf(const ErrorStatsArgs& args, StreamHandle stream) {
  if constexpr (kType != FloatType::kF32) {
    if (args.block_size >= 64) return LaunchErrorStats<kType, 4>(args, stream);
  }
  return LaunchErrorStats<kType, 2>(args, stream);
}

KernelError ClearLimits(void* workspace, StreamHandle stream) {
  return Check(cudaMemsetAsync(workspace, 0, sizeof(Limits), RawStream(stream)), "clear the limits");
}

}  // namespace

std::uint64_t ErrorStatsWorkspace() { return sizeof(StatsWorkspace); }

KernelError MergePartials(const ErrorStatsArgs& args, unsigned count, StreamHandle stream) {
  MergePartialsKernel<<<1, kMergeThreads, 0, RawStream(stream)>>>(
      static_cast<const StatsWorkspace*>(args.workspace)->partials, count, args.n, args.stats);
  return CheckLaunch("merge the error statistics");
}

KernelError ErrorStats(const ErrorStatsArgs& args, StreamHandle stream) {
  if (KernelError error = CheckStatsArgs(args); !error.ok()) return error;
  if (KernelError error = ClearLimits(args.workspace, stream); !error.ok()) return error;
  if (args.type == FloatType::kF32) return ErrorStatsOf<FloatType::kF32>(args, stream);
  if (args.type == FloatType::kF16) return ErrorStatsOf<FloatType::kF16>(args, stream);
  return ErrorStatsOf<FloatType::kBF16>(args, stream);
}

KernelError QuantizeWithStats(const QuantizeWithStatsArgs& args, StreamHandle stream) {
  const QuantizeArgs& quantize = args.quantize;
  if (KernelError error = CheckQuantizeArgs(quantize); !error.ok()) return error;
  if (quantize.codes == nullptr) return BadArgument("statistics need the codes");
  const ErrorStatsArgs stats = {quantize.type, quantize.book,       quantize.x,  quantize.codes, quantize.scales,
                                quantize.n,    quantize.block_size, args.groups, args.stats,     args.workspace};
  if (KernelError error = CheckStatsArgs(stats); !error.ok()) return error;
  const cudaError_t cleared = cudaMemsetAsync(quantize.first_bad, 0xFF, sizeof(*quantize.first_bad), RawStream(stream));
  if (cleared != cudaSuccess) return Check(cleared, "clear the first bad index");
  if (KernelError error = ClearLimits(args.workspace, stream); !error.ok()) return error;
  if (IsCommonShape(quantize.type, quantize.block_size)) return QuantizeCommonShape(quantize, stats, stream);
  return ForShape(quantize.type, quantize.block_size, [&]<FloatType kType, std::uint32_t kBlockSize>() -> KernelError {
    if constexpr (IsCommonShape(kType, kBlockSize)) {
      return {};
    } else {
      constexpr std::uint32_t kPieceRows = kType == FloatType::kF32 ? 2 : 4;
      constexpr std::uint32_t kTeamWarps = kBlockSize <= kLargestWarpBlock ? 1 : kStatsWarps;
      return LaunchErrorStats<kType, kPieceRows, kTeamWarps, QuantizeFirst<kType, kBlockSize>>(stats, quantize, stream);
    }
  });
}

}  // namespace q4::cuda
