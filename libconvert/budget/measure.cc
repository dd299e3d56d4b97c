// Tensors are cut into pieces of a whole number of groups of 256 blocks of any size, so that every
// kernel and every sum sees what it would see in a conversion. Pieces are worked on in any order; their results are
// added in the order of elements.
//
// Batches: as many tensors as fit half of the memory bound are looked at together, twice where that is needed, with
// their elements in memory between. A tensor that does not fit alone is a batch by itself and is read again.
#include "libconvert/budget/measure.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "formats/base/status.h"
#include "libconvert/base/budget.h"
#include "libconvert/base/parallel.h"
#include "libconvert/budget/piece.h"
#include "libconvert/convert/convert_issues.h"
#include "libconvert/encode/calibrated.h"
#include "libconvert/source/source_reader.h"

namespace q4 {
namespace {

// A piece, and whose it is.
struct PlacedPiece {
  std::size_t task;
  std::uint64_t first, elems;
  std::vector<std::uint8_t> x;  // between two looks, where it stays in memory
};

// What is gathered of a tensor while its pieces come in.
struct TensorSums {
  std::vector<Sum256> scales;   // of the first look, by search
  std::vector<float> offsets;   // what came of them
  std::vector<FormatSum> sums;  // by format
};

// What is known of each tensor while it is chosen for, in all forms that it takes.
constexpr std::uint64_t kTensorBytes = 3 << 10;

// What is left for elements.
std::uint64_t MemoryFor(std::uint64_t max_memory, std::size_t tensors) {
  return max_memory - std::min(max_memory / 2, IndexBeyondAllowance(tensors * kTensorBytes));
}

class Measuring {
 public:
  Measuring(const Checkpoint& checkpoint, const std::vector<MeasureTask>& tasks, int effort, const MeasureRun& run)
      : checkpoint_(checkpoint),
        source_(checkpoint),
        tasks_(tasks),
        run_(run),
        kernels_(run.kernels != nullptr ? *run.kernels : BestCpuKernels()),
        half_(MemoryFor(run.max_memory, tasks.size()) / 2),
        threads_(static_cast<unsigned>(
            std::clamp<std::uint64_t>(half_ / (kPieceMemory + checkpoint.read_bytes()), 1, run.threads))),
        sums_(tasks.size()),
        results_(tasks.size()) {
    for (const MeasureTask& task : tasks) {
      measures_.emplace_back(task.encoder, task.formats, FloatTypeOf(task.source->dtype), effort, task.kept_as);
      total_bytes_ += task.source->bytes;
    }
  }

  absl::StatusOr<std::vector<TensorErrors>> Run() {
    for (std::size_t begin = 0; begin < tasks_.size();) {
      // Of the pieces in memory, at least one tensor's.
      std::uint64_t bytes = 0;
      std::size_t end = begin;
      while (end < tasks_.size()) {
        std::uint64_t more = measures_[end].looks_twice() ? tasks_[end].source->bytes : 0;
        if (tasks_[end].calibration != nullptr) more += ColumnWeightsMemory(tasks_[end].source->shape);
        if (end > begin && bytes + more > half_) break;
        bytes += more;
        ++end;
      }
      Q4_RETURN_IF_ERROR(RunBatch(begin, end, /*keep=*/bytes <= half_));
      begin = end;
    }
    return std::move(results_);
  }

