// What of the encoder feedback (docs/numerics.md Q17) is the same for every backend: order, damping, the factor panel
// by panel, and a tile's way through its panels. The loops that take the time are kernels.
#include "kernels/feedback.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <numeric>

#include "kernels/numeric.h"

namespace q4 {
namespace {

// Products are added this many at a time, so that both factors stay in the cache. Sums go on where they were: it
// changes no bit.
constexpr std::uint64_t kTermsAtOnce = 32;
// The same in the factor.
constexpr std::uint64_t kFactorTermsAtOnce = 32;

struct Span {
  std::uint64_t begin, end;
  std::uint64_t size() const { return end - begin; }
};
Span PanelOf(std::uint64_t columns, std::uint64_t panel) {
  const std::uint64_t begin = panel * kFeedbackPanel;
  return {begin, std::min(begin + kFeedbackPanel, columns)};
}

// Sums of products of a whole panel with `terms` columns, from zero.
void SumsOf(const KernelTable& kernels, const float* left, const float* right, std::uint64_t terms,
            std::vector<float>* sums) {
  std::fill(sums->begin(), sums->end(), 0.0f);
  for (std::uint64_t j = 0; j < terms; j += kTermsAtOnce) {
    kernels.add_products(sums->data(), left + j * kFeedbackRows, right + j * kFeedbackPanel,
                         std::min(kTermsAtOnce, terms - j));
  }
}

// Of the two halves the one above the diagonal counts.
void MirrorHessian(std::uint64_t columns, std::span<float> hessian) {
  // By squares, of which a row and a column fit the cache.
  for (std::uint64_t top = 0; top < columns; top += kFeedbackPanel) {
    for (std::uint64_t left = 0; left <= top; left += kFeedbackPanel) {
      for (std::uint64_t row = top; row < std::min(top + kFeedbackPanel, columns); ++row) {
        const std::uint64_t end = std::min(left + kFeedbackPanel, row);
        for (std::uint64_t column = left; column < end; ++column) {
          hessian[row * columns + column] = hessian[column * columns + row];
        }
      }
    }
  }
}

// The factor in the making, R of Q17.4, in the reverse of the order of work: there R_ik is below the diagonal and rows
// are made from the first to the last. Like FeedbackFactor::factor, panel by panel of columns i, of each the rows k
// before its end: neighbours lie together, half as much as a square would have is kept, and products have the form that
// the kernels take. What lies past the diagonal or the last column is worked on for nothing.
class Work {
 public:
  explicit Work(std::uint64_t columns)
      : columns_(columns), entries_(FeedbackFactor::FactorAt(FeedbackPanels(columns))) {}
  static std::uint64_t Bytes(std::uint64_t columns) {
    return FeedbackFactor::FactorAt(FeedbackPanels(columns)) * sizeof(double);
  }
  std::uint64_t columns() const { return columns_; }
  // Row k of a panel, kFeedbackPanel elements; the next row lies behind it.
  double* Row(std::uint64_t panel, std::uint64_t k) {
    return entries_.data() + FeedbackFactor::FactorAt(panel) + k * kFeedbackPanel;
  }
  double& At(std::uint64_t k, std::uint64_t i) { return Row(i / kFeedbackPanel, k)[i % kFeedbackPanel]; }

