// scalar::Dequantize by table (docs/numerics.md Q6). A block has only 16 possible outputs: they are computed once,
// rounded to the output type, and then looked up a byte plane at a time; AVX-512 looks up whole words too.
//
// Same bits as the reference, because each table entry is computed by its two steps, Decode and StoreElement, and a
// look-up only moves bytes. A block has at least 32 elements, so the 16 entries cost less than its elements would one
// by one.
//
// Order: the decoders with 16-byte vectors, those with 64-byte vectors, and the loops over blocks, which choose one.
#include <cstdint>

#include "kernels/simd_targets.h"
// Highway compiles this file once per target; the targets' list must be known by now.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/dequantize_simd.cc"
#include "hwy/cache_control.h"
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

// ---- Decoders. Each is made from the scale of a block; Decode() turns kCodes codes, kCodes / 2 bytes, into outputs.

// The 16 outputs of a block, in the output type.
template <FloatType kOut, CodeBook kBook>
HWY_INLINE void FillTable(float scale, std::uint8_t* table) {
  const float* values = TablesOf(kBook).values.data();
  // Decode, then StoreElement
  for (std::size_t code = 0; code < 16; code += kLanes) {
    StoreElements<kOut>(DecodeVector(F32Tag(), values + code, scale), table + code * FloatSize(kOut));
  }
}

// Sixteen-bit outputs: two planes, low and high bytes.
template <FloatType kOut, CodeBook kBook>
class HalfDecoder {
 public:
  static constexpr std::uint32_t kCodes = 32;

  explicit HWY_INLINE HalfDecoder(float scale) {
    alignas(16) std::uint8_t table[32];
    FillTable<kOut, kBook>(scale, table);
    const Bytes16Tag d;
    const Bytes16 a = hn::Load(d, table), b = hn::Load(d, table + 16);
    // Little-endian: the low byte of each output comes first.
    low_ = hn::ConcatEven(d, b, a);
    high_ = hn::ConcatOdd(d, b, a);
  }

  // Reads 16 bytes of codes, writes 64 bytes of outputs, both at any alignment.
  HWY_INLINE void Decode(const std::uint8_t* packed, std::uint8_t* out) const {
    Bytes16 first, second;
    UnpackCodes(hn::LoadU(Bytes16Tag(), packed), first, second);
    Store(first, out);
    Store(second, out + 32);
  }

 private:
  // 16 outputs: a look-up in each plane, and the bytes woven together again.
  HWY_INLINE void Store(Bytes16 codes, std::uint8_t* out) const {
    const Bytes16Tag d;
    const Bytes16 low = hn::TableLookupBytes(low_, codes), high = hn::TableLookupBytes(high_, codes);
    hn::StoreU(hn::InterleaveLower(low, high), d, out);
    hn::StoreU(hn::InterleaveUpper(d, low, high), d, out + 16);
  }

  Bytes16 low_, high_;
};

// Thirty-two-bit outputs: four planes.
template <CodeBook kBook>
class WordDecoder {
 public:
  static constexpr std::uint32_t kCodes = 32;

  explicit HWY_INLINE WordDecoder(float scale) {
    alignas(16) std::uint8_t table[64];
    FillTable<FloatType::kF32, kBook>(scale, table);
    const Bytes16Tag d;
    const Bytes16 a = hn::Load(d, table), b = hn::Load(d, table + 16);
    const Bytes16 c = hn::Load(d, table + 32), e = hn::Load(d, table + 48);
    // Twice even and odd bytes: what is left is every fourth byte, one plane.
    const Bytes16 even_low = hn::ConcatEven(d, b, a), even_high = hn::ConcatEven(d, e, c);
    const Bytes16 odd_low = hn::ConcatOdd(d, b, a), odd_high = hn::ConcatOdd(d, e, c);
    plane0_ = hn::ConcatEven(d, even_high, even_low);
    plane1_ = hn::ConcatEven(d, odd_high, odd_low);
    plane2_ = hn::ConcatOdd(d, even_high, even_low);
    plane3_ = hn::ConcatOdd(d, odd_high, odd_low);
  }

  // Reads 16 bytes of codes, writes 128 bytes of outputs.
  HWY_INLINE void Decode(const std::uint8_t* packed, std::uint8_t* out) const {
    Bytes16 first, second;
    UnpackCodes(hn::LoadU(Bytes16Tag(), packed), first, second);
    Store(first, out);
    Store(second, out + 64);
  }

