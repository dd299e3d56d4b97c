// dequantize_scalar.cc by table (docs/numerics.md Q6). A block has only 16 possible outputs: they are computed once,
// rounded to the output type, and then looked up a byte plane at a time.
#include <cstdint>

#include "kernels/simd_targets.h"
// Highway compiles this file once per target; the targets' list must be known by now.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/dequantize_simd.cc"
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

// The 16 outputs of a block, in the output type.
template <FloatType kOut, CodeBook kBook>
HWY_INLINE void FillTable(float scale, std::uint8_t* table) {
  const float* values = kBook == CodeBook::kNf4 ? kNf4Values.data() : kFp4Values.data();
  for (std::size_t code = 0; code < 16; code += kLanes) {
    StoreElements<kOut>(DecodeVector(values + code, scale), table + code * FloatSize(kOut));
  }
}

// Sixteen-bit outputs: two planes, low and high bytes.
class HalfTable {
 public:
  explicit HWY_INLINE HalfTable(const std::uint8_t* table) {
    const Bytes16Tag d;
    const Bytes16 a = hn::Load(d, table), b = hn::Load(d, table + 16);
    low_ = hn::ConcatEven(d, b, a);
    high_ = hn::ConcatOdd(d, b, a);
  }

  HWY_INLINE void Store(Bytes16 codes, std::uint8_t* out) const {
    const Bytes16Tag d;
    const Bytes16 low = hn::TableLookupBytes(low_, codes), high = hn::TableLookupBytes(high_, codes);
    hn::StoreU(hn::InterleaveLower(low, high), d, out);
    hn::StoreU(hn::InterleaveUpper(d, low, high), d, out + 16);
  }

 private:
  Bytes16 low_, high_;
};

// Thirty-two-bit outputs: four planes.
class WordTable {
 public:
  explicit HWY_INLINE WordTable(const std::uint8_t* table) {
    const Bytes16Tag d;
    const Bytes16 a = hn::Load(d, table), b = hn::Load(d, table + 16);
    const Bytes16 c = hn::Load(d, table + 32), e = hn::Load(d, table + 48);
    const Bytes16 even_low = hn::ConcatEven(d, b, a), even_high = hn::ConcatEven(d, e, c);
    const Bytes16 odd_low = hn::ConcatOdd(d, b, a), odd_high = hn::ConcatOdd(d, e, c);
    plane0_ = hn::ConcatEven(d, even_high, even_low);
    plane1_ = hn::ConcatEven(d, odd_high, odd_low);
    plane2_ = hn::ConcatOdd(d, even_high, even_low);
    plane3_ = hn::ConcatOdd(d, odd_high, odd_low);
  }

  HWY_INLINE void Store(Bytes16 codes, std::uint8_t* out) const {
    const Bytes16Tag d;
    const Bytes16 b0 = hn::TableLookupBytes(plane0_, codes), b1 = hn::TableLookupBytes(plane1_, codes);
    const Bytes16 b2 = hn::TableLookupBytes(plane2_, codes), b3 = hn::TableLookupBytes(plane3_, codes);
    StoreWords(hn::InterleaveLower(b0, b1), hn::InterleaveLower(b2, b3), out);
    StoreWords(hn::InterleaveUpper(d, b0, b1), hn::InterleaveUpper(d, b2, b3), out + 32);
  }

 private:
  static HWY_INLINE void StoreWords(Bytes16 low_halves, Bytes16 high_halves, std::uint8_t* out) {
    const Bytes16Tag d8;
    const hn::Repartition<std::uint16_t, Bytes16Tag> d16;
    const auto low = hn::BitCast(d16, low_halves), high = hn::BitCast(d16, high_halves);
    hn::StoreU(hn::BitCast(d8, hn::InterleaveLower(low, high)), d8, out);
    hn::StoreU(hn::BitCast(d8, hn::InterleaveUpper(d16, low, high)), d8, out + 16);
  }

  Bytes16 plane0_, plane1_, plane2_, plane3_;
};

template <FloatType kOut, CodeBook kBook>
void DequantizeOf(const std::uint8_t* codes, const float* scales, std::uint64_t n, std::uint32_t block_size,
                  std::uint8_t* out) {
  using Table = std::conditional_t<kOut == FloatType::kF32, WordTable, HalfTable>;
  constexpr std::size_t kOutBytes = FloatSize(kOut);
  alignas(16) std::uint8_t outputs[16 * kOutBytes];
  const std::uint64_t full_blocks = n / block_size;
  for (std::uint64_t k = 0; k < full_blocks; ++k) {
    FillTable<kOut, kBook>(scales[k], outputs);
    const Table table(outputs);
    for (std::uint32_t i = 0; i < block_size; i += 32) {
      Bytes16 first, second;
      UnpackCodes(hn::LoadU(Bytes16Tag(), codes), first, second);
      table.Store(first, out);
      table.Store(second, out + 16 * kOutBytes);
      codes += 16;
      out += 32 * kOutBytes;
    }
  }
  scalar::Dequantize(kBook, codes, scales + full_blocks, n - full_blocks * block_size, block_size, kOut, out);
}

template <FloatType kOut>
void DequantizeOf(CodeBook book, const std::uint8_t* codes, const float* scales, std::uint64_t n,
                  std::uint32_t block_size, std::uint8_t* out) {
  if (book == CodeBook::kNf4) return DequantizeOf<kOut, CodeBook::kNf4>(codes, scales, n, block_size, out);
  return DequantizeOf<kOut, CodeBook::kFp4>(codes, scales, n, block_size, out);
}

}  // namespace

void Dequantize(CodeBook book, const std::uint8_t* codes, const float* scales, std::uint64_t n,
                std::uint32_t block_size, FloatType out_type, void* out) {
  auto* bytes = static_cast<std::uint8_t*>(out);
  if (out_type == FloatType::kF32) return DequantizeOf<FloatType::kF32>(book, codes, scales, n, block_size, bytes);
  if (out_type == FloatType::kF16) return DequantizeOf<FloatType::kF16>(book, codes, scales, n, block_size, bytes);
  return DequantizeOf<FloatType::kBF16>(book, codes, scales, n, block_size, bytes);
}

}  // namespace q4::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // Q4_IS_SIMD_TARGET
