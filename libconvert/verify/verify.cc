// Order: every chunk, the recorded statistics, the treatments, then the source (tensors, files, digests), then the
// limits. Of the findings those about the identity of the source come first, as they explain others. Later steps skip
// what earlier ones found damaged, so that one fault is one finding.
//
// The steps are functions of this wing's other files and share a VerifyContext. This file decides their order, puts
// their findings in the order of the report, and counts progress over all of them. What is wrong with the request (a
// source that cannot be opened, a pattern without a match) is found out before the chunks are read, which may take
// hours.
#include "libconvert/verify/verify.h"

#include <algorithm>
#include <future>
#include <memory>
#include <random>
#include <set>
#include <span>
#include <utility>

#include "fmt/format.h"
#include "formats/q4/reader.h"
#include "libconvert/adapter/merge_adapter.h"
#include "libconvert/base/machine.h"
#include "libconvert/base/nearest_parts.h"
#include "libconvert/base/parallel.h"
#include "libconvert/base/run_issues.h"
#include "libconvert/judge/gate_judge.h"
#include "libconvert/judge/verify_findings.h"
#include "libconvert/judge/verify_groups.h"
#include "libconvert/judge/verify_issues.h"
#include "libconvert/model/bnb_record.h"
#include "libconvert/model/names.h"
#include "libconvert/model/open_model.h"
#include "libconvert/model/provenance_view.h"
#include "libconvert/model/scale_spread.h"
#include "libconvert/requantize/container_source.h"
#include "libconvert/verify/context.h"
#include "libconvert/verify/digests.h"
#include "libconvert/verify/integrity.h"
#include "libconvert/verify/left_out.h"
#include "libconvert/verify/pairs.h"
#include "libconvert/verify/source.h"
#include "libconvert/verify/treatments.h"

namespace q4 {
namespace {

// The most that CompareSlab() holds for one thread, and what all threads share: cached chunks and the index.
constexpr std::uint64_t kBytesPerThread = std::uint64_t{32} << 20;
constexpr std::uint64_t kFixedBytes = std::uint64_t{64} << 20;

// What the report holds of each tensor beside its name, and with a source the source's tensor and the pair.
constexpr std::uint64_t kTensorBytes = 1280, kPairBytes = 512;

// How many threads fit the limit, one at least. An index beyond what is set aside for it must fit too.
absl::StatusOr<unsigned> ThreadsWithin(const Q4Model& model, const VerifyOptions& options) {
  RunLimits limits = LimitsOfRun(options.threads, options.max_memory);
  const std::uint64_t index = IndexMemory(model, kTensorBytes + (options.against.empty() ? 0 : kPairBytes));
  if (index != 0 && !RaiseMemoryTo(index + kBytesPerThread, &limits)) {
    const std::string detail = GotExpected(fmt::format("{} bytes", limits.max_memory),
                                           fmt::format("at least {} bytes", index + kBytesPerThread));
    if (!limits.memory_by_default) return Fail(kVerifyMemory, model.path(), "--max-memory", detail);
    return Fail(kLimitOfMachine, model.path(), "--max-memory", detail + "; the default is " + limits.memory_reason);
  }
  const std::uint64_t shared = kFixedBytes + index;
  const std::uint64_t affordable = limits.max_memory <= shared ? 0 : (limits.max_memory - shared) / kBytesPerThread;
  return static_cast<unsigned>(std::clamp<std::uint64_t>(affordable, 1, limits.threads));
}

// Of the sample. 48 bits are more than anybody can try beforehand, and fewer than a JSON number of 53 bits holds.
std::uint64_t SeedOf(const VerifyOptions& options) {
  if (options.sample_percent >= 100) return 0;
  if (options.sample_seed) return *options.sample_seed;
  std::random_device random;
  return (std::uint64_t{random()} << 32 | random()) & ((std::uint64_t{1} << 48) - 1);
}

// One run. Members are what its steps fill; the report is moved out at the end.
class Verification {
 public:
  Verification(FileSystem& fs, const Q4Model& model, const VerifyOptions& options, unsigned threads,
               const ProgressCallback& progress)
      : fs_(fs),
        model_(model),
        options_(options),
        progress_(progress),
        context_{options.kernels, threads, options.cancel, &findings_, &report_},
        sample_(model.root(), options.sample_percent, SeedOf(options)) {
    report_.sample_seed = sample_.seed();
  }

