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

#include "fmt/format.h"
#include "formats/base/status.h"
#include "libconvert/base/budget.h"
#include "libconvert/base/parallel.h"
#include "libconvert/budget/piece.h"
#include "libconvert/convert/convert_issues.h"
#include "libconvert/encode/calibrated.h"
#include "libconvert/source/source_reader.h"

namespace q4 {
namespace {

// Consecutive tasks of one tensor, which look at the same pieces: [begin, end).
struct Reading {
  std::size_t begin, end;
};

// A piece, and whose it is.
struct PlacedPiece {
  std::size_t reading;
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
    for (std::size_t i = 0; i < tasks.size(); ++i) {
      const MeasureTask& task = tasks[i];
      measures_.emplace_back(task.encoder, task.formats, FloatTypeOf(task.source->dtype), effort, task.kept_as,
                             task.record);
      if (i == 0 || task.source != tasks[i - 1].source) {
        readings_.push_back({i, i});
        total_bytes_ += task.source->bytes;
      }
      readings_.back().end = i + 1;
    }
  }

  absl::StatusOr<std::vector<TensorErrors>> Run() {
    // With less, what is known of the tensors alone would exceed the bound.
    if (const std::uint64_t needed = 2 * IndexBeyondAllowance(tasks_.size() * kTensorBytes); needed > run_.max_memory) {
      return Fail(kMemoryTooSmall, checkpoint_.path(), "--max-memory",
                  GotExpected(fmt::format("{} bytes", GivenBound(run_.bound_of, run_.max_memory)),
                              fmt::format("at least {} bytes", GivenBound(run_.bound_of, needed))));
    }
    for (std::size_t begin = 0; begin < readings_.size();) {
      // Of the pieces in memory, at least one tensor's.
      std::uint64_t bytes = 0;
      std::size_t end = begin;
      while (end < readings_.size()) {
        std::uint64_t more = LooksTwice(end) ? SourceOf(end).bytes : 0;
        if (CalibratedTask(end) != nullptr) more += ColumnWeightsMemory(SourceOf(end).shape);
        // What is gathered of each format; of a record it is more than the small change that kTensorBytes counts.
        for (std::size_t i = readings_[end].begin; i < readings_[end].end; ++i) {
          if (tasks_[i].record) more += tasks_[i].formats.size() * sizeof(FormatSum);
        }
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
  const SourceTensor& SourceOf(std::size_t reading) const { return *tasks_[readings_[reading].begin].source; }

  bool LooksTwice(std::size_t reading) const {
    return std::any_of(measures_.begin() + static_cast<std::ptrdiff_t>(readings_[reading].begin),
                       measures_.begin() + static_cast<std::ptrdiff_t>(readings_[reading].end),
                       [](const PieceMeasure& measure) { return measure.looks_twice(); });
  }

  // What a calibration says of a tensor, it says for all of its tasks.
  const MeasureTask* CalibratedTask(std::size_t reading) const {
    for (std::size_t i = readings_[reading].begin; i < readings_[reading].end; ++i) {
      if (tasks_[i].calibration != nullptr) return &tasks_[i];
    }
    return nullptr;
  }

  // Of readings [first, last).
  absl::Status RunBatch(std::size_t first_reading, std::size_t last_reading, bool keep) {
    std::vector<PlacedPiece> twice, once;
    weights_.assign(readings_.size(), nullptr);
    const std::size_t begin = readings_[first_reading].begin, end = readings_[last_reading - 1].end;
    for (std::size_t r = first_reading; r < last_reading; ++r) {
      if (const MeasureTask* const task = CalibratedTask(r); task != nullptr) {
        Q4_ASSIGN_OR_RETURN(weights_[r], LoadColumnWeights(*task->calibration, task->input, task->source->shape));
      }
      std::uint64_t step = 0;
      for (std::size_t i = readings_[r].begin; i < readings_[r].end; ++i) {
        sums_[i].sums.resize(tasks_[i].formats.size());
        step = std::max(step, PieceElems(tasks_[i].formats));
      }
      std::vector<PlacedPiece>& pieces = LooksTwice(r) ? twice : once;
      const std::uint64_t elems = SourceOf(r).elems;
      for (std::uint64_t first = 0; first < elems; first += step) {
        pieces.push_back({r, first, std::min(step, elems - first), {}});
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
      for (const FormatSum& sum : sums_[i].sums) {
        result.formats.push_back(sum.error());
        if (tasks_[i].record) result.records.push_back(sum.record());
      }
      // Rarely: what is searched gives way to absmax (numerics Q9.9), which is then what such a format loses.
      Q4_RETURN_IF_ERROR(GiveWay(i));
      sums_[i] = {};
    }
    return absl::OkStatus();
  }

  // The elements of a piece, from memory or the file.
  absl::StatusOr<std::vector<std::uint8_t>> Read(PlacedPiece* piece) const {
    if (run_.cancel != nullptr && run_.cancel->load()) return Fail(kInterruptedRun, {}, {});
    if (!piece->x.empty()) return std::move(piece->x);
    const SourceTensor& source = SourceOf(piece->reading);
    source_.Prefetch(source, piece->first + piece->elems, 4 * piece->elems);
    std::vector<std::uint8_t> x(piece->elems * ItemSize(source.dtype));
    Q4_RETURN_IF_ERROR(source_.Read(source, piece->first, x));
    return x;
  }

  // As the task sees it.
  PieceElements ElemsOf(const PlacedPiece& piece, const std::vector<std::uint8_t>& x, std::size_t task) const {
    const ColumnWeights* const weights = weights_[piece.reading].get();
    const bool looks = tasks_[task].calibration != nullptr && !tasks_[task].blind;
    return {x.data(), piece.first, piece.elems, looks ? weights : nullptr, weights};
  }

  // For all tasks of the tensor.
  void NoteBad(const PlacedPiece& piece, std::uint64_t bad) {
    for (std::size_t i = readings_[piece.reading].begin; i < readings_[piece.reading].end; ++i) {
      std::optional<std::uint64_t>& first = results_[i].bad;
      // Pieces of a tensor come in order: the first one found is the first there is.
      if (bad != kAllFinite && !first) first = piece.first + bad;
    }
  }

  absl::Status LookForScales(std::vector<PlacedPiece>* pieces, bool keep) {
    // By task of the piece's reading.
    using Found = std::vector<PieceScales>;
    const auto work = [&](std::uint64_t i) -> absl::StatusOr<Found> {
      const ScopedFloatEnvironment environment;
      PlacedPiece& piece = (*pieces)[i];
      Q4_ASSIGN_OR_RETURN(std::vector<std::uint8_t> x, Read(&piece));
      Found found;
      for (std::size_t task = readings_[piece.reading].begin; task < readings_[piece.reading].end; ++task) {
        PieceScales& scales = found.emplace_back();
        if (measures_[task].looks_twice()) scales = measures_[task].Scales(kernels_, ElemsOf(piece, x, task));
      }
      if (keep) piece.x = std::move(x);
      return found;
    };
    const auto commit = [&](std::uint64_t i, const absl::StatusOr<Found>& found) {
      if (!found.ok()) return found.status();
      const PlacedPiece& piece = (*pieces)[i];
      for (std::size_t task = readings_[piece.reading].begin; task < readings_[piece.reading].end; ++task) {
        const PieceScales& scales = (*found)[task - readings_[piece.reading].begin];
        NoteBad(piece, scales.bad);
        std::vector<Sum256>& sums = sums_[task].scales;
        sums.resize(scales.group_sums.size());
        for (std::size_t s = 0; s < sums.size(); ++s) {
          for (const double group : scales.group_sums[s]) sums[s].AddGroup(group);
        }
      }
      return absl::OkStatus();
    };
    return ParallelInOrder(pieces->size(), threads_, work, commit);
  }

  absl::Status LookForErrors(std::vector<PlacedPiece>* pieces) {
    // By task of the piece's reading; none of a tensor whose first look found an element that is not finite.
    using Found = std::vector<PieceErrors>;
    const auto work = [&](std::uint64_t i) -> absl::StatusOr<Found> {
      const ScopedFloatEnvironment environment;
      PlacedPiece& piece = (*pieces)[i];
      Found found;
      // Of a first look; nobody writes it any more.
      if (LooksTwice(piece.reading) && results_[readings_[piece.reading].begin].bad) return found;
      Q4_ASSIGN_OR_RETURN(const std::vector<std::uint8_t> x, Read(&piece));
      for (std::size_t task = readings_[piece.reading].begin; task < readings_[piece.reading].end; ++task) {
        found.push_back(measures_[task].Errors(kernels_, ElemsOf(piece, x, task), sums_[task].offsets));
      }
      return found;
    };
    const auto commit = [&](std::uint64_t i, const absl::StatusOr<Found>& found) {
      if (!found.ok()) return found.status();
      const PlacedPiece& piece = (*pieces)[i];
      for (std::size_t f = 0; f < found->size(); ++f) Add(piece, readings_[piece.reading].begin + f, (*found)[f]);
      const SourceTensor& source = SourceOf(piece.reading);
      done_bytes_ += piece.elems * ItemSize(source.dtype);
      done_tensors_ += piece.first + piece.elems == source.elems;
      if (run_.progress) run_.progress({done_bytes_, total_bytes_, done_tensors_, readings_.size(), source.name});
      return absl::OkStatus();
    };
    return ParallelInOrder(pieces->size(), threads_, work, commit);
  }

  void Add(const PlacedPiece& piece, std::size_t task, const PieceErrors& errors) {
    NoteBad(piece, errors.bad);
    TensorErrors& result = results_[task];
    result.squares += errors.squares;
    result.weighted_squares += errors.weighted_squares;
    for (std::size_t f = 0; f < errors.formats.size(); ++f) {
      sums_[task].sums[f].Add(piece.first, tasks_[task].formats[f].block_size, errors.formats[f]);
    }
    if (!tasks_[task].kept_as) return;
    if (piece.first == 0) result.kept = 0;
    if (!errors.kept) result.kept.reset();
    if (result.kept) *result.kept += *errors.kept;
  }

  absl::Status GiveWay(std::size_t i) {
    // What absmax' own codes lose is known with weights where it is recorded alone; else the search, which loses no
    // less, stands for it.
    if (tasks_[i].calibration != nullptr && !tasks_[i].record) return absl::OkStatus();
    MeasureTask again = tasks_[i];
    again.encoder = Q4Encoder::kAbsmax;
    again.formats.clear();
    again.kept_as.reset();
    again.blind = true;
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
      if (!errors.front().formats[p]) continue;
      results_[i].formats[places[p]] = errors.front().formats[p];
      if (!again.record) continue;
      MeasuredRecord& record = results_[i].records[places[p]];
      const double searched = record.seconds;
      record = errors.front().records[p];
      record.seconds += searched;
      record.absmax = true;
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
  std::vector<Reading> readings_;
  std::vector<std::shared_ptr<const ColumnWeights>> weights_;  // by reading, of the batch; nullptr: all count alike
  std::vector<PieceMeasure> measures_;                         // by task, as the next two
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
