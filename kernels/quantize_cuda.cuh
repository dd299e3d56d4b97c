// The encoder (docs/numerics.md Q3, Q4) on the device, shared by the kernels that quantize. As quantize_scalar.cc, step
// by step, with this division of work:
// - A lane holds 16-byte vectors of the input, as many as make the loads of a warp worth their latency.
// - The lanes of one block are neighbours in a warp, or all 32 with several vectors each. No block leaves its warp.
// - absmax: an integer maximum in the lane, then shuffles. The codes: one table access per element (cuda_tables.cuh).
//
// Memory: x is read once and stays in registers between the maximum and the codes; 0.5 byte of codes per element and 4
// bytes of scale per block are written. Nothing is shared between warps but the table.
// Registers: four per vector, which makes 32 for most shapes, 16 for 16-bit elements in blocks of 32, and 128 for fp32
// in blocks of 4096.
// Same bits: the maximum is one of integers and thus order-free (Q4.1); reciprocal, product and division are correctly
// rounded (__frcp_rn, __fmul_rn, __fdiv_rn); the table reproduces the counts of Q2.3 for every t that occurs.
#pragma once

#include <cstdint>

#include "kernels/cuda_kernels.h"
#include "kernels/cuda_tables.cuh"
#include "kernels/cuda_vector.cuh"

