// quantize_scalar.cc, kLanes elements at a time (docs/numerics.md Q3, Q4). Full blocks only: the tail block, which
// divides, and the search for the first non-finite element are left to the scalar code.
//
// Steps, with the names of the scalar ones: MaxMagnitude (an integer maximum) -> Reciprocal(ClampTiny(a)), one scalar
// division for each block -> v * r -> CountBelow (BoundSearch) -> order of the code book (CodesOfCounts) -> nibbles
// (PackCounts). Counts are packed before they become codes, so that the order's look-up works on two codes a byte.
#include <cstdint>

#include "kernels/simd_targets.h"
// Highway compiles this file once per target; the targets' list must be known by now.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/quantize_simd.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/numeric.h"
#include "kernels/scalar_kernels.h"
#include "kernels/simd-inl.h"
#include "kernels/simd_kernels-inl.h"

#if Q4_IS_SIMD_TARGET
HWY_BEFORE_NAMESPACE();
namespace q4::HWY_NAMESPACE {
namespace {

// Q4.1: bits of max |x| of one full block, widened. Sixteen-bit magnitudes order as they are, so only the result is
// widened.
template <FloatType kType>
HWY_INLINE std::uint32_t MaxMagnitude(const std::uint8_t* x, std::uint32_t block_size) {
  // Up to 32 bytes at a time: eight fp32, or sixteen 16-bit elements. Loaded as bytes, since x may have any alignment.
  using Word = std::conditional_t<kType == FloatType::kF32, std::uint32_t, std::uint16_t>;
  const hn::CappedTag<Word, 32 / sizeof(Word)> d;
  const hn::Repartition<std::uint8_t, decltype(d)> d8;
  const auto magnitude_mask = hn::Set(d, static_cast<Word>(static_cast<Word>(~Word{0}) >> 1));
  auto max = hn::Zero(d);
  for (std::size_t byte = 0; byte < block_size * sizeof(Word); byte += hn::Lanes(d8)) {
    max = hn::Max(max, hn::And(hn::BitCast(d, hn::LoadU(d8, x + byte)), magnitude_mask));
  }
  // A NaN or an infinity of a 16-bit type widens to one of fp32, so the caller's test is the scalar one.
  const Word word = hn::GetLane(hn::MaxOfLanes(d, max));
  if constexpr (kType == FloatType::kF32) return word;
  if constexpr (kType == FloatType::kF16) return BitsOf(q4::WidenF16(word));
  return std::uint32_t{word} << 16;
}

// CountBelow of numeric.h for the 15 bounds of a code book. Eight lanes hold the widest level of a binary search, so
// each level is one table lookup; with four lanes every bound is compared.
template <CodeBook kBook>
class BoundSearch {
 public:
  HWY_INLINE BoundSearch() {
    const F32Tag d;
    root_ = hn::Set(d, kBounds[7]);
    second_ = hn::LoadU(d, kLevels.second);
    third_ = hn::LoadU(d, kLevels.third);
    last_ = hn::LoadU(d, kLevels.last);
  }

  // Counts of each lane, 0 to 15. Any t; a NaN counts 0, as in the scalar code. Both branches give what Q10.4 asks for.
  HWY_INLINE U32Vec CountBelow(F32Vec t) const {
    const U32Tag du;
    if constexpr (kLanes == 8) {
      // Level by level through the implicit tree of bounds: 1, 2, 4 and 8 nodes. `count` is the path so far in binary:
      // the index of the next node on its level and, after the last level, the number of bounds below t.
      U32Vec count = hn::Sub(hn::Zero(du), Above(t, root_));
      count = Descend(t, second_, count);
      count = Descend(t, third_, count);
      return Descend(t, last_, count);
    } else {
      U32Vec count = hn::Zero(du);
      for (const float bound : kBounds) count = hn::Sub(count, Above(t, hn::Set(F32Tag(), bound)));
      return count;
    }
  }

 private:
  static constexpr const std::array<float, 15>& kBounds = TablesOf(kBook).bounds;

