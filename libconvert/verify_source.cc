// Slabs of all tensors form one sequence, worked on by all threads and merged in order, so that many small tensors and
// one huge one are equally parallel and the report does not depend on timing.
#include "libconvert/verify_source.h"

#include <algorithm>
#include <bit>
#include <map>
#include <set>

#include "fmt/format.h"
#include "formats/base/limits.h"
#include "kernels/kernels.h"
#include "libconvert/model_stats.h"
#include "libconvert/parallel.h"
#include "libconvert/verify_issues.h"
#include "libconvert/verify_slab.h"

namespace q4 {
namespace {

// What a tensor is apart from its name: a missing and an extra tensor that agree in this are one that was renamed.
using Likeness = std::pair<Shape, DType>;

// Reports tensors that only one side has. `missing` and `extra` are sorted by name.
void ReportUnpaired(const std::string& path, const std::vector<const TensorInfo*>& missing,
                    const std::vector<const Q4Tensor*>& extra, FindingList* findings) {
  std::map<Likeness, std::vector<const TensorInfo*>> missing_alike;
  std::map<Likeness, std::uint64_t> extra_alike;
  for (const TensorInfo* tensor : missing) missing_alike[{tensor->shape, tensor->dtype}].push_back(tensor);
  for (const Q4Tensor* tensor : extra) ++extra_alike[{tensor->shape, tensor->dtype}];

  std::set<const TensorInfo*> renamed;
  for (const Q4Tensor* tensor : extra) {
    const Likeness likeness{tensor->shape, tensor->dtype};
    const auto alike = missing_alike.find(likeness);
    if (alike != missing_alike.end() && alike->second.size() == 1 && extra_alike[likeness] == 1) {
      renamed.insert(alike->second.front());
      findings->Add(tensor->name, kTensorRenamed, path, TensorPlace(tensor->name),
                    "in the source probably '" + alike->second.front()->name + "'");
    } else {
      findings->Add(tensor->name, kTensorExtra, path, TensorPlace(tensor->name));
    }
  }
  for (const TensorInfo* tensor : missing) {
    if (renamed.contains(tensor)) continue;
    findings->Add(tensor->name, kTensorMissing, path, TensorPlace(tensor->name));
  }
}

// The dtype a source tensor must have in the container.
DType ExpectedDType(const TensorInfo& source, const Q4Tensor& stored, std::optional<DType> keep_dtype) {
  const bool is_converted = stored.scheme == Q4Scheme::kRaw && keep_dtype && IsQuantizable(source.dtype);
  return is_converted ? *keep_dtype : source.dtype;
}

// The names of the statistics that differ, and the values of the first. "" if all are equal bit for bit.
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

// Gathers the slabs of one tensor, which come in order, and judges it after the last.
class TensorComparison {
 public:
  explicit TensorComparison(const TensorPair& pair) : pair_(pair) {}

  void Add(const SlabResult& slab) {
    damaged_ = damaged_ || !slab.status.ok();
    nonfinite_ = std::min(nonfinite_, slab.nonfinite);
    data_.Append(slab.data);
    codes_.Append(slab.codes);
    scales_.Append(slab.scales);
    scale_codes_.Append(slab.scale_codes);
    scales2_.Append(slab.scales2);
    for (const PieceStats& piece : slab.pieces) {
      stats_.AddSlab(piece.first_elem, pair_.stored->block_size, piece.stats, piece.groups);
    }
    for (double sum : slab.scale_sums) scale_sum_.AddGroup(sum);
  }

  // A damaged tensor has been reported as such and is not judged.
  void Finish(FindingList* findings, VerifyTensor* report) const {
    if (damaged_) return;
    if (nonfinite_ != kAllFinite) {
      Report(kSourceNotFinite, fmt::format("element {}", nonfinite_), findings);
      return;
    }
    ReportDifference(kDataDiffers, data_, findings);
    ReportDifference(kCodesDiffer, codes_, findings);
    ReportDifference(kScalesDiffer, scales_, findings);
    const Q4Tensor& stored = *pair_.stored;
    if (stored.nested && stored.encoder == Q4Encoder::kAbsmax) {
      const float offset = NestedOffset(scale_sum_.total(), stored.blocks());
      if (std::bit_cast<std::uint32_t>(offset) != std::bit_cast<std::uint32_t>(stored.nested_offset)) {
        Report(kOffsetDiffers, GotExpected(fmt::to_string(stored.nested_offset), fmt::to_string(offset)), findings);
      }
    }
    ReportDifference(kScaleCodesDiffer, scale_codes_, findings);
    ReportDifference(kScales2Differ, scales2_, findings);
    report->compared = true;
    if (stored.scheme == Q4Scheme::kRaw) return;

    const Q4Stats& stats = stats_.Finish();
    if (stored.has_stats) {
      const StatsDifference difference(stored.stats, stats);
      if (!difference.text().empty()) Report(kStatsDiffer, difference.text(), findings);
    }
    const std::string broken = BoundBrokenBy(stored, stats);
    if (!broken.empty()) Report(kErrorBound, broken, findings);
    report->has_stats = true;
    report->stats = stats;
  }

 private:
  void Report(const Issue& issue, const std::string& detail, FindingList* findings) const {
    findings->Add(pair_.stored->name, issue, pair_.reader->path(), TensorPlace(pair_.stored->name), detail);
  }
  void ReportDifference(const Issue& issue, const Difference& difference, FindingList* findings) const {
    if (difference.count == 0) return;
    Report(issue, fmt::format("{}; {} in all", difference.first, difference.count), findings);
  }