  absl::StatusOr<VerifyReport> Run() {
    std::unique_ptr<Checkpoint> source;
    if (!options_.against.empty()) {
      Q4_ASSIGN_OR_RETURN(source, OpenSource());
      // No container is made from it, so that every tensor would differ and none of the findings would say why.
      if (source->foreign()) return ForeignStatus(*source->foreign());
      const auto& at = model_.tensors();
      const bool any =
          std::any_of(at.begin(), at.end(), [this](const auto& a) { return IsTakenOver(model_.tensor(a)); });
      if (source->taken_over() && !any) return Fail(kAgainstQuantized, options_.against, source->taken_over()->where);
      if (!options_.adapter.empty()) {
        Q4_ASSIGN_OR_RETURN(source, MergeAdapter(fs_, *source, options_.adapter, options_.source_options));
      }
    }
    // Only then has the report tensors, which the next check looks at.
    Describe();
    if (source != nullptr) Q4_RETURN_IF_ERROR(CheckSelection(*source));
    for (const auto& shard : model_.shards()) {
      for (const Q4Chunk& chunk : shard->index().chunks) progress_state_.total_bytes += chunk.stored_bytes;
    }
    // Only what needs a newer version ends the run: all else about the container is looked at whatever it says of
    // itself.
    absl::StatusOr<ProvenanceView> provenance = ReadProvenance(model_);
    if (!provenance.ok() && ExitCodeOf(provenance.status()) != ExitCode::kCheckFailed) return provenance.status();
    if (provenance.ok()) report_.left_out = provenance->left_out;
    if (options_.evaluation) {
      Q4_ASSIGN_OR_RETURN(report_.evaluation,
                          EvaluationOf(*options_.evaluation, model_, context_.threads, options_.cancel));
      if (provenance.ok()) report_.evaluation->original_is_source = IsSource(*report_.evaluation, *provenance);
    }
    // Every merged tensor would differ and none of the findings would say why.
    if (source != nullptr && provenance.ok() && !provenance->adapter.empty() && source->adapter_files() == 0) {
      return Fail(kAdapterNotGiven, model_.path(), "--against", "add --adapter and the folder of the adapter");
    }
    if (options_.calibration != nullptr && provenance.ok()) {
      Q4_RETURN_IF_ERROR(CheckCalibration(*options_.calibration, *provenance));
    }
    // Pairing comes first because it tells how much there is to compare. Its findings come after those of the container
    // alone.
    FindingList pair_findings;
    if (source != nullptr) {
      PairRules rules;
      if (provenance.ok() && provenance->options) {
        rules.keep_dtype = provenance->options->keep_dtype;
        rules.is_original = provenance->options->defaults.encoder == Q4Encoder::kNone && !source->taken_over();
      }
      report_.against_original = rules.is_original;
      pairs_ = PairTensors(model_, *source, options_.only ? &*options_.only : nullptr, rules, &pair_findings);
      if (options_.calibration != nullptr) {
        FindInputs(*options_.calibration, *source, &pairs_);
        Q4_RETURN_IF_ERROR(CheckWholeCodes());
      }
      progress_state_.total_bytes += BytesToCompare(pairs_, sample_, options_.compare_absmax);
      progress_state_.total_tensors = pairs_.size();
    }

    // A digest is computed front to back, by one thread a file: of all steps the one that takes longest where there are
    // many cores. So the files' digests run side by side and beside all else that is done here. A list of their own,
    // because another thread fills it; it is read when that thread has ended.
    FindingList digest_findings;
    std::future<absl::Status> digests;
    if (source != nullptr) {
      const ProvenanceView* const recorded = provenance.ok() ? &*provenance : nullptr;
      digests =
          std::async(std::launch::async, [&, recorded] { return CompareDigests(*source, recorded, &digest_findings); });
    }
    // On an error the future's destructor waits for the digests to end.
    Q4_RETURN_IF_ERROR(CheckChunks(
        model_, context_, [this](std::uint64_t bytes) { Advance(bytes); }, &facts_));
    CheckCodes();
    if (provenance.ok()) {
      Q4_RETURN_IF_ERROR(CheckTreatments(fs_, model_, source.get(), options_.calibration.get(), *provenance, context_));
    } else {
      findings_.Add("", provenance.status());
    }
    // From here on the list also says which tensors have no partner.
    findings_.Append(std::move(pair_findings));
    if (source != nullptr) {
      Q4_RETURN_IF_ERROR(CompareWith(*source, provenance.ok() ? &*provenance : nullptr));
      Q4_RETURN_IF_ERROR(digests.get());
      // That it is another source is why hundreds of values differ.
      findings_.Prepend(std::move(digest_findings));
      // A source that changed while it was read proves nothing.
      Q4_RETURN_IF_ERROR(source->CheckUnchanged());
    }
    if (options_.require_proof) RequireProof();
    SumAndJudge();
    // After all steps: the last of them, the limits, adds findings too.
    for (VerifyTensor& tensor : report_.tensors) tensor.passed = !findings_.Failed(tensor.name);
    findings_.MoveTo(&report_);
    return std::move(report_);
  }