 private:
  std::uint64_t columns_;
  std::vector<double> entries_;
};

// Rows of a panel of columns as they are before the work: of the damped Hessian.
void LoadHessian(std::span<const float> hessian, const FeedbackFactor& factor, std::uint64_t panel, Work* work) {
  const std::uint64_t n = factor.columns;
  const Span span = PanelOf(n, panel);
  for (std::uint64_t k = 0; k < span.end; ++k) {
    const float* const row = hessian.data() + std::uint64_t{factor.order[n - 1 - k]} * n;
    double* const out = work->Row(panel, k);
    for (std::uint64_t i = std::max(k, span.begin); i < span.end; ++i) {
      out[i - span.begin] = static_cast<double>(row[factor.order[n - 1 - i]]);
    }
    if (k >= span.begin) out[k - span.begin] = out[k - span.begin] + factor.damping;
  }
}

// From the rows `rows` of a panel of columns, what the rows above them take away. `rows`: another panel's, or its own.
void SubtractAbove(const KernelTable& kernels, std::uint64_t of, Span rows, std::uint64_t panel, Work* work) {
  for (std::uint64_t m = 0; m < rows.begin; m += kFactorTermsAtOnce) {
    kernels.subtract_products(work->Row(panel, rows.begin), work->Row(panel, m), work->Row(of, m),
                              std::min(kFactorTermsAtOnce, rows.begin - m), rows.size());
  }
}

// The same, and then what these rows themselves take away, each from those after it. A row is divided by the root of
// its pivot before that.
void FactorPanel(const KernelTable& kernels, std::uint64_t of, std::uint64_t panel, Work* work) {
  const Span rows = PanelOf(work->columns(), of);
  SubtractAbove(kernels, of, rows, panel, work);
  for (std::uint64_t k = rows.begin; k < rows.end; ++k) {
    double* const row = work->Row(panel, k);
    const double* const above = work->Row(of, rows.begin);
    kernels.subtract_products(row, work->Row(panel, rows.begin), above + (k - rows.begin), k - rows.begin, 1);
    const double root = work->At(k, k);
    for (std::uint64_t i = 0; i < kFeedbackPanel; ++i) row[i] = row[i] / root;
  }
}

// The square of a panel that lies on the diagonal. Returns whether all pivots are good (Q17.3).
bool FactorDiagonal(const KernelTable& kernels, std::uint64_t panel, double least, Work* work) {
  const Span rows = PanelOf(work->columns(), panel);
  SubtractAbove(kernels, panel, rows, panel, work);
  double* const square = work->Row(panel, rows.begin);
  for (std::uint64_t i = 0; i < rows.size(); ++i) {
    for (std::uint64_t k = 0; k <= i; ++k) {
      double entry = square[k * kFeedbackPanel + i];
      for (std::uint64_t m = 0; m < k; ++m) {
        entry = entry - square[m * kFeedbackPanel + i] * square[m * kFeedbackPanel + k];
      }
      if (k < i) {
        square[k * kFeedbackPanel + i] = entry / square[k * kFeedbackPanel + k];
      } else {
        if (!(entry >= least) || !std::isfinite(entry)) return false;
        square[k * kFeedbackPanel + k] = std::sqrt(entry);
      }
    }
  }
  return true;
}

// Q17.4, by panels of rows: first the square on the diagonal, then the panels of columns behind it.
bool Factor(const KernelTable& kernels, double least, const SpreadWork& spread, Work* work) {
  const std::uint64_t panels = FeedbackPanels(work->columns());
  for (std::uint64_t p = 0; p < panels; ++p) {
    if (!FactorDiagonal(kernels, p, least, work)) return false;
    spread(panels - p - 1, [&](std::uint64_t behind) { FactorPanel(kernels, p, p + 1 + behind, work); });
  }
  return true;
}

// One panel of the factor, with its pivots.
void StoreFactor(Work* work, std::uint64_t panel, FeedbackFactor* factor) {
  const std::uint64_t n = factor->columns;
  const Span span = PanelOf(n, panel);
  float* const out = factor->factor.data() + FeedbackFactor::FactorAt(panel);
  for (std::uint64_t k = span.begin; k < span.end; ++k) {
    const std::uint64_t row = n - 1 - k;  // the reverse of the order of work
    const double root = work->At(row, row);
    factor->pivots[k] = root * root;
    for (std::uint64_t j = 0; j < k; ++j) {
      out[j * kFeedbackPanel + k - span.begin] = static_cast<float>(work->At(row, n - 1 - j) / root);
    }
  }
}

// One panel of the couplings.
void StoreCouplings(std::span<const float> hessian, std::uint64_t panel, FeedbackFactor* factor) {
  const std::uint64_t n = factor->columns;
  const Span span = PanelOf(n, panel);
  float* const out = factor->couplings.data() + panel * n * kFeedbackPanel;
  for (std::uint64_t k = span.begin; k < span.end; ++k) {
    const float* const row = hessian.data() + std::uint64_t{factor->order[k]} * n;
    const double diagonal = static_cast<double>(row[factor->order[k]]) + factor->damping;
    for (std::uint64_t j = 0; j < n; ++j) {
      if (j == k) continue;
      out[j * kFeedbackPanel + k - span.begin] =
          static_cast<float>(static_cast<double>(row[factor->order[j]]) / diagonal);
    }
  }
}

}  // namespace

std::vector<std::uint32_t> FeedbackOrder(std::span<const float> diagonal) {
  std::vector<std::uint32_t> order(diagonal.size());
  std::iota(order.begin(), order.end(), 0u);
  std::stable_sort(order.begin(), order.end(),
                   [&](std::uint32_t a, std::uint32_t b) { return diagonal[a] > diagonal[b]; });
  return order;
}

double FeedbackDamping(std::span<const float> diagonal) {
  double sum = 0;
  for (const float entry : diagonal) sum = sum + static_cast<double>(entry);
  const double mean = sum / static_cast<double>(diagonal.size());
  return mean > 0 ? mean * 0.01 : 1.0;
}

bool MakeFeedbackFactor(const KernelTable& kernels, std::uint64_t columns, std::span<float> hessian,
                        const SpreadWork& spread, FeedbackFactor* factor) {
  MirrorHessian(columns, hessian);
  std::vector<float> diagonal(columns);
  for (std::uint64_t k = 0; k < columns; ++k) diagonal[k] = hessian[k * columns + k];
  *factor = {};
  factor->columns = columns;
  factor->order = FeedbackOrder(diagonal);
  factor->damping = FeedbackDamping(diagonal);
  const std::uint64_t panels = FeedbackPanels(columns);
  {
    Work work(columns);
    while (true) {
      spread(panels, [&](std::uint64_t panel) { LoadHessian(hessian, *factor, panel, &work); });
      if (Factor(kernels, factor->damping * 0.5, spread, &work)) break;
      if (factor->raises == kMostFeedbackRaises) return false;
      factor->damping = factor->damping * 10;
      ++factor->raises;
    }
    factor->factor.resize(FeedbackFactor::FactorAt(panels));
    factor->pivots.resize(columns);
    spread(panels, [&](std::uint64_t panel) { StoreFactor(&work, panel, factor); });
    for (const float entry : factor->factor) factor->largest = std::max(factor->largest, std::abs(entry));
  }
  factor->couplings.resize(panels * columns * kFeedbackPanel);
  spread(panels, [&](std::uint64_t panel) { StoreCouplings(hessian, panel, factor); });
  return true;
}

std::uint64_t FeedbackFactorBytes(std::uint64_t columns) {
  const std::uint64_t panels = FeedbackPanels(columns);
  return (FeedbackFactor::FactorAt(panels) + panels * columns * kFeedbackPanel) * sizeof(float) +
         columns * (sizeof(double) + sizeof(std::uint32_t));
}

std::uint64_t FeedbackPeakBytes(std::uint64_t columns) {
  // The Hessian all the time; beside it the factor, first with the one in the making, then with the couplings.
  const std::uint64_t panels = FeedbackPanels(columns);
  return columns * columns * sizeof(float) + FeedbackFactor::FactorAt(panels) * sizeof(float) +
         std::max(Work::Bytes(columns), panels * columns * kFeedbackPanel * sizeof(float)) +
         columns * (sizeof(double) + sizeof(std::uint32_t) + sizeof(float));
}

// ---- a tile

namespace {

// The other code of the byte may be another tile's, which writes it at the same time.
std::uint8_t CodeAt(const FeedbackMatrix& matrix, std::uint64_t elem) {
  const std::uint8_t byte = std::atomic_ref(matrix.codes[elem / 2]).load(std::memory_order_relaxed);
  return elem % 2 == 0 ? byte >> 4 : byte & 0x0F;
}

void SetCode(const FeedbackMatrix& matrix, std::uint64_t elem, std::uint8_t code) {
  const int change = CodeAt(matrix, elem) ^ code;
  if (change == 0) return;
  std::atomic_ref(matrix.codes[elem / 2])
      .fetch_xor(static_cast<std::uint8_t>(elem % 2 == 0 ? change << 4 : change), std::memory_order_relaxed);
}

}  // namespace

FeedbackTile::FeedbackTile(std::uint64_t columns)
    : columns_(columns),
      x_(columns * kFeedbackRows),
      scales_(columns * kFeedbackRows),
      errors_(columns * kFeedbackRows),
      old_errors_(columns * kFeedbackRows),
      codes_(columns * kFeedbackRows),
      sums_(kFeedbackPanel * kFeedbackRows) {}

std::uint64_t FeedbackTile::Bytes(std::uint64_t columns) {
  return columns * kFeedbackRows * (4 * sizeof(float) + 1) + kFeedbackPanel * kFeedbackRows * sizeof(float);
}

// Rows past the last one are zeros with the scale 0: their codes go nowhere.
void FeedbackTile::Load(const FeedbackFactor& factor, const FeedbackMatrix& matrix, std::uint64_t first,
                        std::uint64_t rows) {
  if (rows < kFeedbackRows) {
    std::fill(x_.begin(), x_.end(), 0.0f);
    std::fill(scales_.begin(), scales_.end(), 0.0f);
    std::fill(old_errors_.begin(), old_errors_.end(), 0.0f);
  }
  std::fill(errors_.begin(), errors_.end(), 0.0f);
  for (std::uint64_t r = 0; r < rows; ++r) {
    for (std::uint64_t k = 0; k < columns_; ++k) {
      const std::uint64_t at = k * kFeedbackRows + r, elem = matrix.ElementAt(first + r, factor.order[k]);
      const float x = LoadElement(matrix.type, matrix.x, elem), scale = matrix.scales[elem / matrix.block_size];
      x_[at] = x;
      scales_[at] = scale;
      old_errors_[at] = x - CodeValue(matrix.book, CodeAt(matrix, elem)) * scale;
    }
  }
}

// Q17.5: once over all columns, with the factor or in descent.
void FeedbackTile::Pass(const KernelTable& kernels, CodeBook book, const FeedbackFactor& factor, bool descend) {
  for (std::uint64_t panel = 0; panel < FeedbackPanels(columns_); ++panel) {
    const auto [begin, end] = PanelOf(columns_, panel);
    const float* const coefficients = descend ? factor.CouplingsPanel(panel) : factor.FactorPanel(panel);
    // With the factor, columns from this panel on have neither errors nor coefficients.
    SumsOf(kernels, errors_.data(), coefficients, descend ? columns_ : begin, &sums_);
    const std::uint64_t at = begin * kFeedbackRows;
    kernels.feedback_panel(book, &x_[at], &scales_[at], coefficients + begin * kFeedbackPanel, end - begin,
                           sums_.data(), &errors_[at], &codes_[at]);
  }
}

// Q17.7: the error of each row in the damped Hessian.
void FeedbackTile::RowErrors(const KernelTable& kernels, const FeedbackFactor& factor, const std::vector<float>& errors,
                             double* row_errors) {
  std::fill_n(row_errors, kFeedbackRows, 0.0);
  for (std::uint64_t panel = 0; panel < FeedbackPanels(columns_); ++panel) {
    AddRowErrors(kernels, factor, errors, panel, row_errors);
  }
}

// What the columns of one panel add to it.
void FeedbackTile::AddRowErrors(const KernelTable& kernels, const FeedbackFactor& factor,
                                const std::vector<float>& errors, std::uint64_t panel, double* row_errors) {
  const auto [begin, end] = PanelOf(columns_, panel);
  SumsOf(kernels, errors.data(), factor.FactorPanel(panel), end, &sums_);
  for (std::uint64_t k = begin; k < end; ++k) {
    for (std::uint64_t r = 0; r < kFeedbackRows; ++r) {
      const float sum = errors[k * kFeedbackRows + r] + sums_[(k - begin) * kFeedbackRows + r];
      const double wide = static_cast<double>(sum);
      const double square = wide * wide;
      row_errors[r] = row_errors[r] + square * factor.pivots[k];
    }
  }
}

// Of the old codes, as far as it takes to know that all `rows` errors are greater than `enough`: what is added is never
// negative, so that they stay so. Mostly the first columns tell, of which sums are short. Where a sum might overflow,
// and the error become a NaN in the end, it is made whole.
void FeedbackTile::OldRowErrors(const KernelTable& kernels, const FeedbackFactor& factor, const double* enough,
                                std::uint64_t rows, double* row_errors) {
  float largest = 0;
  for (const float error : old_errors_) largest = std::max(largest, std::abs(error));
  constexpr double kFarFromOverflow = 1e37;
  const bool is_safe =
      static_cast<double>(largest) * (1 + static_cast<double>(columns_) * static_cast<double>(factor.largest)) <
      kFarFromOverflow;
  std::fill_n(row_errors, kFeedbackRows, 0.0);
  for (std::uint64_t panel = 0; panel < FeedbackPanels(columns_); ++panel) {
    AddRowErrors(kernels, factor, old_errors_, panel, row_errors);
    if (is_safe && std::equal(enough, enough + rows, row_errors, std::less<>())) return;
  }
}

std::uint64_t FeedbackTile::ChooseCodes(const KernelTable& kernels, const FeedbackFactor& factor, int passes,
                                        std::uint64_t tile, const FeedbackMatrix& matrix) {
  const std::uint64_t first = tile * kFeedbackRows, rows = std::min(kFeedbackRows, matrix.rows - first);
  Load(factor, matrix, first, rows);
  Pass(kernels, matrix.book, factor, false);
  for (int pass = 0; pass < passes; ++pass) Pass(kernels, matrix.book, factor, true);
  double old_row_errors[kFeedbackRows], row_errors[kFeedbackRows];
  RowErrors(kernels, factor, errors_, row_errors);
  OldRowErrors(kernels, factor, row_errors, rows, old_row_errors);

  std::uint64_t kept = 0;
  for (std::uint64_t r = 0; r < rows; ++r) {
    // Of a NaN, after an overflow, nothing is better.
    if (!(row_errors[r] < old_row_errors[r])) {
      ++kept;
      continue;
    }
    for (std::uint64_t k = 0; k < columns_; ++k) {
      SetCode(matrix, matrix.ElementAt(first + r, factor.order[k]), codes_[k * kFeedbackRows + r]);
    }
  }
  return kept;
}

}  // namespace q4
