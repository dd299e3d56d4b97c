// Slabs of all tensors form one sequence, worked on by all threads and merged in order, so that many small tensors and
// one huge one are equally parallel and the report does not depend on timing.
//
// CompareSlab() does the work of a slab on any thread. TensorComparison gathers the results of one tensor, which come
// in order, and judges the tensor when its last slab is in. When all tensors are judged, the pieces with their worst
// blocks are read once more.
#include "libconvert/verify/source.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>

#include "fmt/format.h"
#include "formats/base/checked_math.h"
#include "formats/base/digest.h"
#include "formats/base/limits.h"
#include "formats/bnb/taken_over.h"
#include "formats/q4/encoders.h"
#include "formats/source/companions.h"
#include "kernels/kernels.h"
#include "libconvert/base/parallel.h"
#include "libconvert/encode/calibrated.h"
#include "libconvert/encode/encoder.h"
#include "libconvert/judge/verify_issues.h"
#include "libconvert/model/stats.h"
#include "libconvert/verify/digests.h"
#include "libconvert/verify/integrity.h"
#include "libconvert/verify/slab.h"
#include "libconvert/verify/tied.h"
#include "libconvert/verify/worst.h"

namespace q4 {
namespace {

// Compares recorded statistics with recomputed ones, bit for bit: the arithmetic is defined to the last bit (numerics
// Q8), so that any difference means that one side is wrong. Names all that differ, with the values of the first; "" if
// none do.
class StatsDifference {
 public:
  StatsDifference(const Q4Stats& got, const Q4Stats& expected) {
    Compare("count", got.count, expected.count);
    Compare("zero_blocks", got.zero_blocks, expected.zero_blocks);
    Compare("tiny_blocks", got.tiny_blocks, expected.tiny_blocks);
    Compare("clipped", got.clipped, expected.clipped);
    Compare("overflow", got.overflow, expected.overflow);
    for (std::size_t code = 0; code < got.hist.size(); ++code) {
      Compare(fmt::format("hist[{}]", code), got.hist[code], expected.hist[code]);
    }
    Compare("sum_e", got.sum_e, expected.sum_e);
    Compare("sum_abs_e", got.sum_abs_e, expected.sum_abs_e);
    Compare("sum_e2", got.sum_e2, expected.sum_e2);
    Compare("sum_x2", got.sum_x2, expected.sum_x2);
    Compare("sum_xy", got.sum_xy, expected.sum_xy);
    Compare("max_abs_err", got.max_abs_err, expected.max_abs_err);
    Compare("max_abs_err_index", got.max_abs_err_index, expected.max_abs_err_index);
    Compare("max_gap_ratio", got.max_gap_ratio, expected.max_gap_ratio);
    Compare("worst_block_e2", got.worst_block_e2, expected.worst_block_e2);
    Compare("worst_block", got.worst_block, expected.worst_block);
  }
  const std::string& text() const { return text_; }