  const TensorPair& pair_;
  bool damaged_ = false;
  std::uint64_t nonfinite_ = kAllFinite;
  Difference data_, codes_, scales_, scale_codes_, scales2_;
  TensorStatsAccumulator stats_;
  Sum256 scale_sum_;
};

std::string FilePlace(const std::string& name) { return "file '" + name + "'"; }

}  // namespace

std::vector<TensorPair> PairTensors(const Q4Model& model, const Checkpoint& source, std::optional<DType> keep_dtype,
                                    FindingList* findings) {
  std::vector<TensorPair> pairs;
  std::vector<const Q4Tensor*> extra;
  for (std::size_t i = 0; i < model.tensors().size(); ++i) {
    const Q4Model::Location& at = model.tensors()[i];
    const Q4Tensor& stored = model.tensor(at);
    const std::string& path = model.reader(at).path();
    const TensorInfo* found = source.Find(stored.name);
    if (found == nullptr) {
      extra.push_back(&stored);
      continue;
    }
    if (stored.shape != found->shape) {
      findings->Add(stored.name, kShapeDiffers, path, TensorPlace(stored.name),
                    GotExpected(ShapeString(stored.shape), ShapeString(found->shape)));
      continue;
    }
    const DType expected = ExpectedDType(*found, stored, keep_dtype);
    if (stored.dtype != expected) {
      findings->Add(stored.name, kDTypeDiffers, path, TensorPlace(stored.name),
                    GotExpected(DTypeName(stored.dtype), DTypeName(expected)));
      continue;
    }
    pairs.push_back({&model.reader(at), &stored, found, i});
  }

  std::vector<const TensorInfo*> missing;
  const bool is_whole = model.shards().size() == model.shards().front()->index().shard_count;
  for (const TensorInfo& tensor : source.tensors()) {
    if (is_whole && model.Find(tensor.name) == nullptr) missing.push_back(&tensor);
  }
  std::sort(missing.begin(), missing.end(), [](const auto* a, const auto* b) { return a->name < b->name; });
  ReportUnpaired(model.path(), missing, extra, findings);
  return pairs;
}

absl::Status CompareTensors(const Checkpoint& source, const std::vector<TensorPair>& pairs, unsigned threads,
                            CancelFlag* cancel, const BytesDone& done, FindingList* findings, VerifyReport* report) {
  std::vector<std::uint64_t> slab_ends;  // running total of slabs up to and including each pair
  slab_ends.reserve(pairs.size());
  for (const TensorPair& pair : pairs) {
    slab_ends.push_back((slab_ends.empty() ? 0 : slab_ends.back()) + SlabCount(*pair.stored));
  }
  const auto pair_of = [&](std::uint64_t slab) {
    return static_cast<std::size_t>(std::upper_bound(slab_ends.begin(), slab_ends.end(), slab) - slab_ends.begin());
  };

  ChunkCache cache;
  std::optional<TensorComparison> current;
  return ParallelInOrder(
      slab_ends.empty() ? 0 : slab_ends.back(), threads,
      [&](std::uint64_t slab) {
        const std::size_t at = pair_of(slab);
        const TensorPair& pair = pairs[at];
        if (cancel != nullptr && cancel->load()) {
          SlabResult interrupted;
          interrupted.status = Fail(kVerifyInterrupted, pair.reader->path(), {});
          return interrupted;
        }
        const std::uint64_t first = at == 0 ? 0 : slab_ends[at - 1];
        return CompareSlab(*pair.reader, *pair.stored, source, *pair.source, slab - first, &cache);
      },
      [&](std::uint64_t slab, const SlabResult& result) -> absl::Status {
        // Damage of the container was found by CheckChunks(); anything else ends the comparison.
        if (!result.status.ok() && ExitCodeOf(result.status) != ExitCode::kCheckFailed) return result.status;
        const std::size_t at = pair_of(slab);
        if (!current) current.emplace(pairs[at]);
        current->Add(result);
        if (slab + 1 == slab_ends[at]) {
          current->Finish(findings, &report->tensors[pairs[at].report]);
          current.reset();
        }
        report->source_bytes += result.source_bytes;
        done(result.source_bytes);
        return absl::OkStatus();
      });
}

absl::Status CompareFiles(FileSystem& fs, const Q4Model& model, const Checkpoint& source, FindingList* findings) {
  const Q4Reader& first = *model.shards().front();
  if (first.index().shard != 0) return absl::OkStatus();  // files lie in shard 0
  const auto find = [&](const std::string& name) {
    const auto& companions = source.companions();
    const auto at = std::find_if(companions.begin(), companions.end(), [&](const auto& c) { return c.name == name; });
    return at == companions.end() ? nullptr : &*at;
  };
  for (const Q4EmbeddedFile& file : first.index().files) {
    const CompanionFile* companion = find(file.name);
    if (companion == nullptr) {
      findings->Add("", kFileExtra, first.path(), FilePlace(file.name));
      continue;
    }
    const absl::StatusOr<std::string> got = first.ReadFile(file);
    if (!got.ok()) {
      if (!IsDamage(got.status())) return got.status();
      continue;  // reported by CheckChunks()
    }
    Q4_ASSIGN_OR_RETURN(const std::string expected, ReadWholeFile(fs, companion->path, limits::kEmbeddedFileBytes));
    if (*got == expected) continue;
    const auto differ = std::mismatch(got->begin(), got->end(), expected.begin(), expected.end());
    findings->Add("", kFileDiffers, first.path(), FilePlace(file.name),
                  fmt::format("from byte {} on", differ.first - got->begin()));
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