 private:
  absl::Status RunBatch(std::size_t begin, std::size_t end, bool keep) {
    std::vector<PlacedPiece> twice, once;
    weights_.assign(tasks_.size(), nullptr);
    for (std::size_t i = begin; i < end; ++i) {
      sums_[i].sums.resize(tasks_[i].formats.size());
      if (const MeasureTask& task = tasks_[i]; task.calibration != nullptr) {
        Q4_ASSIGN_OR_RETURN(weights_[i], LoadColumnWeights(*task.calibration, task.input, task.source->shape));
      }
      std::vector<PlacedPiece>& pieces = measures_[i].looks_twice() ? twice : once;
      const std::uint64_t elems = tasks_[i].source->elems, step = PieceElems(tasks_[i].formats);
      for (std::uint64_t first = 0; first < elems; first += step) {
        pieces.push_back({i, first, std::min(step, elems - first), {}});
      }
    }
    Q4_RETURN_IF_ERROR(LookForScales(&twice, keep));
    for (std::size_t i = begin; i < end; ++i) {
      for (const Sum256& sum : sums_[i].scales) {
        sums_[i].offsets.push_back(NestedOffset(
            sum.total(), BlockCount(tasks_[i].source->elems, measures_[i].block_size(sums_[i].offsets.size()))));
      }
    }
    Q4_RETURN_IF_ERROR(LookForErrors(&twice));
    Q4_RETURN_IF_ERROR(LookForErrors(&once));
    for (std::size_t i = begin; i < end; ++i) {
      TensorErrors& result = results_[i];
      if (result.bad) continue;
      for (const FormatSum& sum : sums_[i].sums) result.formats.push_back(sum.error());
      // Rarely: what is searched gives way to absmax (numerics Q9.9), which is then what such a format loses.
      Q4_RETURN_IF_ERROR(GiveWay(i));
    }
    return absl::OkStatus();
  }

  // The elements of a piece, from memory or the file.
  absl::StatusOr<std::vector<std::uint8_t>> Read(PlacedPiece* piece) const {
    if (run_.cancel != nullptr && run_.cancel->load()) return Fail(kInterruptedRun, {}, {});
    if (!piece->x.empty()) return std::move(piece->x);
    const SourceTensor& source = *tasks_[piece->task].source;
    source_.Prefetch(source, piece->first + piece->elems, 4 * piece->elems);
    std::vector<std::uint8_t> x(piece->elems * ItemSize(source.dtype));
    Q4_RETURN_IF_ERROR(source_.Read(source, piece->first, x));
    return x;
  }

  PieceElements ElemsOf(const PlacedPiece& piece, const std::vector<std::uint8_t>& x) const {
    return {x.data(), piece.first, piece.elems, weights_[piece.task].get()};
  }

  void NoteBad(const PlacedPiece& piece, std::uint64_t bad) {
    std::optional<std::uint64_t>& first = results_[piece.task].bad;
    // Pieces of a tensor come in order: the first one found is the first there is.
    if (bad != kAllFinite && !first) first = piece.first + bad;
  }

  absl::Status LookForScales(std::vector<PlacedPiece>* pieces, bool keep) {
    const auto work = [&](std::uint64_t i) -> absl::StatusOr<PieceScales> {
      const ScopedFloatEnvironment environment;
      PlacedPiece& piece = (*pieces)[i];
      Q4_ASSIGN_OR_RETURN(std::vector<std::uint8_t> x, Read(&piece));
      PieceScales scales = measures_[piece.task].Scales(kernels_, ElemsOf(piece, x));
      if (keep) piece.x = std::move(x);
      return scales;
    };
    const auto commit = [&](std::uint64_t i, const absl::StatusOr<PieceScales>& scales) {
      if (!scales.ok()) return scales.status();
      const PlacedPiece& piece = (*pieces)[i];
      NoteBad(piece, scales->bad);
      std::vector<Sum256>& sums = sums_[piece.task].scales;
      sums.resize(scales->group_sums.size());
      for (std::size_t s = 0; s < sums.size(); ++s) {
        for (const double group : scales->group_sums[s]) sums[s].AddGroup(group);
      }
      return absl::OkStatus();
    };
    return ParallelInOrder(pieces->size(), threads_, work, commit);
  }