 private:
  // Both types of members have 64 bits. As bits, a NaN is equal to itself and 0 differs from -0.
  template <typename T>
  void Compare(const std::string& name, T got, T expected) {
    if (std::bit_cast<std::uint64_t>(got) == std::bit_cast<std::uint64_t>(expected)) return;
    if (text_.empty()) {
      text_ = name + ": " + GotExpected(fmt::to_string(got), fmt::to_string(expected));
    } else {
      text_ += ", " + name;
    }
  }
  std::string text_;
};

// What of a partly compared tensor contradicts the record of the whole, or "". Counts, maxima and sums of magnitudes of
// some slabs cannot exceed those of all slabs; signed sums can, and tell nothing.
std::string SampleContradiction(const Q4Stats& sample, const Q4Stats& recorded) {
  const auto exceeds = [](const char* name, auto got, auto most) {
    return fmt::format("{} of the sample: {}", name, GotExpected(fmt::to_string(got), fmt::format("at most {}", most)));
  };
  for (std::size_t code = 0; code < sample.hist.size(); ++code) {
    if (sample.hist[code] > recorded.hist[code]) {
      return exceeds(fmt::format("hist[{}]", code).c_str(), sample.hist[code], recorded.hist[code]);
    }
  }
  if (sample.clipped > recorded.clipped) return exceeds("clipped", sample.clipped, recorded.clipped);
  if (sample.max_abs_err > recorded.max_abs_err) {
    return exceeds("max_abs_err", sample.max_abs_err, recorded.max_abs_err);
  }
  if (sample.worst_block_e2 > recorded.worst_block_e2) {
    return exceeds("worst_block_e2", sample.worst_block_e2, recorded.worst_block_e2);
  }
  // Sums of a sample are added in another order and may round above the whole's.
  constexpr double kRoundedSums = 1 + 1e-6;
  if (sample.sum_e2 > recorded.sum_e2 * kRoundedSums) return exceeds("sum_e2", sample.sum_e2, recorded.sum_e2);
  if (sample.sum_x2 > recorded.sum_x2 * kRoundedSums) return exceeds("sum_x2", sample.sum_x2, recorded.sum_x2);
  return {};
}

// A tensor's digest is that of its slabs' digests, since slabs are digested on different threads.
void AddDigest(std::uint64_t digest, Xxh3Stream* stream) {
  std::array<std::uint8_t, sizeof digest> bytes;
  std::memcpy(bytes.data(), &digest, sizeof digest);
  stream->Update(bytes);
}

// Gathers the slabs of one tensor, which come in order, and judges it after the last. Used under the commit lock of
// ParallelInOrder(), so by one thread at a time.
class TensorComparison {
 public:
  TensorComparison(const TensorPair& pair, bool is_whole, bool compare_absmax)
      : pair_(pair), is_whole_(is_whole), compare_absmax_(compare_absmax) {}

  void Add(const SlabResult& slab) {
    damaged_ = damaged_ || !slab.status.ok();
    elems_ += slab.elems;
    nonfinite_ = std::min(nonfinite_, slab.nonfinite);
    data_.Append(slab.data);
    codes_.Append(slab.codes);
    scales_.Append(slab.scales);
    scale_codes_.Append(slab.scale_codes);
    group_scales_.Append(slab.group_scales);
    not_nearest_.Append(slab.not_nearest);
    for (const double group : slab.absmax_groups) absmax_e2_ += group;
    for (const PieceStats& piece : slab.pieces) {
      stats_.AddSlab(piece.first_elem, pair_.stored->block_size, piece.stats, piece.groups);
      worst_.Add(piece, pair_.stored->block_size);
    }
    for (double sum : slab.scale_sums) scale_sum_.AddGroup(sum);
    AddDigest(slab.source_digest, &source_digest_);
    AddDigest(slab.stored_digest, &stored_digest_);
  }

  // Adds the tensor's findings and fills its entry of the report. A damaged tensor has been reported as such and is not
  // judged.
  void Finish(FindingList* findings, VerifyTensor* report) {
    if (damaged_) return;
    findings_ = findings;
    Judge(report);
    report->proof = failed_ ? TensorProof::kFailed : Proven();
    // Of a taken over checkpoint the source's elements are not known.
    if (compare_absmax_ && !failed_ && pair_.stored->quantized() && pair_.source->bnb == nullptr) {
      report->absmax = {1, stats_.Finish().sum_e2, absmax_e2_};
    }
  }

  // Of a tensor that was compared whole; of a sample they could not be held against those of other tensors.
  TensorDigests digests() const { return {source_digest_.Digest(), stored_digest_.Digest()}; }
  const std::vector<WorstPiece>& worst_pieces() const { return worst_.pieces(); }