 private:
  // A container is the source of what was made of one by quantizing again, and of nothing else: its reader says so.
  absl::StatusOr<std::unique_ptr<Checkpoint>> OpenSource() const {
    const absl::StatusOr<bool> container = IsQ4Container(fs_, options_.against);
    const absl::StatusOr<bool> requantized = IsRequantized(model_);
    if (container.ok() && *container && requantized.ok() && *requantized) {
      Q4_ASSIGN_OR_RETURN(std::shared_ptr<const Q4Model> from, OpenContainer(fs_, options_.against));
      return OpenContainerSource(fs_, std::move(from));
    }
    if (container.ok() && *container) return Fail(kAgainstContainer, options_.against, "--against");
    OpenOptions open = options_.source_options;
    open.take_over = true;
    return OpenCheckpoint(fs_, options_.against, open);
  }

  // Codes that are chosen of whole tensors take memory beside that of the threads.
  // What is left over keeps factors.
  absl::Status CheckWholeCodes() {
    std::uint64_t most = 0;
    for (const TensorPair& pair : pairs_) most = std::max(most, WholeCodesMemory(pair, context_.threads));
    if (most == 0) return absl::OkStatus();
    RunLimits limits = LimitsOfRun(options_.threads, options_.max_memory);
    const std::uint64_t needed = most + kFixedBytes + context_.threads * kBytesPerThread;
    if (RaiseMemoryTo(needed, &limits)) {
      factor_room_ = std::min(WholeCodesRoom(pairs_), limits.max_memory - needed);
      return absl::OkStatus();
    }
    return Fail(
        limits.memory_by_default ? kLimitOfMachine : kVerifyMemory, model_.path(), "--max-memory",
        GotExpected(fmt::format("{} bytes", limits.max_memory),
                    fmt::format("at least {} bytes to compute feedback again on {} threads; take fewer of them, "
                                "or leave --calibration away, and it is held to its bounds",
                                needed, context_.threads)));
  }

