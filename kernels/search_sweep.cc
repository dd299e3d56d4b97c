// The exact sweep (docs/numerics.md Q9.7). As a scale shrinks, elements pass decision bounds one
// after the other, and between two passages no code changes. So all patterns of codes come by in order of the passages,
// and two running sums tell which of them is the best. Plain C++ for every backend: a sort sets its pace.
#include <algorithm>
#include <array>
#include <cstdint>

#include "kernels/search.h"

namespace q4 {
namespace {

// An element that passes a bound.
struct Passage {
  float at;  // the scale, in units of a, at which it does
  std::uint16_t element;
  std::uint8_t from, to;  // counts of bounds below, before and after
};

// Bounds lie so that the scales of an element's passages are 2 % apart and more; between .5 and 1.6 there are at most
// six.
constexpr std::size_t kMostPassages = 6;
constexpr float kSweepBegin = 1.6f, kSweepEnd = 0.5f;

struct Sweep {
  double uc = 0, cc = 0, best = -1, quotient = 1;

  void Judge(double sign) {
    if (!(cc > 0)) return;
    const double score = uc * uc / cc;
    if (score > best) {
      best = score;
      quotient = sign * (uc / cc);
    }
  }
};

void SweepSign(CodeBook book, const float* u, const float* weights, std::uint32_t size, float sign, Sweep* sweep) {
  const auto weight = [weights](std::size_t i) { return weights == nullptr ? 1.0 : static_cast<double>(weights[i]); };
  const CodeBookTables& tables = TablesOf(book);
  // Values by count, in fp64: products with elements are exact.
  std::array<double, 16> values;
  for (std::size_t count = 0; count < 16; ++count)
    values[count] = static_cast<double>(tables.values[tables.order[count]]);
  int negative_bounds = 0;
  for (const float bound : tables.bounds) negative_bounds += bound < 0;

  std::array<Passage, 4096 * kMostPassages> passages;
  std::size_t passed = 0;
  sweep->uc = sweep->cc = 0;
  for (std::uint32_t i = 0; i < size; ++i) {
    const float v = sign * u[i];
    int count = negative_bounds;
    // Outwards from zero: each bound on the element's side is passed at a smaller scale than the one before.
    if (v > 0) {
      while (count < 15 && tables.bounds[static_cast<std::size_t>(count)] == 0) ++count;
      for (int next = count; next < 15; ++next) {
        const float at = v / tables.bounds[static_cast<std::size_t>(next)];
        if (at > kSweepBegin) count = next + 1;
        if (at <= kSweepBegin && at > kSweepEnd) {
          passages[passed++] = {at, static_cast<std::uint16_t>(i), static_cast<std::uint8_t>(next),
                                static_cast<std::uint8_t>(next + 1)};
        }
      }
    } else if (v < 0) {
      for (int next = count - 1; next >= 0; --next) {
        const float at = v / tables.bounds[static_cast<std::size_t>(next)];
        if (at > kSweepBegin) count = next;
        if (at <= kSweepBegin && at > kSweepEnd) {
          passages[passed++] = {at, static_cast<std::uint16_t>(i), static_cast<std::uint8_t>(next + 1),
                                static_cast<std::uint8_t>(next)};
        }
      }
    }
    const double value = values[static_cast<std::size_t>(count)];
    sweep->uc += static_cast<double>(v) * weight(i) * value;
    sweep->cc += value * value * weight(i);
  }
  // A total order: two elements may pass at the same scale, one element never does so twice.
  std::sort(passages.begin(), passages.begin() + static_cast<std::ptrdiff_t>(passed),
            [](const Passage& a, const Passage& b) { return a.at != b.at ? a.at > b.at : a.element < b.element; });
  sweep->Judge(static_cast<double>(sign));
  for (std::size_t p = 0; p < passed; ++p) {
    const double v = static_cast<double>(sign * u[passages[p].element]);
    const double from = values[passages[p].from], to = values[passages[p].to];
    const double h = weight(passages[p].element);
    sweep->uc += v * h * (to - from);
    sweep->cc += (to * to - from * from) * h;
    sweep->Judge(static_cast<double>(sign));
  }
}

}  // namespace

float SweptQuotient(CodeBook book, const float* u, const float* weights, std::uint32_t size) {
  Sweep sweep;
  SweepSign(book, u, weights, size, 1, &sweep);
  if (!CodesCarrySign(book)) SweepSign(book, u, weights, size, -1, &sweep);
  return static_cast<float>(sweep.quotient);
}

}  // namespace q4