 private:
  void Judge(VerifyTensor* report) {
    // No container can be right for such a source, so that further findings would mean nothing.
    if (nonfinite_ != kAllFinite) return Report(kSourceNotFinite, fmt::format("element {}", nonfinite_));
    // From cause to effect: a wrong offset makes scale codes differ, wrong scales the statistics.
    ReportDifference(kDataDiffers, data_);
    ReportDifference(kCodesDiffer, codes_);
    ReportDifference(kScalesDiffer, scales_);
    const Q4Tensor& stored = *pair_.stored;
    // The offset is the mean of all scales, which a sample does not know.
    if (is_whole_ && stored.nested && CanRecompute(pair_)) {
      // Signed scales have none (Q9.8).
      const bool has_offset = EncoderOf(stored.encoder).searching() == nullptr;
      const float offset = has_offset ? NestedOffset(scale_sum_.total(), stored.blocks()) : 0.0f;
      if (std::bit_cast<std::uint32_t>(offset) != std::bit_cast<std::uint32_t>(stored.nested_offset)) {
        Report(kOffsetDiffers, GotExpected(fmt::to_string(stored.nested_offset), fmt::to_string(offset)));
      }
    }
    const BnbSource* const taken_over = pair_.source->bnb.get();
    if (taken_over != nullptr &&
        std::bit_cast<std::uint32_t>(taken_over->nested_offset) != std::bit_cast<std::uint32_t>(stored.nested_offset)) {
      Report(kOffsetDiffers,
             GotExpected(fmt::to_string(stored.nested_offset), fmt::to_string(taken_over->nested_offset)));
    }
    ReportDifference(kScaleCodesDiffer, scale_codes_);
    ReportDifference(kScales2Differ, group_scales_);
    ReportDifference(kCodesNotNearest, not_nearest_);
    report->compared = is_whole_;
    // Also of a sample, unlike `compared`.
    report->compared_elems = elems_;
    // What is taken over has none: its elements are not known.
    if (stored.quantized() && taken_over == nullptr) JudgeStats(report);
  }

  // Of a tensor without a fault.
  TensorProof Proven() const {
    if (!is_whole_) return TensorProof::kSample;
    if (!pair_.stored->quantized() || pair_.source->bnb != nullptr) return TensorProof::kEqual;
    return CanRecompute(pair_) ? TensorProof::kRecomputed : TensorProof::kBounded;
  }

  // Recomputed statistics against the recorded ones, and against the bounds of the encoder.
  void JudgeStats(VerifyTensor* report) {
    const Q4Tensor& stored = *pair_.stored;
    const Q4Stats& stats = stats_.Finish();
    if (stored.has_stats) {
      const std::string difference =
          is_whole_ ? StatsDifference(*stored.stats, stats).text() : SampleContradiction(stats, *stored.stats);
      if (!difference.empty()) Report(kStatsDiffer, difference);
    }
    const std::string broken = BoundBrokenBy(stored, stats);
    if (!broken.empty()) Report(kErrorBound, broken);
    const EncoderProof& proof = ProofOf(stored.encoder);
    // An encoder may promise its bound for the tensor only, of which a sample can be the worse part.
    const double most = proof.most_error * (is_whole_ ? 1 : 1.05);
    // Negated, and what absmax cannot code has no multiple: neither a NaN nor an infinity passes.
    if (!CanRecompute(pair_) && !(std::isfinite(absmax_e2_) && stats.sum_e2 <= most * absmax_e2_)) {
      Report(kAboveProofBound,
             fmt::format("encoder {}: sum of squared errors {}{}", Q4EncoderName(stored.encoder),
                         GotExpected(fmt::to_string(stats.sum_e2),
                                     fmt::format("at most {} times the {} of absmax", most, absmax_e2_)),
                         FindQ4Encoder(stored.encoder)->calibrated ? "; --calibration FILE computes it again" : ""));
    }
    if (!is_whole_) return;  // the recorded ones stay
    report->has_stats = true;
    report->stats = stats;
  }

  // All findings of a tensor name it, its file and its place in the same way.
  void Report(const Issue& issue, const std::string& detail) {
    failed_ = true;
    findings_->Add(pair_.stored->name, issue, pair_.reader->path(), TensorPlace(pair_.stored->name), detail);
  }
  void ReportDifference(const Issue& issue, const Difference& difference) {
    if (difference.count == 0) return;
    Report(issue, fmt::format("{}; {} in all", difference.first, difference.count));
  }