  // With another file than the recorded one every code would differ, and none of the findings would say why.
  absl::Status CheckCalibration(const Calibration& calibration, const ProvenanceView& provenance) const {
    if (provenance.calibration.empty()) return Fail(kCalibrationNotRecorded, model_.path(), "--calibration");
    const SourceFileRecord& record = provenance.calibration.front();
    if (record.digest == calibration.digest()) return absl::OkStatus();
    return Fail(
        kCalibrationDiffers, calibration.path(), {},
        fmt::format("{} {}; '{}'", record.digest_kind, GotExpected(calibration.digest(), record.digest), record.name));
  }

  // Whether the original of the evaluation has the weights that the container was made from, by their digests.
  static std::optional<bool> IsSource(const Evaluation& evaluation, const ProvenanceView& provenance) {
    // Files that were merged with an adapter are no model that anyone evaluates.
    if (evaluation.original_files.empty() || !provenance.adapter.empty()) return std::nullopt;
    std::size_t found = 0;
    for (const SourceFileRecord& record : provenance.sources) {
      // Of modules in folders of their own the evaluation lists nothing.
      if (record.digest_kind != "sha256" || record.name.find('/') != std::string::npos) return std::nullopt;
      // Lists of shards are files of the source too, and hold no weights.
      if (record.name.ends_with(".json")) continue;
      const auto same = [&](const EvaluatedFile& file) {
        return file.name == record.name && HexOf(file.sha256) == record.digest;
      };
      if (std::none_of(evaluation.original_files.begin(), evaluation.original_files.end(), same)) return false;
      ++found;
    }
    return found != 0;
  }

  // What the report says of the container before anything was checked, from index and config.json.
  void Describe() {
    report_.path = model_.path();
    report_.source = options_.against;
    report_.root = model_.root();
    report_.shards = static_cast<std::uint32_t>(model_.shards().size());
    report_.shard_count = model_.shards().front()->index().shard_count;
    for (const auto& shard : model_.shards()) {
      report_.file_bytes += shard->seal().file_bytes;
      report_.chunks += shard->index().chunks.size();
      report_.embedded_files += shard->index().files.size();
    }
    report_.provenance = ModelProvenance(model_);
    // Without one that is readable and no larger than tools parse the names stay empty; a damaged one is found with the
    // other chunks.
    if (const absl::StatusOr<std::string> config = model_.ReadFile("config.json", limits::kConfigJsonBytes);
        config.ok()) {
      ModelNames names = ReadModelNames(*config);
      report_.architecture = std::move(names.architecture);
      report_.model_type = std::move(names.model_type);
      embeddings_are_tied_ = names.tie_word_embeddings;
    }
    report_.tensors.reserve(model_.tensors().size());
    for (const Q4Model::Location& at : model_.tensors()) {
      report_.tensors.push_back(DescribeTensor(model_.reader(at).index(), model_.tensor(at)));
    }
    // Layers and roles go by all names of the model.
    AssignGroups(&report_.tensors);
  }

  // Called by one thread at a time, as the steps promise.
  void Advance(std::uint64_t bytes) {
    progress_state_.done_bytes += bytes;
    if (progress_) progress_(progress_state_);
  }

  // What the container says about itself: codes against the encoder that is named, statistics against each other,
  // against the codes and scales, and against the bound. What contradicts itself is not held against anything else.
  void CheckCodes() {
    for (std::size_t i = 0; i < model_.tensors().size(); ++i) {
      const Q4Model::Location& at = model_.tensors()[i];
      const Q4Tensor& tensor = model_.tensor(at);
      if (!tensor.quantized()) continue;
      const auto add = [&](const Issue& issue, const std::string& what) {
        if (!what.empty()) findings_.Add(tensor.name, issue, model_.reader(at).path(), TensorPlace(tensor.name), what);
        return !what.empty();
      };
      // Else a part of it is damaged, which has been reported.
      const bool is_whole = facts_[i].elems == tensor.elems;
      if (is_whole) add(kCodesImpossible, ImpossibleFor(tensor, facts_[i]));
      if (!tensor.has_stats || add(kStatsInconsistent, ContradictionIn(tensor))) continue;
      if (is_whole && add(kStatsRefuted, RefutedBy(tensor, facts_[i]))) continue;
      add(kErrorBound, BoundBrokenBy(tensor, *tensor.stats));
    }
  }