namespace q4::cuda {

// The shape of the work of one warp. A lane takes at least one block's vectors and otherwise `kWantedVectors`, as far
// as its block has lanes that could each look after one of the warp's blocks. Example, bf16 in blocks of 64, 8 vectors
// wanted: a block is 8 vectors, held by 8 lanes; the warp loads 4 blocks at once and does so 8 times, so a lane holds
// one vector of each of 8 blocks and looks after one of them; a tile is 32 blocks, 2048 elements.
template <FloatType kElementType, std::uint32_t kElementsPerBlock, std::uint32_t kWantedVectors>
struct QuantizeShape {
  static constexpr FloatType kType = kElementType;
  static constexpr std::uint32_t kBlockSize = kElementsPerBlock;
  static constexpr std::uint32_t kVector = kVectorSize<kType>;
  static constexpr std::uint32_t kWarpVector = kWarp * kVector;  // elements that a warp loads at once
  static constexpr std::uint32_t kLanes = kBlockSize < kWarpVector ? kBlockSize / kVector : kWarp;  // of one block
  static constexpr std::uint32_t kBlockVectors =
      kBlockSize / (kLanes * kVector);  // vectors that a lane holds of one block
  // Each of a lane's blocks needs another of the kLanes lanes to look after it: no more blocks than that.
  static constexpr std::uint32_t kFewer = kWantedVectors < kLanes ? kWantedVectors : kLanes;
  static constexpr std::uint32_t kVectors = kBlockVectors > kFewer ? kBlockVectors : kFewer;
  static constexpr std::uint32_t kBlocks = kVectors / kBlockVectors;  // blocks that a lane works on
  static constexpr std::uint32_t kTile = kVectors * kWarpVector;      // elements per warp
};

// Running maximum of magnitudes (Q4.1) in the bits of the type: one fp32, or two 16-bit elements side by side. `word`
// is 32 bits of the input as they lie in memory.
template <FloatType kType>
__device__ inline std::uint32_t MaxMagnitudeOf(std::uint32_t max, std::uint32_t word) {
  if constexpr (kType == FloatType::kF32) return ::max(max, word & ~kF32SignBit);
  return __vmaxu2(max, word & 0x7FFF7FFF);
}

// Over the lanes of a block, as fp32. MaxMagnitude of quantize_scalar.cc, from each lane's running maximum; valid in
// all lanes of the block. Sixteen-bit halves are reduced side by side and widened in the end, which magnitudes survive.
template <FloatType kType, std::uint32_t kLanes>
__device__ inline float BlockMaximum(std::uint32_t max) {
  if constexpr (kType == FloatType::kF32) {
    return FloatOf(MaxOverLanes<kLanes>(max));
  } else {
#pragma unroll
    for (std::uint32_t distance = kLanes / 2; distance >= 1; distance /= 2) {
      max = __vmaxu2(max, __shfl_xor_sync(kAllLanes, max, distance));
    }
    return WidenLow<kType>(::max(max & 0xFFFF, max >> 16));
  }
}

// A minimum of integers over all threads: the smallest index, whatever their order (Q1.4).
__device__ inline void NoteFirstBad(std::uint64_t* first_bad, std::uint64_t index) {
  atomicMin(reinterpret_cast<unsigned long long*>(first_bad), static_cast<unsigned long long>(index));
}

// The codes of one vector, in the byte order of memory: element 2i is the high nibble of byte i (Q3.1). Append moves
// the word up, so the last byte comes first and the high nibble before the low one.
template <FloatType kType>
__device__ inline std::uint32_t EncodeVector(const uint4& v, float r, const SharedCodeCells::Column& cells) {
  std::uint32_t packed = 0;
#pragma unroll
  for (int byte = kVectorSize<kType> / 2 - 1; byte >= 0; --byte) {
    packed = cells.Append(packed, __fmul_rn(ElementOf<kType>(v, 2 * byte), r));
    packed = cells.Append(packed, __fmul_rn(ElementOf<kType>(v, 2 * byte + 1), r));
  }
  return packed;
}

// Quantizes the tile of full blocks that begins at element `begin`, with all lanes of a warp. Elements at and beyond
// `full_end`, the end of the slab's last full block, are left alone.
template <typename Shape, bool kCodes>
__device__ inline void QuantizeTile(const QuantizeArgs& args, std::uint64_t begin, std::uint64_t full_end,
                                    const SharedCodeCells::Column& cells) {
  constexpr FloatType kType = Shape::kType;
  constexpr std::uint32_t kBlockSize = Shape::kBlockSize;
  constexpr std::uint32_t kPerBlock = Shape::kBlockVectors;
  const std::uint32_t lane = threadIdx.x % kWarp;
  const std::uint32_t size =
      full_end - begin < Shape::kTile ? static_cast<std::uint32_t>(full_end - begin) : Shape::kTile;
  const std::uint32_t first = lane * Shape::kVector;  // the lane's first element, counted from `begin`
  const auto* x = static_cast<const unsigned char*>(args.x) + (begin + first) * kElementBytes<kType>;

  uint4 vectors[Shape::kVectors];
#pragma unroll
  for (std::uint32_t v = 0; v < Shape::kVectors; ++v) {
    // Zeros beyond the end: they are finite, raise no maximum, and their codes are not stored.
    const bool inside = first + v * Shape::kWarpVector < size;
    vectors[v] = inside ? LoadVector(x + v * Shape::kWarpVector * kElementBytes<kType>) : uint4{};
  }

  // Q4.1. Lane b of a block's lanes keeps the maximum of block b: it stores the scale and divides, for all of them.
  const std::uint32_t own_block = lane % Shape::kLanes;
  float own_maximum = 0;
#pragma unroll
  for (std::uint32_t b = 0; b < Shape::kBlocks; ++b) {
    std::uint32_t max = 0;
#pragma unroll
    for (std::uint32_t v = b * kPerBlock; v < (b + 1) * kPerBlock; ++v) {
#pragma unroll
      for (int word = 0; word < 4; ++word) max = MaxMagnitudeOf<kType>(max, WordOf(vectors[v], word));
    }
    const float a = BlockMaximum<kType, Shape::kLanes>(max);
    if (own_block == b) own_maximum = a;
  }
  // Rare: the warp looks at its elements one by one. Outputs of such a slab are unspecified, so it may leave without
  // scales and codes.
  if (__any_sync(kAllLanes, !IsFinite(own_maximum))) {
#pragma unroll 1
    for (std::uint32_t i = 0; i < Shape::kVectors * Shape::kVector; ++i) {
      const std::uint32_t at = first + i / Shape::kVector * Shape::kWarpVector + i % Shape::kVector;
      if (at < size && !IsFinite(LoadElement(kType, args.x, begin + at))) NoteFirstBad(args.first_bad, begin + at);
    }
    return;
  }
  // Block k of the tile. A vector v of the warp covers kWarp / kLanes blocks, and lanes lane / kLanes tell which.
  if (own_block < Shape::kBlocks) {
    const std::uint32_t k = own_block * (kWarp / Shape::kLanes) + lane / Shape::kLanes;
    if (k < size / kBlockSize) args.scales[begin / kBlockSize + k] = own_maximum;
  }

  if constexpr (kCodes) {
    const float own_reciprocal = __frcp_rn(ClampTiny(own_maximum));  // Q4.3
    std::uint8_t* codes = args.codes + (begin + first) / 2;
#pragma unroll
    for (std::uint32_t b = 0; b < Shape::kBlocks; ++b) {
      // The reciprocal from the lane that divided for block b.
      const float r = __shfl_sync(kAllLanes, own_reciprocal, static_cast<int>(b), Shape::kLanes);
#pragma unroll
      for (std::uint32_t v = b * kPerBlock; v < (b + 1) * kPerBlock; ++v) {
        const std::uint32_t packed = EncodeVector<kType>(vectors[v], r, cells);
        // After the encoding, which all lanes do together; only the store is left out.
        if (first + v * Shape::kWarpVector >= size) continue;
        std::uint8_t* out = codes + v * Shape::kWarpVector / 2;
        if constexpr (kType == FloatType::kF32) {
          // Four fp32 elements make two bytes of codes, eight 16-bit ones four. The hint says that nothing reads them
          // soon.
          __stcs(reinterpret_cast<unsigned short*>(out), static_cast<unsigned short>(packed));
        } else {
          __stcs(reinterpret_cast<unsigned*>(out), packed);
        }
      }
    }
  }
}

// The tail block, which divides and stores the clamped scale (Q4.4), with all lanes of one warp. A slab has at most
// one. `cells` encodes as SharedCodeCells::Column does.
template <bool kCodes, typename Column>
__device__ inline void QuantizeTail(const QuantizeArgs& args, const Column& cells) {
  // Element by element and for any type: one block of a tensor is not worth more.
  const std::uint64_t k = args.n / args.block_size, begin = k * args.block_size;
  const std::uint32_t lane = threadIdx.x % kWarp;
  std::uint32_t max = 0;
  for (std::uint64_t i = begin + lane; i < args.n; i += kWarp) {
    const std::uint32_t magnitude = MagnitudeBits(LoadElement(args.type, args.x, i));
    max = ::max(max, magnitude);
    if (magnitude >= kF32Infinity) NoteFirstBad(args.first_bad, i);
  }
  max = MaxOverLanes<kWarp>(max);
  if (max >= kF32Infinity) return;
  const float m = ClampTiny(FloatOf(max));
  if (lane == 0) args.scales[k] = m;
  if constexpr (kCodes) {
    // A lane takes whole bytes, two elements at a time.
    for (std::uint64_t i = begin + 2 * lane; i < args.n; i += 2 * kWarp) {
      // Q3.2: the nibble after an odd end is the code of 0.
      const float second = i + 1 < args.n ? LoadElement(args.type, args.x, i + 1) : 0.0f;
      std::uint32_t packed = cells.Append(0, __fdiv_rn(LoadElement(args.type, args.x, i), m));
      packed = cells.Append(packed, __fdiv_rn(second, m));
      args.codes[i / 2] = static_cast<std::uint8_t>(packed);
    }
  }
}

// Checks what Quantize and QuantizeWithStats are given. Defined in quantize_cuda.cu. Null codes are allowed here: they
// ask for the scales alone.
KernelError CheckQuantizeArgs(const QuantizeArgs& args);

// Calls visit.operator()<type, block size>(). Returns its result, or an error for a block size that is none. The block
// size is a template argument of the kernels: it decides how lanes are shared out, and loops of unknown length would
// keep the vectors in memory.
template <typename Visit>
KernelError ForShape(FloatType type, std::uint32_t block_size, const Visit& visit) {
  const auto for_type = [&]<FloatType kType>() -> KernelError {
    switch (block_size) {
      case 32:
        return visit.template operator()<kType, 32>();
      case 64:
        return visit.template operator()<kType, 64>();
      case 128:
        return visit.template operator()<kType, 128>();
      case 256:
        return visit.template operator()<kType, 256>();
      case 512:
        return visit.template operator()<kType, 512>();
      case 1024:
        return visit.template operator()<kType, 1024>();
      case 2048:
        return visit.template operator()<kType, 2048>();
      case 4096:
        return visit.template operator()<kType, 4096>();
      default:
        return {1, "block size"};
    }
  };
  if (type == FloatType::kF32) return for_type.template operator()<FloatType::kF32>();
  if (type == FloatType::kF16) return for_type.template operator()<FloatType::kF16>();
  return for_type.template operator()<FloatType::kBF16>();
}

}  // namespace q4::cuda