  const TensorPair& pair_;
  const bool is_whole_, compare_absmax_;
  FindingList* findings_ = nullptr;
  bool damaged_ = false, failed_ = false;
  std::uint64_t elems_ = 0;
  std::uint64_t nonfinite_ = kAllFinite;
  Difference data_, codes_, scales_, scale_codes_, group_scales_, not_nearest_;
  double absmax_e2_ = 0;
  TensorStatsAccumulator stats_;
  WorstPieces worst_;
  Sum256 scale_sum_;
  Xxh3Stream source_digest_{0}, stored_digest_{0};
};

// One slab of one pair, in the sequence of all.
struct SlabJob {
  std::size_t pair = 0;
  std::uint64_t slab = 0;
  // The last compared one of the pair: the tensor is judged with it.
  bool is_last = false;
  // Whether all slabs of the pair are compared.
  bool is_whole = false;
};

// A tensor's slabs come one after the other, and tensors in the order of the pairs. Every pair has at least one job.
std::vector<SlabJob> JobsOf(const std::vector<TensorPair>& pairs, const SlabSample& sample) {
  std::vector<SlabJob> jobs;
  for (std::size_t i = 0; i < pairs.size(); ++i) {
    const std::uint64_t count = SlabCount(*pairs[i].stored);
    const std::vector<std::uint64_t> slabs = sample.SlabsOf(pairs[i].stored->name, count);
    for (const std::uint64_t slab : slabs) jobs.push_back({i, slab, slab == slabs.back(), slabs.size() == count});
  }
  return jobs;
}

// Whether the offset that absmax gives the pair's scales is needed before it is compared: for its error, which a proof
// or the user asks for.
bool NeedsAbsmaxOffset(const TensorPair& pair, bool compare_absmax) {
  const Q4Tensor& stored = *pair.stored;
  return stored.nested && !FindQ4Encoder(stored.encoder)->absmax_scales && pair.source->bnb == nullptr &&
         (compare_absmax || !CanRecompute(pair));
}

// That offset of each pair that needs it, of the slabs that are compared; 0 for others. Such tensors are read once more
// for it.
absl::StatusOr<std::vector<float>> AbsmaxOffsets(const std::vector<TensorPair>& pairs, const std::vector<SlabJob>& jobs,
                                                 const PieceTools& tools, const VerifyContext& context,
                                                 const SlabDone& done) {
  std::vector<float> offsets(pairs.size());
  std::vector<SlabJob> wanted;
  for (const SlabJob& job : jobs) {
    if (NeedsAbsmaxOffset(pairs[job.pair], tools.compare_absmax)) wanted.push_back(job);
  }
  Sum256 sum;
  std::uint64_t blocks = 0;
  Q4_RETURN_IF_ERROR(ParallelInOrder(
      wanted.size(), context.threads,
      [&](std::uint64_t i) {
        const TensorPair& pair = pairs[wanted[i].pair];
        if (SlabResult result; context.cancelled()) {
          result.status = Fail(kVerifyInterrupted, pair.reader->path(), {});
          return result;
        }
        return SumAbsmaxScales(pair, tools, wanted[i].slab);
      },
      [&](std::uint64_t i, const SlabResult& result) -> absl::Status {
        if (!result.status.ok()) return result.status;
        for (const double group : result.scale_sums) sum.AddGroup(group);
        blocks += BlockCount(result.elems, pairs[wanted[i].pair].stored->block_size);
        done(result.source_bytes, /*ends_tensor=*/false);
        if (!wanted[i].is_last) return absl::OkStatus();
        offsets[wanted[i].pair] = NestedOffset(sum.total(), blocks);
        sum = Sum256();
        blocks = 0;
        return absl::OkStatus();
      }));
  return offsets;
}

// What CompareSlab() reads of the source.
std::uint64_t BytesOfSlab(const TensorPair& pair, std::uint64_t slab) {
  const Q4Tensor& stored = *pair.stored;
  const std::uint64_t elems = SlabElems(stored, slab);
  if (pair.source->bnb == nullptr) return elems * ItemSize(pair.source->dtype);
  const std::uint64_t blocks = CeilDiv(elems, stored.block_size);
  const std::uint64_t scales = stored.nested ? blocks + GroupCount(blocks) * sizeof(float) : blocks * sizeof(float);
  return CeilDiv(elems, 2) + scales;
}

std::string FilePlace(const std::string& name) { return "file '" + name + "'"; }

}  // namespace

void FindInputs(const Calibration& calibration, const Checkpoint& source, std::vector<TensorPair>* pairs) {
  std::vector<std::string_view> names;
  for (const SourceTensor& tensor : source.tensors()) names.emplace_back(tensor.name);
  const std::vector<WeightInput> inputs = calibration.Match(names);
  for (TensorPair& pair : *pairs) {
    const WeightInput& input = inputs[static_cast<std::size_t>(pair.source - source.tensors().data())];
    if (input.input != nullptr && CalibrationMisfit(input, pair.stored->shape).empty()) pair.calibrated = input;
  }
}

std::uint64_t BytesToCompare(const std::vector<TensorPair>& pairs, const SlabSample& sample, bool compare_absmax) {
  std::uint64_t bytes = 0;
  for (const SlabJob& job : JobsOf(pairs, sample)) {
    const TensorPair& pair = pairs[job.pair];
    bytes += BytesOfSlab(pair, job.slab) * (NeedsAbsmaxOffset(pair, compare_absmax) ? 2 : 1);
  }
  return bytes;
}

absl::Status CompareTensors(const Comparison& comparison, const VerifyContext& context, const SlabDone& done) {
  const std::vector<TensorPair>& pairs = comparison.pairs;
  const std::vector<SlabJob> jobs = JobsOf(pairs, comparison.sample);
  // By pair; nullopt until the tensor was compared whole.
  std::vector<std::optional<TensorDigests>> digests(pairs.size());
  // By pair, of tensors that have any error.
  std::vector<std::pair<std::size_t, std::vector<WorstPiece>>> worst;
  ChunkCache cache;
  PairWeights weights(comparison.calibration);
  WholeCodes whole_codes(comparison.calibration, pairs, context.threads, comparison.factor_room, context.cancel);
  const PieceTools tools{*context.kernels, comparison.source, comparison.effort, comparison.compare_absmax,
                         &cache,           &weights,          &whole_codes};
  Q4_ASSIGN_OR_RETURN(const std::vector<float> offsets, AbsmaxOffsets(pairs, jobs, tools, context, done));
  // The tensor whose slabs are being merged. One at a time is enough, since results come in order.
  std::optional<TensorComparison> current;
  const auto interrupted = [&](const TensorPair& pair) -> absl::Status {
    return context.cancelled() ? Fail(kVerifyInterrupted, pair.reader->path(), {}) : absl::OkStatus();
  };
  Q4_RETURN_IF_ERROR(ParallelInOrder(
      jobs.size(), context.threads,
      [&](std::uint64_t i) {
        const TensorPair& pair = pairs[jobs[i].pair];
        if (SlabResult result; !(result.status = interrupted(pair)).ok()) return result;
        return CompareSlab(pair, tools, jobs[i].slab, offsets[jobs[i].pair]);
      },
      [&](std::uint64_t i, const SlabResult& result) -> absl::Status {
        // Damage of the container was found by CheckChunks(); anything else ends the comparison.
        if (!result.status.ok() && ExitCodeOf(result.status) != ExitCode::kCheckFailed) return result.status;
        const SlabJob& job = jobs[i];
        if (!current) current.emplace(pairs[job.pair], job.is_whole, comparison.compare_absmax);
        current->Add(result);
        if (job.is_last) {
          VerifyTensor& entry = context.report->tensors[pairs[job.pair].report];
          current->Finish(context.findings, &entry);
          // Samples have no digest of the tensor, and what is worst in a sample is not the tensor's worst.
          if (entry.compared) {
            digests[job.pair] = current->digests();
            if (!current->worst_pieces().empty()) worst.emplace_back(job.pair, current->worst_pieces());
          }
          current.reset();
        }
        context.report->source_bytes += result.source_bytes;
        done(result.source_bytes, job.is_last);
        return absl::OkStatus();
      }));
  // Ties are judged before worst blocks: this only needs digests, and its findings stand by the tensors' own.
  CheckTied(pairs, digests, comparison.embeddings_are_tied, context.findings);
  // Worst blocks come after all slabs, since only then is it known in which pieces they lie. Few pieces are read again.
  return ParallelInOrder(
      worst.size(), context.threads,
      [&](std::uint64_t i) -> absl::StatusOr<WorstBlocks> {
        const TensorPair& pair = pairs[worst[i].first];
        Q4_RETURN_IF_ERROR(interrupted(pair));
        return FindWorstBlocks(pair, tools, worst[i].second);
      },
      [&](std::uint64_t i, absl::StatusOr<WorstBlocks> found) -> absl::Status {
        if (!found.ok()) return found.status();
        const TensorPair& pair = pairs[worst[i].first];
        context.report->tensors[pair.report].worst_blocks = std::move(found->blocks);
        // A tensor that failed already has the cause among its findings.
        if (!found->broken_bound.empty() && !context.findings->Failed(pair.stored->name)) {
          context.findings->Add(pair.stored->name, kErrorBound, pair.reader->path(), TensorPlace(pair.stored->name),
                                found->broken_bound);
          context.report->tensors[pair.report].proof = TensorProof::kFailed;
        }
        return absl::OkStatus();
      });
}

absl::Status CompareFiles(FileSystem& fs, const Q4Model& model, const Checkpoint& source, FindingList* findings) {
  const Q4Reader& first = *model.shards().front();
  if (first.index().shard != 0) return absl::OkStatus();  // files lie in shard 0
  // A linear search: companions are a few dozen at most.
  const auto find = [&](const std::string& name) {
    const auto& companions = source.companions();
    const auto at = std::find_if(companions.begin(), companions.end(), [&](const auto& c) { return c.name == name; });
    return at == companions.end() ? nullptr : &*at;
  };
  // Weights that lie alone are one cause, told once.
  const std::size_t embedded = first.index().files.size();
  const bool alone = source.companions().empty() && embedded > 1;
  if (alone) {
    findings->Add("", kFileExtra, first.path(), fmt::format("all {} files", embedded),
                  "nothing lies beside the weights; " + std::string(kNameTheModel));
  }
  for (const Q4EmbeddedFile& file : first.index().files) {
    const CompanionFile* companion = find(file.name);
    if (companion == nullptr) {
      if (!alone) findings->Add("", kFileExtra, first.path(), FilePlace(file.name));
      continue;
    }
    Q4_ASSIGN_OR_RETURN(const auto expected, OpenCarried(fs, *companion));
    // Where they differ; if one is the beginning of the other, where the shorter one ends.
    std::optional<std::uint64_t> differ;
    std::vector<std::uint8_t> other;
    const absl::Status read =
        first.ReadFileChunks(file, [&](std::uint64_t at, std::span<const std::uint8_t> got) -> absl::Status {
          if (differ) return absl::OkStatus();  // read on: damage behind it is worth more
          other.resize(std::min<std::uint64_t>(got.size(), expected->size() - std::min(at, expected->size())));
          Q4_RETURN_IF_ERROR(expected->ReadAt(at, other));
          const auto end = std::mismatch(got.begin(), got.end(), other.begin(), other.end()).first;
          if (end != got.end()) differ = at + static_cast<std::uint64_t>(end - got.begin());
          return absl::OkStatus();
        });
    // A damaged embedded file is a finding of CheckChunks().
    if (IsDamage(read)) continue;
    Q4_RETURN_IF_ERROR(read);
    if (!differ && expected->size() != file.raw_bytes) differ = std::min(expected->size(), file.raw_bytes);
    if (differ) {
      findings->Add("", kFileDiffers, first.path(), FilePlace(file.name), fmt::format("from byte {} on", *differ));
    }
  }
  for (const CompanionFile& companion : source.companions()) {
    const auto& files = first.index().files;
    if (std::none_of(files.begin(), files.end(), [&](const auto& file) { return file.name == companion.name; })) {
      findings->Add("", kFileMissing, first.path(), FilePlace(companion.name));
    }
  }
  return absl::OkStatus();
}

}  // namespace q4
