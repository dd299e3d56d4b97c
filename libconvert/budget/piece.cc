// Two kinds of encoders, as encode/encoder.h has them. One that searches nests its scales by groups, and gives plain
// and nested scales in one go; the kernels then say what each block loses. Of others, codes are chosen under plain
// scales, and the statistics of a container tell what they lose under either form of scales.
#include "libconvert/budget/piece.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <numeric>
#include <span>

namespace q4 {
namespace {

double ErrorOf(const TiledStats& stats) {
  double sum = 0;
  for (const GroupSums& group : stats.groups) sum += group.e2;
  return sum;
}

std::uint64_t OverflowOf(const TiledStats& stats) {
  std::uint64_t sum = 0;
  for (const SlabStats& tile : stats.tiles) sum += tile.overflow;
  return sum;
}

// Adds what it took from the one point to the other.
class Stopwatch {
 public:
  double seconds() const { return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count(); }

 private:
  const std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
};

// What the blocks of a piece lose under these scales, as a reader decodes them. Weights are written out for a part of
// it at a time.
double ErrorUnder(const KernelTable& kernels, const SlabShape& shape, const std::uint8_t* x, const float* scales) {
  constexpr std::uint64_t kAtOnce = std::uint64_t{1} << 16;  // whole blocks
  std::vector<double> blocks(BlockCount(shape.elems, shape.block_size));
  std::vector<float> weights;
  for (std::uint64_t first = 0; first < shape.elems; first += kAtOnce) {
    const std::uint64_t n = std::min(kAtOnce, shape.elems - first), block = first / shape.block_size;
    if (shape.weights != nullptr) {
      weights.resize(n);
      shape.weights->Expand(shape.first + first, weights);
    }
    kernels.block_errors(shape.type, shape.book(), x + first * FloatSize(shape.type),
                         weights.empty() ? nullptr : weights.data(), n, shape.block_size, scales + block,
                         blocks.data() + block);
  }
  return std::accumulate(blocks.begin(), blocks.end(), 0.0);
}

}  // namespace

void FormatSum::Add(std::uint64_t first, std::uint32_t block_size, const FormatError& piece) {
  if (!piece.stats.tiles.empty()) stats_.AddSlab(first, block_size, piece.stats);
  weighted_ += piece.weighted;
  seconds_ += piece.seconds;
  error_ += piece.error;
  overflow_ += piece.overflow;
  losses_.insert(losses_.end(), piece.losses.begin(), piece.losses.end());
}

std::optional<double> FormatSum::error() const {
  if (overflow_ != 0 || !std::isfinite(error_)) return std::nullopt;
  return error_;
}

MeasuredRecord FormatSum::record() const {
  return {stats_.Finish().sum_e2, stats_.Finish().sum_x2, weighted_, seconds_, false};
}

PieceMeasure::PieceMeasure(Q4Encoder encoder, const std::vector<QuantFormat>& formats, FloatType type, int effort,
                           std::optional<DType> kept_as, bool record)
    : encoder_(&EncoderOf(encoder)),
      type_(type),
      effort_(effort),
      kept_as_(kept_as),
      record_(record),
      formats_(formats.size()) {
  for (std::size_t f = 0; f < formats.size(); ++f) {
    const QuantFormat& format = formats[f];
    auto search = std::find_if(searches_.begin(), searches_.end(), [&](const Search& other) {
      return other.format.scheme == format.scheme && other.format.block_size == format.block_size;
    });
    if (search == searches_.end()) search = searches_.insert(search, Search{format, {}, {}});
    (format.nested ? search->nested : search->plain) = f;
  }
}

bool PieceMeasure::looks_twice() const {
  return encoder_->searching() == nullptr && std::any_of(searches_.begin(), searches_.end(), [](const Search& search) {
           return search.nested.has_value();
         });
}

SlabShape PieceMeasure::ShapeOf(const Search& search, const PieceElements& piece) const {
  return {search.format, type_, piece.elems, effort_, piece.first, piece.weights};
}

PieceScales PieceMeasure::Scales(const KernelTable& kernels, const PieceElements& piece) const {
  PieceScales result;
  std::vector<float> scales;
  for (const Search& search : searches_) {
    std::vector<double>& sums = result.group_sums.emplace_back();
    const SlabShape shape = ShapeOf(search, piece);
    scales.resize(BlockCount(piece.elems, shape.block_size));
    result.bad = encoder_->ChooseScales(kernels, shape, piece.x, scales.data());
    if (result.bad != kAllFinite) return result;
    for (std::size_t begin = 0; begin < scales.size(); begin += kScaleGroup) {
      Sum256 group;
      group.Add(std::span(scales).subspan(begin, std::min<std::size_t>(kScaleGroup, scales.size() - begin)));
      sums.push_back(group.total());
    }
  }
  return result;
}

PieceErrors PieceMeasure::Errors(const KernelTable& kernels, const PieceElements& piece,
                                 const std::vector<float>& offsets) const {
  PieceErrors result;
  result.formats.resize(formats_);
  for (std::size_t s = 0; s < searches_.size(); ++s) {
    const Search& search = searches_[s];
    result.bad = encoder_->searching() != nullptr
                     ? Searched(kernels, search, piece, &result)
                     : Encoded(kernels, search, piece, s < offsets.size() ? offsets[s] : 0, &result);
    if (result.bad != kAllFinite) return result;
  }
  // Under scales of 0 every element decodes to 0, and its error is itself.
  SlabShape squares{{Q4Scheme::kNf4, 64, false}, type_, piece.elems, effort_, piece.first, piece.weights};
  const std::vector<float> zeros(BlockCount(piece.elems, 64));
  result.squares = ErrorUnder(kernels, squares, piece.x, zeros.data());
  if (record_ && piece.judge != nullptr) {
    squares.weights = piece.judge;
    result.weighted_squares = ErrorUnder(kernels, squares, piece.x, zeros.data());
  }
  if (kept_as_) result.kept = Kept(kernels, piece);
  return result;
}

std::uint64_t PieceMeasure::Searched(const KernelTable& kernels, const Search& search, const PieceElements& piece,
                                     PieceErrors* out) const {
  const SlabShape shape = ShapeOf(search, piece);
  const std::uint64_t blocks = BlockCount(piece.elems, shape.block_size);
  std::vector<float> scales(blocks), decoded;
  const Stopwatch searching;
  if (search.nested) {
    std::vector<std::uint8_t> scale_codes(blocks);
    std::vector<float> group_scales(GroupCount(blocks));
    FormatError& nested = out->formats[*search.nested];
    nested.losses.resize(group_scales.size());
    const std::uint64_t bad = encoder_->searching()->ChooseNested(
        kernels, shape, piece.x, {scales.data(), scale_codes.data(), group_scales.data(), nested.losses.data()});
    if (bad != kAllFinite) return bad;
    for (const NestedLoss& loss : nested.losses) nested.error += loss.error;
    if (record_) {
      decoded.resize(blocks);
      kernels.dequantize_scales(scale_codes.data(), group_scales.data(), blocks, 0, decoded.data());
    }
  } else if (const std::uint64_t bad = encoder_->ChooseScales(kernels, shape, piece.x, scales.data());
             bad != kAllFinite) {
    return bad;
  }
  if (record_) {
    const double seconds = searching.seconds();
    for (const auto& [format, under] : {std::pair(search.nested, &decoded), std::pair(search.plain, &scales)}) {
      if (!format) continue;
      FormatError& error = out->formats[*format];
      error.seconds = seconds;
      Record(kernels, shape, piece, nullptr, under->data(), &error);
    }
    if (search.nested) out->formats[*search.nested].overflow = OverflowOf(out->formats[*search.nested].stats);
  }
  // What was chosen before nesting are the plain scales.
  if (search.plain) out->formats[*search.plain].error = ErrorUnder(kernels, shape, piece.x, scales.data());
  return kAllFinite;
}

std::uint64_t PieceMeasure::Encoded(const KernelTable& kernels, const Search& search, const PieceElements& piece,
                                    float offset, PieceErrors* out) const {
  const SlabShape shape = ShapeOf(search, piece);
  const std::uint64_t blocks = BlockCount(piece.elems, shape.block_size);
  std::vector<float> scales(blocks);
  std::vector<std::uint8_t> codes(PackedBytes(piece.elems));
  TiledStats stats;
  const Stopwatch encoding;
  const std::uint64_t bad =
      search.plain ? EncodeSlab(*encoder_, kernels, shape, piece.x, codes.data(), scales.data(), nullptr, &stats)
                   : encoder_->ChooseCodes(kernels, shape, piece.x, scales.data(), codes.data());
  if (bad != kAllFinite) return bad;
  const double seconds = encoding.seconds();
  if (search.plain) {
    FormatError& plain = out->formats[*search.plain];
    plain.error = ErrorOf(stats);
    plain.seconds = seconds;
    if (record_) Record(kernels, shape, piece, codes.data(), scales.data(), &plain);
  }
  if (!search.nested) return kAllFinite;
  std::vector<std::uint8_t> scale_codes(blocks);
  std::vector<float> group_scales(GroupCount(blocks));
  kernels.quantize_scales(scales.data(), blocks, offset, scale_codes.data(), group_scales.data());
  kernels.dequantize_scales(scale_codes.data(), group_scales.data(), blocks, offset, scales.data());
  TakeSlabStats(kernels, shape, piece.x, codes.data(), scales.data(), &stats);
  FormatError& nested = out->formats[*search.nested];
  nested.error = ErrorOf(stats);
  nested.overflow = OverflowOf(stats);
  nested.seconds = seconds;
  if (record_) Record(kernels, shape, piece, codes.data(), scales.data(), &nested);
  return kAllFinite;
}

void PieceMeasure::Record(const KernelTable& kernels, const SlabShape& shape, const PieceElements& piece,
                          const std::uint8_t* codes, const float* scales, FormatError* out) const {
  const Stopwatch recording;
  std::vector<std::uint8_t> chosen;
  if (codes == nullptr) {
    chosen.resize(PackedBytes(piece.elems));
    SearchingEncoder::CodesUnder(kernels, shape, piece.x, scales, chosen.data());
    codes = chosen.data();
  }
  TakeSlabStats(kernels, shape, piece.x, codes, scales, &out->stats);
  out->seconds += recording.seconds();
  if (piece.judge == nullptr) return;
  constexpr std::uint64_t kAtOnce = 4096;  // whole blocks
  std::vector<float> before(kAtOnce), after(kAtOnce), weights(kAtOnce);
  for (std::uint64_t first = 0; first < piece.elems; first += kAtOnce) {
    const std::uint64_t n = std::min(kAtOnce, piece.elems - first);
    (void)kernels.convert(type_, piece.x + first * FloatSize(type_), n, FloatType::kF32, before.data());
    kernels.dequantize(shape.book(), codes + first / 2, scales + first / shape.block_size, n, shape.block_size,
                       FloatType::kF32, after.data());
    piece.judge->Expand(piece.first + first, std::span(weights).first(n));
    for (std::uint64_t k = 0; k < n; ++k) {
      const double error = static_cast<double>(before[k]) - static_cast<double>(after[k]);
      out->weighted += static_cast<double>(weights[k]) * (error * error);
    }
  }
}

// Conversions are the kernels'; the difference of two finite numbers is exact in fp64, and so is its order here.
std::optional<double> PieceMeasure::Kept(const KernelTable& kernels, const PieceElements& piece) const {
  if (FloatTypeOf(*kept_as_) == type_) return 0;
  constexpr std::uint64_t kAtOnce = 4096;
  std::vector<float> before(kAtOnce), after(kAtOnce);
  std::vector<std::uint8_t> stored(kAtOnce * sizeof(float));
  std::vector<float> weights(kAtOnce, 1.0F);
  double sum = 0;
  for (std::uint64_t first = 0; first < piece.elems; first += kAtOnce) {
    const std::uint64_t n = std::min(kAtOnce, piece.elems - first);
    const std::uint8_t* const from = piece.x + first * FloatSize(type_);
    if (kernels.convert(type_, from, n, FloatTypeOf(*kept_as_), stored.data()) != 0) return std::nullopt;
    (void)kernels.convert(type_, from, n, FloatType::kF32, before.data());
    (void)kernels.convert(FloatTypeOf(*kept_as_), stored.data(), n, FloatType::kF32, after.data());
    if (piece.weights != nullptr) piece.weights->Expand(piece.first + first, std::span(weights).first(n));
    for (std::uint64_t k = 0; k < n; ++k) {
      const double error = static_cast<double>(before[k]) - static_cast<double>(after[k]);
      sum += static_cast<double>(weights[k]) * (error * error);
    }
  }
  return sum;
}

}  // namespace q4
