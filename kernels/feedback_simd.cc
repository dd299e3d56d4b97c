// feedback_scalar.cc with a row in each lane (docs/numerics.md Q17), so that every sum keeps its order. Sums are
// carried in registers, many vectors at once: one alone would wait for its own additions.
#include <cstdint>

#include "kernels/simd_targets.h"
// Highway compiles this file once per target; the targets' list must be known by now.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/feedback_simd.cc"
#include "hwy/cache_control.h"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/feedback.h"
#include "kernels/scalar_kernels.h"
#include "kernels/simd-inl.h"
#include "kernels/simd_kernels-inl.h"

#if Q4_IS_SIMD_TARGET
HWY_BEFORE_NAMESPACE();
namespace q4::HWY_NAMESPACE {
namespace {

// Nothing here depends on the number of lanes, so that the widest vectors do.
using RowTag = hn::CappedTag<float, 16>;
using RowVec = hn::Vec<RowTag>;
using WideTag = hn::CappedTag<double, 8>;
using WideVec = hn::Vec<WideTag>;

// Sums of so many vectors of rows and columns are carried at once: as many as there are registers for, beside a row of
// `left` and a factor.
#if HWY_TARGET <= HWY_AVX3 || HWY_ARCH_ARM_A64
constexpr std::uint64_t kVectors = 4;
#else
constexpr std::uint64_t kVectors = 2;
#endif
constexpr std::uint64_t kColumns = 4;

HWY_INLINE void AddProductsOf(float* sums, const float* left, const float* right, std::uint64_t terms) {
  const RowTag d;
  const std::uint64_t lanes = hn::Lanes(d);
  RowVec sum[kColumns][kVectors];
  for (std::uint64_t c = 0; c < kColumns; ++c) {
    for (std::uint64_t v = 0; v < kVectors; ++v) sum[c][v] = hn::LoadU(d, sums + c * kFeedbackRows + v * lanes);
  }
  for (std::uint64_t j = 0; j < terms; ++j, left += kFeedbackRows, right += kFeedbackPanel) {
    RowVec row[kVectors];
    for (std::uint64_t v = 0; v < kVectors; ++v) row[v] = hn::LoadU(d, left + v * lanes);
    for (std::uint64_t c = 0; c < kColumns; ++c) {
      const RowVec factor = hn::Set(d, right[c]);
      for (std::uint64_t v = 0; v < kVectors; ++v) sum[c][v] = hn::Add(sum[c][v], hn::Mul(row[v], factor));
    }
  }
  for (std::uint64_t c = 0; c < kColumns; ++c) {
    for (std::uint64_t v = 0; v < kVectors; ++v) hn::StoreU(sum[c][v], d, sums + c * kFeedbackRows + v * lanes);
  }
}

// The same in fp64, subtracting.
template <std::uint64_t kBy>
HWY_INLINE void SubtractProductsOf(double* sums, const double* left, const double* right, std::uint64_t terms) {
  const WideTag d;
  const std::uint64_t lanes = hn::Lanes(d);
  WideVec sum[kBy][kVectors];
  for (std::uint64_t c = 0; c < kBy; ++c) {
    for (std::uint64_t v = 0; v < kVectors; ++v) sum[c][v] = hn::LoadU(d, sums + c * kFeedbackPanel + v * lanes);
  }
  for (std::uint64_t j = 0; j < terms; ++j, left += kFeedbackPanel, right += kFeedbackPanel) {
    WideVec row[kVectors];
    for (std::uint64_t v = 0; v < kVectors; ++v) row[v] = hn::LoadU(d, left + v * lanes);
    for (std::uint64_t c = 0; c < kBy; ++c) {
      const WideVec factor = hn::Set(d, right[c]);
      for (std::uint64_t v = 0; v < kVectors; ++v) sum[c][v] = hn::Sub(sum[c][v], hn::Mul(row[v], factor));
    }
  }
  for (std::uint64_t c = 0; c < kBy; ++c) {
    for (std::uint64_t v = 0; v < kVectors; ++v) hn::StoreU(sum[c][v], d, sums + c * kFeedbackPanel + v * lanes);
  }
}

// Elements that are needed next: the `part`-th of so many equal ones of a block of `terms` rows of 64.
template <typename T>
HWY_INLINE void PrefetchPart(const T* block, std::uint64_t terms, std::uint64_t part, std::uint64_t parts) {
  constexpr std::uint64_t kLine = 64 / sizeof(T);  // of a cache
  const std::uint64_t size = terms * 64 / parts;
  for (std::uint64_t i = 0; i < size; i += kLine) hwy::Prefetch(block + part * size + i);
}

// Value and code of Q2.3 in each lane: every bound is compared, as the definition has it.
template <CodeBook kBook>
HWY_INLINE void CodesOf(RowVec t, RowVec* value, hn::Vec<hn::RebindToUnsigned<RowTag>>* code) {
  const RowTag d;
  const hn::RebindToUnsigned<RowTag> du;
  constexpr const CodeBookTables& tables = TablesOf(kBook);
  *value = hn::Set(d, tables.values[tables.order[0]]);
  *code = hn::Set(du, tables.order[0]);
  for (std::size_t k = 0; k < 15; ++k) {
    const auto above = hn::Gt(t, hn::Set(d, tables.bounds[k]));
    *value = hn::IfThenElse(above, hn::Set(d, tables.values[tables.order[k + 1]]), *value);
    *code = hn::IfThenElse(hn::RebindMask(du, above), hn::Set(du, tables.order[k + 1]), *code);
  }
}

template <CodeBook kBook>
void FeedbackPanelOf(const float* x, const float* scales, const float* matrix, std::uint64_t columns, float* sums,
                     float* errors, std::uint8_t* codes) {
  const RowTag d;
  const hn::RebindToUnsigned<RowTag> du;
  const hn::RebindToSigned<RowTag> di;
  const hn::Rebind<std::uint8_t, RowTag> d8;
  const std::uint64_t lanes = hn::Lanes(d);
  const auto magnitude = [&](RowVec v) HWY_ATTR {
    return hn::BitCast(di, hn::And(hn::BitCast(du, v), hn::Set(du, ~kF32SignBit)));
  };
  const auto tiny = hn::BitCast(di, hn::Set(du, BitsOf(kTiny)));
  const auto infinity = hn::BitCast(di, hn::Set(du, kF32Infinity));
  for (std::uint64_t r = 0; r < kFeedbackRows; r += lanes) {
    for (std::uint64_t c = 0; c < columns; ++c) {
      const std::uint64_t at = c * kFeedbackRows + r;
      const RowVec element = hn::LoadU(d, x + at), scale = hn::LoadU(d, scales + at);
      const auto is_tiny = hn::Not(hn::Gt(magnitude(scale), tiny));
      RowVec target = hn::Add(element, hn::LoadU(d, sums + at));
      const auto left_alone = hn::Or(hn::Not(hn::Lt(magnitude(target), infinity)), is_tiny);
      target = hn::IfThenElse(hn::RebindMask(d, left_alone), element, target);
      // SignedDivisor() and Reciprocal().
      const auto divisor = hn::IfThenElse(hn::RebindMask(d, is_tiny), hn::CopySign(hn::BitCast(d, tiny), scale), scale);
      RowVec value;
      hn::Vec<hn::RebindToUnsigned<RowTag>> code;
      CodesOf<kBook>(hn::Mul(target, hn::Div(hn::Set(d, 1.0f), divisor)), &value, &code);
      const RowVec error = hn::Sub(element, hn::Mul(value, scale));
      const RowVec change = hn::Sub(error, hn::LoadU(d, errors + at));
      for (std::uint64_t later = c + 1; later < columns; ++later) {
        float* const sum = sums + later * kFeedbackRows + r;
        const RowVec product = hn::Mul(change, hn::Set(d, matrix[c * kFeedbackPanel + later]));
        hn::StoreU(hn::Add(hn::LoadU(d, sum), product), d, sum);
      }
      hn::StoreU(error, d, errors + at);
      hn::StoreU(hn::TruncateTo(d8, code), d8, codes + at);
    }
  }
}

}  // namespace

// The terms after these are mostly what is worked on next. The caches do not see it coming in time: only a column in
// sixteen waits, and that one for every line.
void AddProducts(float* sums, const float* left, const float* right, std::uint64_t terms) {
  static_assert(kFeedbackRows == 64 && kFeedbackPanel == 64);
  constexpr std::uint64_t kGroups = kFeedbackPanel / kColumns;
  const std::uint64_t step = kVectors * hn::Lanes(RowTag());
  for (std::uint64_t r = 0; r < kFeedbackRows; r += step) {
    for (std::uint64_t group = 0; group < kGroups; ++group) {
      if (r == 0) {
        PrefetchPart(right + terms * kFeedbackPanel, terms, group, kGroups);
        PrefetchPart(left + terms * kFeedbackRows, terms, group, kGroups);
      }
      const std::uint64_t c = group * kColumns;
      AddProductsOf(sums + c * kFeedbackRows + r, left + r, right + c, terms);
    }
  }
}

void SubtractProducts(double* sums, const double* left, const double* right, std::uint64_t terms,
                      std::uint64_t columns) {
  constexpr std::uint64_t kGroups = kFeedbackPanel / kColumns;
  const std::uint64_t step = kVectors * hn::Lanes(WideTag());
  for (std::uint64_t r = 0; r < kFeedbackPanel; r += step) {
    std::uint64_t c = 0;
    for (; c + kColumns <= columns; c += kColumns) {
      if (r == 0) {
        PrefetchPart(right + terms * kFeedbackPanel, terms, c / kColumns, kGroups);
        PrefetchPart(left + terms * kFeedbackPanel, terms, c / kColumns, kGroups);
      }
      SubtractProductsOf<kColumns>(sums + c * kFeedbackPanel + r, left + r, right + c, terms);
    }
    for (; c < columns; ++c) SubtractProductsOf<1>(sums + c * kFeedbackPanel + r, left + r, right + c, terms);
  }
}

void FeedbackPanel(CodeBook book, const float* x, const float* scales, const float* matrix, std::uint64_t columns,
                   float* sums, float* errors, std::uint8_t* codes) {
  WithBook(book, [&](auto constant) HWY_ATTR {
    FeedbackPanelOf<decltype(constant)::value>(x, scales, matrix, columns, sums, errors, codes);
  });
}

}  // namespace q4::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // Q4_IS_SIMD_TARGET
