// The table look-ups that stand for the decision bounds, against counting the bounds, for every fp32 bit pattern they
// may meet (numerics.md Q10.4). Also tensors of more than 2^31 elements, whose input is made on the device.
#include <array>
#include <cstdint>
#include <cstdio>

#include "kernels/cuda_tables.cuh"
#include "kernels/nested_search.h"
#include "kernels/scalar_kernels.h"
#include "tests/kernels/cuda_testing.h"

namespace q4::testing {
namespace {

struct Bounds {
  float nf4[15], fp4[15], nested[255];
  std::uint8_t nf4_order[16], fp4_order[16];
};

constexpr Bounds AllBounds() {
  Bounds b{};
  for (std::size_t k = 0; k < 15; ++k) b.nf4[k] = kNf4Bounds[k], b.fp4[k] = kFp4Bounds[k];
  for (std::size_t k = 0; k < 16; ++k) b.nf4_order[k] = kNf4Order[k], b.fp4_order[k] = kFp4Order[k];
  for (std::size_t k = 0; k < 255; ++k) b.nested[k] = kNestedBounds[k];
  return b;
}

__constant__ constexpr Bounds kBoundsTable = AllBounds();
__device__ const NestedSearch kSearch = kNestedSearch;

// counts[0]: t examined; counts[1]: codes that differ.
__global__ void CompareCodes(CodeBook book, unsigned long long* counts) {
  __shared__ cuda::SharedCodeCells cells;
  cells.Fill(book);
  __syncthreads();
  const auto column = cells.ColumnOf(threadIdx.x % 32);
  const float* bounds = book == CodeBook::kNf4 ? kBoundsTable.nf4 : kBoundsTable.fp4;
  const std::uint8_t* order = book == CodeBook::kNf4 ? kBoundsTable.nf4_order : kBoundsTable.fp4_order;
  unsigned long long examined = 0, differing = 0;
  const std::uint64_t threads = std::uint64_t{gridDim.x} * blockDim.x;
  for (std::uint64_t i = std::uint64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < std::uint64_t{1} << 32;
       i += threads) {
    const float t = FloatOf(static_cast<std::uint32_t>(i));
    if (!(fabsf(t) <= 1.0f + 0x1p-23f)) continue;  // Q4.5
    ++examined;
    differing += column.Append(0, t) != order[CountBelow(bounds, 15, t)];
  }
  atomicAdd(&counts[0], examined);
  atomicAdd(&counts[1], differing);
}

__global__ void CompareNestedCodes(unsigned long long* counts) {
  __shared__ float bounds[255];
  for (unsigned i = threadIdx.x; i < 255; i += blockDim.x) bounds[i] = kBoundsTable.nested[i];
  __syncthreads();
  unsigned long long examined = 0, differing = 0;
  const std::uint64_t threads = std::uint64_t{gridDim.x} * blockDim.x;
  for (std::uint64_t i = std::uint64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < std::uint64_t{1} << 32;
       i += threads) {
    const float t = FloatOf(static_cast<std::uint32_t>(i));
    if (IsNan(t)) continue;
    ++examined;
    const std::uint32_t bucket = NestedSearch::Bucket(BitsOf(t) & kF32SignBit, MagnitudeBits(t));
    differing += kSearch.Count(bucket, t) != CountBelow(bounds, 255, t);
  }
  atomicAdd(&counts[0], examined);
  atomicAdd(&counts[1], differing);
}

// Weights: a sum of four uniform numbers made from the element's index.
__global__ void FillWeights(std::uint16_t* x, std::uint64_t n) {
  const std::uint64_t threads = std::uint64_t{gridDim.x} * blockDim.x;
  for (std::uint64_t i = std::uint64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < n; i += threads) {
    std::uint64_t h = (i + 1) * 0x9E3779B97F4A7C15u;
    h = (h ^ (h >> 30)) * 0xBF58476D1CE4E5B9u;
    h = (h ^ (h >> 27)) * 0x94D049BB133111EBu;
    h ^= h >> 31;
    const auto sum = static_cast<float>((h & 0xFFFF) + ((h >> 16) & 0xFFFF) + ((h >> 32) & 0xFFFF) + (h >> 48));
    x[i] = NarrowBf16((sum - 131070.0f) * 0x1p-21f);
  }
}

}  // namespace

TEST_CASE("codes by intervals, for every t") {
  if (Reduced()) return;
  for (const CodeBook book : kBooks) {
    cuda::DeviceBuffer counts;
    RequireOk(counts.Allocate(16));
    RequireOk(cuda::Fill(counts.data(), 0, 16, nullptr));
    CompareCodes<<<1024, 256>>>(book, counts.as<unsigned long long>());
    unsigned long long result[2];
    RequireOk(cuda::CopyToHost(result, counts.data(), 16, nullptr));
    RequireOk(cuda::Synchronize(nullptr));
    std::printf("%s codes: %llu t examined, %llu differ\n", NameOf(book), result[0], result[1]);
    CHECK(result[0] == 2 * (0x3F800001ull + 1));
    CHECK(result[1] == 0);
  }
}

TEST_CASE("nested scale codes by buckets, for every t") {
  if (Reduced()) return;
  cuda::DeviceBuffer counts;
  RequireOk(counts.Allocate(16));
  RequireOk(cuda::Fill(counts.data(), 0, 16, nullptr));
  CompareNestedCodes<<<1024, 256>>>(counts.as<unsigned long long>());
  unsigned long long result[2];
  RequireOk(cuda::CopyToHost(result, counts.data(), 16, nullptr));
  RequireOk(cuda::Synchronize(nullptr));
  std::printf("nested codes: %llu t examined, %llu differ\n", result[0], result[1]);
  CHECK(result[0] == 2 * (0x7F800000ull + 1));
  CHECK(result[1] == 0);
}

TEST_CASE("more than 2^31 elements, compared in parts") {
  if (Reduced()) return;
  constexpr std::uint32_t kBlockSize = 64;
  constexpr std::uint64_t kSlab = 256 * kBlockSize;  // one group
  const std::uint64_t n = (std::uint64_t{1} << 32) + 3 * kSlab + 1237;
  const std::uint64_t blocks = BlockCount(n, kBlockSize), groups = GroupCount(blocks);
  cuda::DeviceBuffer x, codes, scales, group_sums, stats, first_bad, workspace, out;
  RequireOk(x.Allocate(2 * n));
  RequireOk(codes.Allocate(PackedBytes(n)));
  RequireOk(scales.Allocate(4 * blocks));
  RequireOk(group_sums.Allocate(groups * sizeof(GroupSums)));
  RequireOk(stats.Allocate(sizeof(SlabStats)));
  RequireOk(first_bad.Allocate(8));
  RequireOk(workspace.Allocate(cuda::ErrorStatsWorkspace()));
  RequireOk(out.Allocate(2 * n));
  FillWeights<<<4096, 256>>>(x.as<std::uint16_t>(), n);
  const cuda::QuantizeArgs args = {
      FloatType::kBF16, CodeBook::kNf4,           x.data(),           n,
      kBlockSize,       codes.as<std::uint8_t>(), scales.as<float>(), first_bad.as<std::uint64_t>()};
  for (const bool with_stats : {false, true}) {
    RequireOk(cuda::Fill(codes.data(), 0xA7, codes.size(), nullptr));
    RequireOk(cuda::Fill(scales.data(), 0xA7, scales.size(), nullptr));
    if (with_stats) {
      RequireOk(cuda::QuantizeWithStats({args, group_sums.as<GroupSums>(), stats.as<SlabStats>(), workspace.data()},
                                        nullptr));
    } else {
      RequireOk(cuda::Quantize(args, nullptr));
    }
    RequireOk(cuda::Dequantize({args.book, args.codes, args.scales, {}, n, kBlockSize, FloatType::kBF16, out.data()},
                               nullptr));
    int differing = 0, compared = 0;
    const std::uint64_t last = n / kSlab * kSlab;
    for (const std::uint64_t begin : {std::uint64_t{0}, (std::uint64_t{1} << 30) - kSlab, std::uint64_t{1} << 31,
                                      (std::uint64_t{1} << 32) - kSlab, std::uint64_t{1} << 32, last}) {
      const std::uint64_t size = begin == last ? n - last : kSlab;
      const std::uint64_t size_blocks = BlockCount(size, kBlockSize);
      std::vector<std::uint16_t> host_x(size), host_out(size), expected_out(size);
      std::vector<std::uint8_t> host_codes(PackedBytes(size)), expected_codes(PackedBytes(size));
      std::vector<float> host_scales(size_blocks), expected_scales(size_blocks);
      GroupSums sums, expected_sums;
      SlabStats expected_stats;
      RequireOk(cuda::CopyToHost(host_x.data(), x.as<std::uint16_t>() + begin, 2 * size, nullptr));
      RequireOk(cuda::CopyToHost(host_out.data(), out.as<std::uint16_t>() + begin, 2 * size, nullptr));
      RequireOk(cuda::CopyToHost(host_codes.data(), args.codes + begin / 2, PackedBytes(size), nullptr));
      RequireOk(cuda::CopyToHost(host_scales.data(), args.scales + begin / kBlockSize, 4 * size_blocks, nullptr));
      RequireOk(cuda::CopyToHost(&sums, group_sums.as<GroupSums>() + begin / kSlab, sizeof(sums), nullptr));
      RequireOk(cuda::Synchronize(nullptr));
      scalar::Quantize(args.type, args.book, host_x.data(), size, kBlockSize, expected_codes.data(),
                       expected_scales.data());
      scalar::Dequantize(args.book, expected_codes.data(), expected_scales.data(), size, kBlockSize, FloatType::kBF16,
                         expected_out.data());
      scalar::ErrorStats(args.type, args.book, host_x.data(), expected_codes.data(), expected_scales.data(), size,
                         kBlockSize, &expected_sums, &expected_stats);
      differing += host_codes != expected_codes;
      differing += std::memcmp(host_scales.data(), expected_scales.data(), 4 * size_blocks) != 0;
      differing += host_out != expected_out;
      if (with_stats) differing += std::memcmp(&sums, &expected_sums, sizeof(sums)) != 0;
      compared += 4;
    }
    CHECK(differing == 0);
    if (with_stats) {
      SlabStats result;
      RequireOk(cuda::CopyToHost(&result, stats.data(), sizeof(result), nullptr));
      RequireOk(cuda::Synchronize(nullptr));
      CHECK(result.count == n);
      CHECK(result.clipped == 0);
      CHECK(result.max_gap_ratio <= 1 + 1e-5);
    }
    std::printf("%llu elements%s: %d parts compared, %d differ\n", static_cast<unsigned long long>(n),
                with_stats ? " with statistics" : "", compared, differing);
  }
}

}  // namespace q4::testing