  // After a step, `count` is the node among the next level's; the nodes of the last level are the bounds of even index.
  struct Levels {
    float second[8] = {kBounds[3], kBounds[11]};
    float third[8] = {kBounds[1], kBounds[5], kBounds[9], kBounds[13]};
    float last[8] = {kBounds[0], kBounds[2], kBounds[4], kBounds[6], kBounds[8], kBounds[10], kBounds[12], kBounds[14]};
  };
  static constexpr Levels kLevels{};

  // All ones, which is -1, where t > bound.
  static HWY_INLINE U32Vec Above(F32Vec t, F32Vec bound) {
    return hn::BitCast(U32Tag(), hn::VecFromMask(F32Tag(), hn::Gt(t, bound)));
  }

  // 2 * count, and 1 more where t is above the node's bound: the child on the right.
  static HWY_INLINE U32Vec Descend(F32Vec t, F32Vec level, U32Vec count) {
    const F32Vec bound = hn::TableLookupLanes(level, hn::IndicesFromVec(F32Tag(), count));
    return hn::Sub(hn::Add(count, count), Above(t, bound));
  }

  // One register for each level.
  F32Vec root_, second_, third_, last_;
};

// Packs the counts of 4 * kLanes elements, four vectors in order, into nibbles. 2 * kLanes bytes.
using PackedTag = hn::CappedTag<std::uint8_t, 2 * kLanes>;
HWY_INLINE hn::Vec<PackedTag> PackCounts(U32Vec c0, U32Vec c1, U32Vec c2, U32Vec c3) {
  // Byte k of lane i: element i of vector k.
  const U32Vec columns = hn::Or(hn::Or(c0, hn::ShiftLeft<8>(c1)), hn::Or(hn::ShiftLeft<16>(c2), hn::ShiftLeft<24>(c3)));
  // Lanes 2i and 2i + 1 meet in one 64-bit lane; its low half becomes the packed bytes of pair i of the four vectors.
  const hn::Repartition<std::uint64_t, U32Tag> d64;
  const auto lanes = hn::BitCast(d64, columns);
  const auto pairs = hn::Or(hn::ShiftLeft<4>(lanes), hn::ShiftRight<32>(lanes));
  const PackedTag d8;
  const auto bytes = hn::BitCast(d8, hn::TruncateTo(hn::Rebind<std::uint32_t, decltype(d64)>(), pairs));
  // Byte 4i + k goes to place i of vector k.
  if constexpr (kLanes == 8) {
    alignas(16) static constexpr std::uint8_t kOrder[] = {0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15};
    return hn::TableLookupBytes(bytes, hn::Load(d8, kOrder));
  } else {
    alignas(16) static constexpr std::uint8_t kOrder[] = {0, 4, 1, 5, 2, 6, 3, 7};
    return hn::TableLookupBytes(bytes, hn::Load(d8, kOrder));
  }
}

// The code book's order for both nibbles of each byte.
template <CodeBook kBook>
HWY_INLINE hn::Vec<PackedTag> CodesOfCounts(hn::Vec<PackedTag> counts) {
  if constexpr (CodesAreRanks(kBook)) {
    return counts;
  } else {
    const PackedTag d8;
    const hn::Repartition<std::uint16_t, PackedTag> d16;
    // TableLookupBytes is the order's 16 entries addressed by each nibble; it needs a byte to itself, hence high and
    // low apart.
    const Bytes16 order = hn::LoadU(Bytes16Tag(), TablesOf(kBook).order.data());
    const auto nibble = hn::Set(d8, 0x0F);
    const auto high = hn::And(hn::BitCast(d8, hn::ShiftRight<4>(hn::BitCast(d16, counts))), nibble);
    const auto high_codes = hn::TableLookupBytes(order, high);
    const auto low_codes = hn::TableLookupBytes(order, hn::And(counts, nibble));
    return hn::Or(hn::BitCast(d8, hn::ShiftLeft<4>(hn::BitCast(d16, high_codes))), low_codes);
  }
}

// Q4.3, Q4.6, Q3.1 for a full block.
template <FloatType kType, CodeBook kBook>
HWY_INLINE void EncodeBlock(const BoundSearch<kBook>& search, const std::uint8_t* x, std::uint32_t block_size,
                            float scale, std::uint8_t* codes) {
  // Q4.3 and, for scales of either sign, Q9.2: divided once, as a scalar; exact division and no approximation (Q10.3).
  const F32Vec r = hn::Set(F32Tag(), Reciprocal(SignedDivisor(scale)));
  constexpr std::size_t kVectorBytes = kLanes * FloatSize(kType);
  for (std::uint32_t i = 0; i < block_size; i += 4 * kLanes) {
    // fl(x * r), then CountBelow. Four vectors at once fill the packing.
    const U32Vec c0 = search.CountBelow(hn::Mul(LoadElements<kType>(x), r));
    const U32Vec c1 = search.CountBelow(hn::Mul(LoadElements<kType>(x + kVectorBytes), r));
    const U32Vec c2 = search.CountBelow(hn::Mul(LoadElements<kType>(x + 2 * kVectorBytes), r));
    const U32Vec c3 = search.CountBelow(hn::Mul(LoadElements<kType>(x + 3 * kVectorBytes), r));
    hn::StoreU(CodesOfCounts<kBook>(PackCounts(c0, c1, c2, c3)), PackedTag(), codes);
    x += 4 * kVectorBytes;
    codes += 2 * kLanes;
  }
}

template <FloatType kType>
std::uint64_t AbsmaxOf(const std::uint8_t* x, std::uint64_t n, std::uint32_t block_size, float* scales) {
  const std::uint64_t block_bytes = block_size * FloatSize(kType);
  const std::uint64_t full_blocks = n / block_size;
  for (std::uint64_t k = 0; k < full_blocks; ++k) {
    const std::uint32_t max = MaxMagnitude<kType>(x + k * block_bytes, block_size);
    if (max >= kF32Infinity) {
      // FirstNonFinite, inside the scalar function; its index counts from the block.
      return k * block_size + scalar::Absmax(kType, x + k * block_bytes, block_size, block_size, &scales[k]);
    }
    scales[k] = FloatOf(max);
  }
  // The tail block, if there is one: the scalar function clamps its scale (Q4.4).
  const std::uint64_t done = full_blocks * block_size;
  const std::uint64_t bad =
      scalar::Absmax(kType, x + full_blocks * block_bytes, n - done, block_size, scales + full_blocks);
  return bad == kAllFinite ? bad : done + bad;
}

template <FloatType kType, CodeBook kBook>
std::uint64_t QuantizeOf(const std::uint8_t* x, std::uint64_t n, std::uint32_t block_size, std::uint8_t* codes,
                         float* scales) {
  // The bounds stay in registers over all blocks.
  const BoundSearch<kBook> search;
  const std::uint64_t block_bytes = block_size * FloatSize(kType);
  const std::uint64_t full_blocks = n / block_size;
  // A few blocks' scales are found before their codes, so that the divisions do not wait for one another.
  constexpr std::uint64_t kBatch = 16;
  for (std::uint64_t batch = 0; batch < full_blocks; batch += kBatch) {
    const std::uint64_t end = full_blocks - batch < kBatch ? full_blocks : batch + kBatch;
    const std::uint64_t bad =
        AbsmaxOf<kType>(x + batch * block_bytes, (end - batch) * block_size, block_size, scales + batch);
    // Unlike the scalar code, earlier batches have been encoded by now; outputs are unspecified then.
    if (bad != kAllFinite) return batch * block_size + bad;
    for (std::uint64_t k = batch; k < end; ++k) {
      EncodeBlock<kType, kBook>(search, x + k * block_bytes, block_size, scales[k], codes + k * (block_size / 2));
    }
  }
  // The tail block divides (Q4.4), and pads an odd end (Q3.2).
  const std::uint64_t done = full_blocks * block_size;
  const std::uint64_t bad = scalar::Quantize(kType, kBook, x + full_blocks * block_bytes, n - done, block_size,
                                             codes + done / 2, scales + full_blocks);
  return bad == kAllFinite ? bad : done + bad;
}

// Q9.2: the same codes under scales that are given.
template <FloatType kType, CodeBook kBook>
void CodesUnderOf(const std::uint8_t* x, std::uint64_t n, std::uint32_t block_size, const float* scales,
                  std::uint8_t* codes) {
  const BoundSearch<kBook> search;
  const std::uint64_t block_bytes = block_size * FloatSize(kType);
  const std::uint64_t full_blocks = n / block_size, done = full_blocks * block_size;
  for (std::uint64_t k = 0; k < full_blocks; ++k) {
    EncodeBlock<kType, kBook>(search, x + k * block_bytes, block_size, scales[k], codes + k * (block_size / 2));
  }
  scalar::CodesUnder(kType, kBook, x + full_blocks * block_bytes, n - done, block_size, scales + full_blocks,
                     codes + done / 2);
}

template <FloatType kType, std::size_t kFirst = 0>
void CodesUnderBook(CodeBook book, const std::uint8_t* x, std::uint64_t n, std::uint32_t block_size,
                    const float* scales, std::uint8_t* codes) {
  constexpr auto kBook = static_cast<CodeBook>(kFirst);
  if constexpr (kFirst + 1 < kCodeBookCount) {
    if (book != kBook) return CodesUnderBook<kType, kFirst + 1>(book, x, n, block_size, scales, codes);
  }
  CodesUnderOf<kType, kBook>(x, n, block_size, scales, codes);
}

// Finds `book` among those from number kFirst on.
template <FloatType kType, std::size_t kFirst = 0>
std::uint64_t QuantizeBook(CodeBook book, const std::uint8_t* x, std::uint64_t n, std::uint32_t block_size,
                           std::uint8_t* codes, float* scales) {
  constexpr auto kBook = static_cast<CodeBook>(kFirst);
  if constexpr (kFirst + 1 < kCodeBookCount) {
    if (book != kBook) return QuantizeBook<kType, kFirst + 1>(book, x, n, block_size, codes, scales);
  }
  return QuantizeOf<kType, kBook>(x, n, block_size, codes, scales);
}

}  // namespace

std::uint64_t Absmax(FloatType type, const void* x, std::uint64_t n, std::uint32_t block_size, float* scales) {
  const auto* bytes = static_cast<const std::uint8_t*>(x);
  if (type == FloatType::kF32) return AbsmaxOf<FloatType::kF32>(bytes, n, block_size, scales);
  if (type == FloatType::kF16) return AbsmaxOf<FloatType::kF16>(bytes, n, block_size, scales);
  return AbsmaxOf<FloatType::kBF16>(bytes, n, block_size, scales);
}

std::uint64_t Quantize(FloatType type, CodeBook book, const void* x, std::uint64_t n, std::uint32_t block_size,
                       std::uint8_t* codes, float* scales) {
  const auto* bytes = static_cast<const std::uint8_t*>(x);
  if (type == FloatType::kF32) return QuantizeBook<FloatType::kF32>(book, bytes, n, block_size, codes, scales);
  if (type == FloatType::kF16) return QuantizeBook<FloatType::kF16>(book, bytes, n, block_size, codes, scales);
  return QuantizeBook<FloatType::kBF16>(book, bytes, n, block_size, codes, scales);
}

void CodesUnder(FloatType type, CodeBook book, const void* x, std::uint64_t n, std::uint32_t block_size,
                const float* scales, std::uint8_t* codes) {
  const auto* bytes = static_cast<const std::uint8_t*>(x);
  if (type == FloatType::kF32) return CodesUnderBook<FloatType::kF32>(book, bytes, n, block_size, scales, codes);
  if (type == FloatType::kF16) return CodesUnderBook<FloatType::kF16>(book, bytes, n, block_size, scales, codes);
  CodesUnderBook<FloatType::kBF16>(book, bytes, n, block_size, scales, codes);
}

}  // namespace q4::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // Q4_IS_SIMD_TARGET