  absl::Status LookForErrors(std::vector<PlacedPiece>* pieces) {
    const auto work = [&](std::uint64_t i) -> absl::StatusOr<PieceErrors> {
      const ScopedFloatEnvironment environment;
      PlacedPiece& piece = (*pieces)[i];
      // Of a first look; nobody writes it any more.
      if (measures_[piece.task].looks_twice() && results_[piece.task].bad) return PieceErrors{};
      Q4_ASSIGN_OR_RETURN(const std::vector<std::uint8_t> x, Read(&piece));
      return measures_[piece.task].Errors(kernels_, ElemsOf(piece, x), sums_[piece.task].offsets);
    };
    const auto commit = [&](std::uint64_t i, const absl::StatusOr<PieceErrors>& errors) {
      if (!errors.ok()) return errors.status();
      const PlacedPiece& piece = (*pieces)[i];
      NoteBad(piece, errors->bad);
      TensorErrors& result = results_[piece.task];
      result.squares += errors->squares;
      for (std::size_t f = 0; f < errors->formats.size(); ++f) sums_[piece.task].sums[f].Add(errors->formats[f]);
      if (tasks_[piece.task].kept_as) {
        if (piece.first == 0) result.kept = 0;
        if (!errors->kept) result.kept.reset();
        if (result.kept) *result.kept += *errors->kept;
      }
      done_bytes_ += piece.elems * ItemSize(tasks_[piece.task].source->dtype);
      done_tensors_ += piece.first + piece.elems == tasks_[piece.task].source->elems;
      if (run_.progress) {
        run_.progress({done_bytes_, total_bytes_, done_tensors_, tasks_.size(), tasks_[piece.task].source->name});
      }
      return absl::OkStatus();
    };
    return ParallelInOrder(pieces->size(), threads_, work, commit);
  }

  absl::Status GiveWay(std::size_t i) {
    // What absmax' own codes lose is not known with weights; the search, which loses no less, stands for it.
    if (tasks_[i].calibration != nullptr) return absl::OkStatus();
    MeasureTask again = tasks_[i];
    again.encoder = Q4Encoder::kAbsmax;
    again.formats.clear();
    again.kept_as.reset();
    std::vector<std::size_t> places;
    for (std::size_t f = 0; f < tasks_[i].formats.size(); ++f) {
      if (!sums_[i].sums[f].gives_way()) continue;
      places.push_back(f);
      again.formats.push_back(tasks_[i].formats[f]);
    }
    if (places.empty()) return absl::OkStatus();
    MeasureRun quiet = run_;
    quiet.progress = {};
    Q4_ASSIGN_OR_RETURN(const std::vector<TensorErrors> errors,
                        MeasureTensors(checkpoint_, {again}, kDefaultEffort, quiet));
    for (std::size_t p = 0; p < places.size(); ++p) {
      // Where absmax could not have nested scales at all, the search stands.
      if (errors.front().formats[p]) results_[i].formats[places[p]] = errors.front().formats[p];
    }
    return absl::OkStatus();
  }

  const Checkpoint& checkpoint_;
  const SourceReader source_;
  const std::vector<MeasureTask>& tasks_;
  const MeasureRun& run_;
  const KernelTable& kernels_;
  const std::uint64_t half_;  // of the memory: one for elements that stay, one for pieces that are worked on
  const unsigned threads_;
  std::vector<PieceMeasure> measures_;                         // by task, as the next two
  std::vector<std::shared_ptr<const ColumnWeights>> weights_;  // of the batch; nullptr where all errors count alike
  std::vector<TensorSums> sums_;
  std::vector<TensorErrors> results_;
  std::uint64_t total_bytes_ = 0, done_bytes_ = 0, done_tensors_ = 0;
};

}  // namespace

absl::StatusOr<std::vector<TensorErrors>> MeasureTensors(const Checkpoint& checkpoint,
                                                         const std::vector<MeasureTask>& tasks, int effort,
                                                         const MeasureRun& run) {
  return Measuring(checkpoint, tasks, effort, run).Run();
}

}  // namespace q4