  // Without this a pattern that matches no tensor would pass, as nothing that was compared differed.
  absl::Status CheckSelection(const Checkpoint& source) const {
    if (!options_.only) return absl::OkStatus();
    const auto selects = [this](const auto& tensor) { return options_.only->Matches(tensor.name); };
    if (std::any_of(report_.tensors.begin(), report_.tensors.end(), selects) ||
        std::any_of(source.tensors().begin(), source.tensors().end(), selects)) {
      return absl::OkStatus();
    }
    const auto name_of = [](const SourceTensor& tensor) -> std::string_view { return tensor.name; };
    return Fail(kNothingSelected, model_.path(), "--tensor",
                "'" + options_.only->text() + "'; q4inspect --tensors lists the names" +
                    DidYouMeanByParts(options_.only->text(), source.tensors(), name_of));
  }

  // The source files and what the container records of them. For a sample the digests would cost more than all else:
  // then only sizes are compared. `provenance` is nullptr where the container's is broken, which is a finding of its
  // own: then source files have no records to be held against. Runs beside the other steps, and looks at nothing that
  // they change.
  absl::Status CompareDigests(const Checkpoint& source, const ProvenanceView* provenance, FindingList* findings) const {
    // Of the original of what was taken over nothing is recorded.
    if (provenance == nullptr || report_.against_original) return absl::OkStatus();
    VerifyContext context = context_;
    context.findings = findings;
    // If the files are others, that says all.
    const bool same_files =
        std::all_of(provenance->sources.begin(), provenance->sources.end(), [&](const SourceFileRecord& record) {
          return std::any_of(source.files().begin(), source.files().end(),
                             [&](const CheckpointFile& file) { return file.name == record.name; });
        });
    const Json& format = provenance->document["source"]["format"];
    if (same_files && format != source.format()) {
      findings->Add("", kSourceFileDiffers, model_.path(), "source, format",
                    GotExpected(source.format(), format.get<std::string>()));
    }
    const bool is_whole = options_.sample_percent >= 100 && !options_.only;
    for (const bool of_adapter : {false, true}) {
      const std::vector<SourceFileRecord>& records = of_adapter ? provenance->adapter : provenance->sources;
      Q4_RETURN_IF_ERROR(
          CompareSourceFiles(SourceFiles(source, of_adapter), records, /*digests=*/is_whole, model_.path(), context));
      FindUnrecordedSourceFiles(RecordedFiles(source, of_adapter), records, model_.path(), findings);
    }
    return absl::OkStatus();
  }

  // All else for which the source is needed. `provenance`: as above.
  absl::Status CompareWith(const Checkpoint& source, const ProvenanceView* provenance) {
    report_.sample_percent = options_.sample_percent;
    report_.compared_absmax = options_.compare_absmax;
    if (options_.only) report_.only = options_.only->text();
    const bool knows_effort = provenance != nullptr && provenance->options;
    const int effort = knows_effort ? provenance->options->effort : kDefaultEffort;
    const Comparison comparison{
        source,      pairs_, sample_, options_.calibration.get(), embeddings_are_tied_, effort, options_.compare_absmax,
        factor_room_};
    Q4_RETURN_IF_ERROR(CompareTensors(comparison, context_, [this](std::uint64_t bytes, bool ends_tensor) {
      progress_state_.done_tensors += ends_tensor;
      Advance(bytes);
    }));
    if (!report_.against_original) {
      Q4_RETURN_IF_ERROR(CompareFiles(fs_, model_, source, &findings_));
      report_.left_out =
          CompareLeftOut(source.left_out(), std::exchange(report_.left_out, {}), model_.path(), &findings_);
    }
    report_.stats_recomputed = std::all_of(
        report_.tensors.begin(), report_.tensors.end(),
        [](const VerifyTensor& tensor) { return (tensor.compared && tensor.has_stats) || !tensor.quantized(); });
    return absl::OkStatus();
  }