 private:
  // 16 outputs: bytes 0 and 1 woven into low halves, 2 and 3 into high halves, then both into words.
  HWY_INLINE void Store(Bytes16 codes, std::uint8_t* out) const {
    const Bytes16Tag d;
    const Bytes16 b0 = hn::TableLookupBytes(plane0_, codes), b1 = hn::TableLookupBytes(plane1_, codes);
    const Bytes16 b2 = hn::TableLookupBytes(plane2_, codes), b3 = hn::TableLookupBytes(plane3_, codes);
    StoreWords(hn::InterleaveLower(b0, b1), hn::InterleaveLower(b2, b3), out);
    StoreWords(hn::InterleaveUpper(d, b0, b1), hn::InterleaveUpper(d, b2, b3), out + 32);
  }

  // Eight outputs.
  static HWY_INLINE void StoreWords(Bytes16 low_halves, Bytes16 high_halves, std::uint8_t* out) {
    const Bytes16Tag d8;
    const hn::Repartition<std::uint16_t, Bytes16Tag> d16;
    const auto low = hn::BitCast(d16, low_halves), high = hn::BitCast(d16, high_halves);
    hn::StoreU(hn::BitCast(d8, hn::InterleaveLower(low, high)), d8, out);
    hn::StoreU(hn::BitCast(d8, hn::InterleaveUpper(d16, low, high)), d8, out + 16);
  }

  Bytes16 plane0_, plane1_, plane2_, plane3_;
};

#if HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX3
#define Q4_HAS_WIDE_DECODERS 1

// With 64-byte vectors one instruction decodes twice to four times as much, and the 16 outputs need no memory between
// their computation and their look-up. Blocks of 32 elements are left to the decoders above.
using WideBytesTag = hn::Full512<std::uint8_t>;
using WideF32Tag = hn::Full512<float>;
using WideU32Tag = hn::Full512<std::uint32_t>;
using HalfBytesTag = hn::Full256<std::uint8_t>;
using HalfU32Tag = hn::Full256<std::uint32_t>;

// Results of more bytes than this are written past the caches: few last-level caches could keep them, and a store that
// goes through a cache first reads the memory that it overwrites. Smaller results stay where their reader finds them:
// the tools and the loader decode at most 16 MiB at a time, and most of them use the result at once.
constexpr std::uint64_t kMaxCachedBytes = std::uint64_t{16} << 20;

// A streamed store needs an address that is a multiple of the vector's size.
template <bool kStreamed, class D>
HWY_INLINE void StoreBytes(hn::Vec<D> v, D d, std::uint8_t* out) {
  if constexpr (kStreamed) {
    hn::Stream(v, d, out);
  } else {
    hn::StoreU(v, d, out);
  }
}

// HalfDecoder on four groups of 16 bytes: byte look-ups and interleaving never cross from one group into another.
template <FloatType kOut, CodeBook kBook, bool kStreamed>
class WideHalfDecoder {
 public:
  static constexpr std::uint32_t kCodes = 64;

  explicit HWY_INLINE WideHalfDecoder(float scale) {
    // First the low bytes of each group's four outputs come together, and the high ones beside them; then all groups
    // get the low bytes of all 16 outputs, and the high ones.
    alignas(16) static constexpr std::uint8_t kByPlane[16] = {0, 4, 8, 12, 1, 5, 9, 13, 0, 4, 8, 12, 1, 5, 9, 13};
    alignas(64) static constexpr std::uint32_t kLow[16] = {0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12};
    alignas(64) static constexpr std::uint32_t kHigh[16] = {1, 5, 9, 13, 1, 5, 9, 13, 1, 5, 9, 13, 1, 5, 9, 13};
    const float* values = TablesOf(kBook).values.data();
    const WideBytesTag d8;
    const WideU32Tag d32;
    // Decode and StoreElement's rounding, all 16 in one vector.
    const auto outputs = Narrow(DecodeVector(WideF32Tag(), values, scale));
    const auto planes = hn::BitCast(d32, hn::TableLookupBytes(hn::BitCast(d8, outputs), hn::LoadDup128(d8, kByPlane)));
    low_ = hn::BitCast(d8, hn::TableLookupLanes(planes, hn::SetTableIndices(d32, kLow)));
    high_ = hn::BitCast(d8, hn::TableLookupLanes(planes, hn::SetTableIndices(d32, kHigh)));
  }

