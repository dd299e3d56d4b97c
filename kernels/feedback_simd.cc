// feedback_scalar.cc with a row in each lane (docs/numerics.md Q17), so that every sum keeps its order. Sums are
// carried in registers, eight vectors at once: one alone would wait for its own additions.
#include <cstdint>

#include "kernels/simd_targets.h"
// Highway compiles this file once per target; the targets' list must be known by now.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/feedback_simd.cc"
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

// Two vectors of rows by four columns.
HWY_INLINE void AddProductsOfFour(float* sums, const float* left, const float* right, std::uint64_t terms) {
  const RowTag d;
  const std::uint64_t lanes = hn::Lanes(d);
  RowVec sum[4][2];
  for (std::uint64_t c = 0; c < 4; ++c) {
    sum[c][0] = hn::LoadU(d, sums + c * kFeedbackRows);
    sum[c][1] = hn::LoadU(d, sums + c * kFeedbackRows + lanes);
  }
  for (std::uint64_t j = 0; j < terms; ++j, left += kFeedbackRows, right += kFeedbackPanel) {
    const RowVec left0 = hn::LoadU(d, left), left1 = hn::LoadU(d, left + lanes);
    for (std::uint64_t c = 0; c < 4; ++c) {
      const RowVec factor = hn::Set(d, right[c]);
      sum[c][0] = hn::Add(sum[c][0], hn::Mul(left0, factor));
      sum[c][1] = hn::Add(sum[c][1], hn::Mul(left1, factor));
    }
  }
  for (std::uint64_t c = 0; c < 4; ++c) {
    hn::StoreU(sum[c][0], d, sums + c * kFeedbackRows);
    hn::StoreU(sum[c][1], d, sums + c * kFeedbackRows + lanes);
  }
}

// The same in fp64, subtracting, `kColumns` at once.
template <std::uint64_t kColumns>
HWY_INLINE void SubtractProductsOf(double* sums, const double* left, const double* right, std::uint64_t stride,
                                   std::uint64_t terms) {
  const WideTag d;
  const std::uint64_t lanes = hn::Lanes(d);
  WideVec sum[kColumns][2];
  for (std::uint64_t c = 0; c < kColumns; ++c) {
    sum[c][0] = hn::LoadU(d, sums + c * stride);
    sum[c][1] = hn::LoadU(d, sums + c * stride + lanes);
  }
  for (std::uint64_t j = 0; j < terms; ++j, left += stride, right += stride) {
    const WideVec left0 = hn::LoadU(d, left), left1 = hn::LoadU(d, left + lanes);
    for (std::uint64_t c = 0; c < kColumns; ++c) {
      const WideVec factor = hn::Set(d, right[c]);
      sum[c][0] = hn::Sub(sum[c][0], hn::Mul(left0, factor));
      sum[c][1] = hn::Sub(sum[c][1], hn::Mul(left1, factor));
    }
  }
  for (std::uint64_t c = 0; c < kColumns; ++c) {
    hn::StoreU(sum[c][0], d, sums + c * stride);
    hn::StoreU(sum[c][1], d, sums + c * stride + lanes);
  }
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

void AddProducts(float* sums, const float* left, const float* right, std::uint64_t terms) {
  const std::uint64_t lanes = hn::Lanes(RowTag());
  for (std::uint64_t r = 0; r < kFeedbackRows; r += 2 * lanes) {
    for (std::uint64_t c = 0; c < kFeedbackPanel; c += 4) {
      AddProductsOfFour(sums + c * kFeedbackRows + r, left + r, right + c, terms);
    }
  }
}

void SubtractProducts(double* sums, const double* left, const double* right, std::uint64_t stride, std::uint64_t terms,
                      std::uint64_t rows, std::uint64_t columns) {
  const std::uint64_t step = 2 * hn::Lanes(WideTag());
  std::uint64_t r = 0;
  for (; r + step <= rows; r += step) {
    std::uint64_t c = 0;
    for (; c + 4 <= columns; c += 4) {
      SubtractProductsOf<4>(sums + c * stride + r, left + r, right + c, stride, terms);
    }
    for (; c < columns; ++c) SubtractProductsOf<1>(sums + c * stride + r, left + r, right + c, stride, terms);
  }
  scalar::SubtractProducts(sums + r, left + r, right, stride, terms, rows - r, columns);
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
