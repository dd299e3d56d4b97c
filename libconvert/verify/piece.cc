// The only rule here is about scales. They are checked when they are read, because whatever is computed from an
// infinite scale is worthless; CheckChunks() has reported such a scale before, so that here it merely ends the work on
// the tensor.
#include "libconvert/verify/piece.h"

#include <algorithm>
#include <cmath>

#include "formats/q4/encoders.h"
#include "formats/q4/q4_issues.h"
#include "libconvert/encode/calibrated.h"
#include "libconvert/encode/encoder.h"
#include "libconvert/encode/feedback.h"
#include "libconvert/judge/verify_findings.h"
#include "libconvert/judge/verify_issues.h"
#include "libconvert/scheme/dtype_bridge.h"

namespace q4 {

bool CanRecompute(const TensorPair& pair) {
  const Q4EncoderRow& row = *FindQ4Encoder(pair.stored->encoder);
  if (!row.proof.recompute || FindEncoder(row.encoder) == nullptr) return false;
  return !row.calibrated || pair.calibrated.input != nullptr;
}

absl::StatusOr<std::shared_ptr<const ColumnWeights>> PairWeights::Of(const TensorPair& pair) {
  if (pair.calibrated.input == nullptr || !FindQ4Encoder(pair.stored->encoder)->calibrated) return nullptr;
  const std::lock_guard lock(mutex_);
  if (last_ == &pair) return weights_;
  weights_.reset();
  last_ = nullptr;
  Q4_ASSIGN_OR_RETURN(weights_, LoadColumnWeights(*calibration_, pair.calibrated, pair.stored->shape));
  last_ = &pair;
  return weights_;
}

namespace {

bool NeedsWholeCodes(const TensorPair& pair) {
  return CanRecompute(pair) && CodesNeedWholeTensor(pair.stored->encoder);
}

std::vector<FeedbackUse> UsesOf(const std::vector<TensorPair>& pairs) {
  std::vector<FeedbackUse> uses;
  for (const TensorPair& pair : pairs) {
    if (NeedsWholeCodes(pair)) uses.push_back({pair.source, pair.calibrated.input});
  }
  return uses;
}

}  // namespace

WholeCodes::WholeCodes(const Calibration* calibration, const std::vector<TensorPair>& pairs, unsigned threads,
                       std::uint64_t room, CancelFlag* cancel)
    : calibration_(calibration), threads_(threads), cancel_(cancel), factors_(UsesOf(pairs), room) {}

absl::StatusOr<std::shared_ptr<const std::vector<std::uint8_t>>> WholeCodes::Of(const TensorPair& pair,
                                                                                const PieceTools& tools) {
  const std::lock_guard lock(mutex_);
  if (last_ == &pair) return codes_;
  codes_.reset();
  last_ = nullptr;
  const Q4Tensor& stored = *pair.stored;
  const PieceReader pieces(pair, tools);
  auto codes = std::make_shared<std::vector<std::uint8_t>>();
  std::vector<std::uint8_t> x;
  Q4_RETURN_IF_ERROR(pieces.ReadSource(0, stored.elems, &x));
  Q4_ASSIGN_OR_RETURN(const BlockScales scales, pieces.ReadScales(0, stored.blocks()));
  std::vector<float> absmax(stored.blocks());
  const std::uint64_t bad =
      tools.kernels.absmax(FloatTypeOf(stored.dtype), x.data(), stored.elems, stored.block_size, absmax.data());
  if (bad == kAllFinite) {
    codes->resize(PackedBytes(stored.elems));
    const FeedbackRun run{tools.kernels, *calibration_, threads_,
                          [this] { return cancel_ != nullptr && cancel_->load(); }, &factors_};
    factors_.Begin(*pair.source);
    Q4_ASSIGN_OR_RETURN(const FeedbackResult result, ChooseFeedbackCodes(run, stored, pair.calibrated, x.data(),
                                                                         scales.decoded.data(), codes->data()));
    if (result.interrupted) return Fail(kVerifyInterrupted, pair.reader->path(), {});
  }
  codes_ = std::move(codes);
  last_ = &pair;
  return codes_;
}

std::uint64_t WholeCodesMemory(const TensorPair& pair, unsigned threads) {
  if (!NeedsWholeCodes(pair)) return 0;
  // Elements, codes, and scales as they are stored, as they decode and once more.
  const Q4Tensor& stored = *pair.stored;
  return stored.elems * ItemSize(pair.source->dtype) * 2 + PackedBytes(stored.elems) +
         4 * stored.blocks() * sizeof(float) + FeedbackMemory(pair.calibrated, threads);
}

std::uint64_t WholeCodesRoom(const std::vector<TensorPair>& pairs) { return FeedbackFactors::RoomFor(UsesOf(pairs)); }

absl::Status PieceReader::ReadSource(std::uint64_t first, std::uint64_t count, std::vector<std::uint8_t>* bytes) const {
  const DType from = pair_.source->dtype, to = pair_.stored->dtype;
  bytes->resize(count * ItemSize(from));
  Q4_RETURN_IF_ERROR(source_.Read(*pair_.source, first, *bytes));
  // A loader that is asked for another dtype converts before it quantizes. PairTensors() allows no other case.
  if (from == to || !pair_.stored->quantized()) return absl::OkStatus();
  std::vector<std::uint8_t> converted(count * ItemSize(to));
  kernels_.convert(FloatTypeOf(from), bytes->data(), count, FloatTypeOf(to), converted.data());
  *bytes = std::move(converted);
  return absl::OkStatus();
}

absl::StatusOr<BlockScales> PieceReader::ReadScales(std::uint64_t first, std::uint64_t count) const {
  Q4_ASSIGN_OR_RETURN(BlockScales scales, decoder_.ReadScales(first, count));
  // Digests are right in a container that was made with such a scale. Statistics of the piece would mean nothing.
  if (!std::all_of(scales.decoded.begin(), scales.decoded.end(), [](float s) { return std::isfinite(s); })) {
    return Fail(kQ4ScaleValue, pair_.reader->path(), TensorPlace(pair_.stored->name));
  }
  return scales;
}

}  // namespace q4