  HWY_INLINE void Decode(const std::uint8_t* packed, std::uint8_t* out) const {
    // Interleaving takes the outputs 0 to 31 from the lower halves of the groups and 32 to 63 from their upper halves.
    alignas(32) static constexpr std::uint32_t kOrder[8] = {0, 4, 1, 5, 2, 6, 3, 7};
    const WideBytesTag d8;
    const hn::Full512<std::uint16_t> d16;
    const HalfU32Tag half32;
    // UnpackCodes: 32 bytes of codes, one code to a byte in the end. Each byte is widened to 16 bits, which makes room
    // for the low nibble in the upper byte.
    const auto words = hn::BitCast(half32, hn::LoadU(HalfBytesTag(), packed));
    const auto ordered = hn::TableLookupLanes(words, hn::SetTableIndices(half32, kOrder));
    const auto pairs = hn::PromoteTo(d16, hn::BitCast(HalfBytesTag(), ordered));
    const auto codes =
        hn::And(hn::BitCast(d8, hn::Or(hn::ShiftRight<4>(pairs), hn::ShiftLeft<8>(pairs))), hn::Set(d8, 0x0F));
    const auto low = hn::TableLookupBytes(low_, codes), high = hn::TableLookupBytes(high_, codes);
    StoreBytes<kStreamed>(hn::InterleaveLower(low, high), d8, out);
    StoreBytes<kStreamed>(hn::InterleaveUpper(d8, low, high), d8, out + 64);
  }

 private:
  // One sixteen-bit value in the low half of each lane.
  static HWY_INLINE hn::Vec<WideU32Tag> Narrow(hn::Vec<WideF32Tag> v) {
    if constexpr (kOut == FloatType::kBF16) {
      return NarrowBf16(WideF32Tag(), v);
    } else {
      return hn::PromoteTo(WideU32Tag(),
                           hn::BitCast(hn::Full256<std::uint16_t>(), hn::DemoteTo(hn::Full256<hwy::float16_t>(), v)));
    }
  }

  hn::Vec<WideBytesTag> low_, high_;
};

// Thirty-two-bit outputs: one vector holds all 16.
template <CodeBook kBook, bool kStreamed>
class WideWordDecoder {
 public:
  static constexpr std::uint32_t kCodes = 64;

  explicit HWY_INLINE WideWordDecoder(float scale) {
    const float* values = TablesOf(kBook).values.data();
    // Decode; fp32 outputs need no rounding.
    outputs_ = hn::BitCast(WideU32Tag(), DecodeVector(WideF32Tag(), values, scale));
  }

  HWY_INLINE void Decode(const std::uint8_t* packed, std::uint8_t* out) const {
    // Lanes 0 to 7 see the word that holds their eight codes, lanes 8 to 15 the next one; each shifts its code down.
    alignas(64) static constexpr std::uint32_t kWord[16] = {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1};
    alignas(64) static constexpr std::uint32_t kShift[16] = {4, 0, 12, 8, 20, 16, 28, 24, 4, 0, 12, 8, 20, 16, 28, 24};
    const WideBytesTag d8;
    const WideU32Tag d32;
    // UnpackCodes: a lane's code is 4 bits of one of the eight words; a permutation brings the word, a shift the bits.
    const auto words = hn::ZeroExtendVector(d32, hn::BitCast(HalfU32Tag(), hn::LoadU(HalfBytesTag(), packed)));
    const auto shift = hn::Load(d32, kShift);
    auto word = hn::Load(d32, kWord);
    for (int i = 0; i < 4; ++i) {
      const auto seen = hn::TableLookupLanes(words, hn::IndicesFromVec(d32, word));
      const auto codes = hn::And(hn::Shr(seen, shift), hn::Set(d32, 15));
      // One permutation looks up 16 outputs.
      const auto outputs = hn::TableLookupLanes(outputs_, hn::IndicesFromVec(d32, codes));
      StoreBytes<kStreamed>(hn::BitCast(d8, outputs), d8, out + 64 * i);
      word = hn::Add(word, hn::Set(d32, 2));
    }
  }

 private:
  hn::Vec<WideU32Tag> outputs_;
};
#else
#define Q4_HAS_WIDE_DECODERS 0
#endif