  // The source files that the container must record: of a whole model all, of a shard that was opened alone those that
  // its tensors lie in (F8.1); an adapter's in any case.
  std::set<std::string_view> RecordedFiles(const Checkpoint& source, bool of_adapter) const {
    const std::span<const CheckpointFile> files = SourceFiles(source, of_adapter);
    std::set<std::string_view> names;
    if (of_adapter || report_.shards == report_.shard_count) {
      for (const CheckpointFile& file : files) names.insert(file.name);
      return names;
    }
    for (const TensorPair& pair : pairs_) {
      for (const SourceExtent& extent : pair.source->extents) {
        if (extent.file < files.size()) names.insert(files[extent.file].name);
      }
    }
    return names;
  }

  // What was asked for but has no unique answer. A tensor that failed has said why.
  void RequireProof() {
    for (std::size_t i = 0; i < report_.tensors.size(); ++i) {
      if (report_.tensors[i].proof != TensorProof::kBounded) continue;
      const Q4Model::Location& at = model_.tensors()[i];
      findings_.Add(report_.tensors[i].name, kUnproven, model_.reader(at).path(), TensorPlace(report_.tensors[i].name),
                    fmt::format("encoder {}{}", Q4EncoderName(report_.tensors[i].encoder),
                                FindQ4Encoder(report_.tensors[i].encoder)->calibrated && options_.calibration == nullptr
                                    ? "; --calibration FILE computes it again"
                                    : ""));
    }
  }

  // Limits come last: they judge recomputed statistics where there are any.
  void SumAndJudge() {
    for (const VerifyTensor& tensor : report_.tensors) AddSpread(tensor.scales, &report_.scales);
    SumUpStats(&report_);
    JudgeGates(GatesOf(options_), &findings_, &report_);
    if (options_.baseline) JudgeBaseline(*options_.baseline, &findings_, &report_);
  }

  FileSystem& fs_;
  // By tensor of the model, after CheckChunks().
  std::vector<CodeFacts> facts_;
  const Q4Model& model_;
  const VerifyOptions& options_;
  const ProgressCallback& progress_;
  const VerifyContext context_;
  const SlabSample sample_;
  std::uint64_t factor_room_ = 0;  // Comparison::factor_room
  std::vector<TensorPair> pairs_;  // of the container with the source; their order is that of the tensors
  VerifyReport report_;
  FindingList findings_;
  bool embeddings_are_tied_ = false;
  Progress progress_state_;
};

}  // namespace

std::vector<Gate> GatesOf(const VerifyOptions& options) {
  std::vector<Gate> gates;
  if (options.max_nmse) gates.push_back(FlagGate("--max-nmse", "nmse", true, *options.max_nmse, kNmseTooHigh));
  if (options.min_sqnr_db) {
    gates.push_back(FlagGate("--min-sqnr", "sqnr_db", false, *options.min_sqnr_db, kSqnrTooLow));
  }
  if (options.max_abs_error) {
    gates.push_back(FlagGate("--max-abs-error", "max_abs_err", true, *options.max_abs_error, kAbsErrorTooHigh));
  }
  gates.insert(gates.end(), options.gates.begin(), options.gates.end());
  return gates;
}

absl::StatusOr<VerifyReport> VerifyModel(FileSystem& fs, const std::string& path, const VerifyOptions& options,
                                         const ProgressCallback& progress) {
  Q4_ASSIGN_OR_RETURN(const std::unique_ptr<Q4Model> model, OpenContainer(fs, path, options.root));
  Q4_ASSIGN_OR_RETURN(const unsigned threads, ThreadsWithin(*model, options));
  return Verification(fs, *model, options, threads, progress).Run();
}

}  // namespace q4