// ---- Whole blocks

template <class Decoder>
void DecodeBlocks(const std::uint8_t* codes, const float* scales, std::uint64_t blocks, std::uint32_t block_size,
                  std::uint64_t out_bytes, std::uint8_t* out) {
  for (std::uint64_t k = 0; k < blocks; ++k) {
    // The block's table; it stays in registers for all of its codes.
    const Decoder decoder(scales[k]);
    for (std::uint32_t i = 0; i < block_size; i += Decoder::kCodes) {
      decoder.Decode(codes, out);
      codes += Decoder::kCodes / 2;
      out += Decoder::kCodes * out_bytes;
    }
  }
}

template <FloatType kOut, CodeBook kBook>
void DecodeBlocks(const std::uint8_t* codes, const float* scales, std::uint64_t blocks, std::uint32_t block_size,
                  std::uint8_t* out) {
  constexpr std::uint64_t kOutBytes = FloatSize(kOut);
#if Q4_HAS_WIDE_DECODERS
  // A stream has to be flushed before another thread may read, and loses where the result is read back at once: so only
  // large results are streamed.
  if (block_size >= 64) {
    using Cached =
        std::conditional_t<kOut == FloatType::kF32, WideWordDecoder<kBook, false>, WideHalfDecoder<kOut, kBook, false>>;
    using Streamed =
        std::conditional_t<kOut == FloatType::kF32, WideWordDecoder<kBook, true>, WideHalfDecoder<kOut, kBook, true>>;
    const bool is_aligned = reinterpret_cast<std::uintptr_t>(out) % sizeof(hn::Vec<WideBytesTag>) == 0;
    if (!is_aligned || blocks * block_size * kOutBytes <= kMaxCachedBytes) {
      return DecodeBlocks<Cached>(codes, scales, blocks, block_size, kOutBytes, out);
    }
    DecodeBlocks<Streamed>(codes, scales, blocks, block_size, kOutBytes, out);
    return hwy::FlushStream();  // whoever is told that the result is there sees it
  }
#endif
  using Decoder = std::conditional_t<kOut == FloatType::kF32, WordDecoder<kBook>, HalfDecoder<kOut, kBook>>;
  DecodeBlocks<Decoder>(codes, scales, blocks, block_size, kOutBytes, out);
}

template <FloatType kOut, CodeBook kBook>
void DequantizeOf(const std::uint8_t* codes, const float* scales, std::uint64_t n, std::uint32_t block_size,
                  std::uint8_t* out) {
  // Full blocks here; the tail block, of any length, by the reference.
  const std::uint64_t blocks = n / block_size, whole = blocks * block_size;
  DecodeBlocks<kOut, kBook>(codes, scales, blocks, block_size, out);
  scalar::Dequantize(kBook, codes + whole / 2, scales + blocks, n - whole, block_size, kOut,
                     out + whole * FloatSize(kOut));
}

// Finds `book` among those from number kFirst on.
template <FloatType kOut, std::size_t kFirst = 0>
void DequantizeBook(CodeBook book, const std::uint8_t* codes, const float* scales, std::uint64_t n,
                    std::uint32_t block_size, std::uint8_t* out) {
  constexpr auto kBook = static_cast<CodeBook>(kFirst);
  if constexpr (kFirst + 1 < kCodeBookCount) {
    if (book != kBook) return DequantizeBook<kOut, kFirst + 1>(book, codes, scales, n, block_size, out);
  }
  return DequantizeOf<kOut, kBook>(codes, scales, n, block_size, out);
}

}  // namespace

void Dequantize(CodeBook book, const std::uint8_t* codes, const float* scales, std::uint64_t n,
                std::uint32_t block_size, FloatType out_type, void* out) {
  auto* bytes = static_cast<std::uint8_t*>(out);
  if (out_type == FloatType::kF32) return DequantizeBook<FloatType::kF32>(book, codes, scales, n, block_size, bytes);
  if (out_type == FloatType::kF16) return DequantizeBook<FloatType::kF16>(book, codes, scales, n, block_size, bytes);
  return DequantizeBook<FloatType::kBF16>(book, codes, scales, n, block_size, bytes);
}

}  // namespace q4::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#undef Q4_HAS_WIDE_DECODERS
#endif  // Q4_IS_SIMD_TARGET
