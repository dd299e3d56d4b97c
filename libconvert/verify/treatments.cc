// What the plan of a conversion does, asked of a finished container: the recorded options become options of the policy
// again, and the policy decides. Nothing of the payload is read but for the two excuses, which few tensors ask for.
#include "libconvert/verify/treatments.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <map>
#include <string>
#include <unordered_map>
#include <utility>

#include "fmt/format.h"
#include "formats/base/checked_math.h"
#include "formats/base/status.h"
#include "formats/base/text.h"
#include "formats/bnb/taken_over.h"
#include "formats/q4/q4_issues.h"
#include "libconvert/base/version.h"
#include "libconvert/encode/feedback.h"
#include "libconvert/judge/verify_findings.h"
#include "libconvert/judge/verify_issues.h"
#include "libconvert/model/bnb_record.h"
#include "libconvert/model/model_configs.h"
#include "libconvert/policy/calibrated.h"
#include "libconvert/policy/policy.h"
#include "libconvert/scheme/treatment.h"

namespace q4 {
namespace {

absl::StatusOr<PolicyOptions> PolicyOptionsOf(const RecordedOptions& recorded, const std::string& path) {
  PolicyOptions options;
  options.defaults = recorded.defaults;
  for (const RecordedOptions::Pattern& pattern : recorded.patterns) {
    options.patterns.push_back({pattern.include, pattern.regex});
  }
  if (recorded.recipe) {
    Q4_ASSIGN_OR_RETURN(options.recipe, ParseRecordedRecipe(*recorded.recipe, path + ": provenance, options.recipe"));
    // Else two texts would record one recipe.
    if (RecipeText(*options.recipe) != *recorded.recipe) {
      return Fail(kQ4ProvenanceForm, path, "provenance, options.recipe", "the same recipe has another, canonical text");
    }
  }
  return options;
}

// The container's own tensors, as the policy looks at them. Kept ones may have had another dtype in the source, but one
// that can be quantized as well as this.
std::vector<SourceTensor> TensorsOf(const Q4Model& model) {
  std::vector<SourceTensor> tensors;
  for (const Q4Model::Location& at : model.tensors()) {
    const Q4Tensor& stored = model.tensor(at);
    SourceTensor& tensor = tensors.emplace_back();
    tensor.name = stored.name;
    tensor.dtype = stored.dtype;
    tensor.shape = stored.shape;
    tensor.elems = stored.elems;
  }
  return tensors;
}

// Whether any element has an exponent of all ones. REQUIRES: IsQuantizable(dtype).
bool HoldsNonfinite(DType dtype, std::span<const std::uint8_t> bytes) {
  const std::size_t item = ItemSize(dtype);
  const std::uint32_t mask = dtype == DType::kF32 ? 0x7F800000 : dtype == DType::kBF16 ? 0x7F80 : 0x7C00;
  for (std::size_t at = 0; at + item <= bytes.size(); at += item) {
    std::uint32_t bits = 0;
    std::memcpy(&bits, bytes.data() + at, item);
    if ((bits & mask) == mask) return true;
  }
  return false;
}

double LargestFinite(DType dtype) { return dtype == DType::kF16 ? 65504.0 : double{std::numeric_limits<float>::max()}; }

// "nf4 b64 dq, encoder absmax"
std::string DescribeTreatment(const Q4Tensor& tensor) {
  if (!tensor.quantized()) return TreatmentName(tensor);
  Q4Tensor plain = tensor;
  plain.encoder = Q4Encoder::kAbsmax;  // which the name of a treatment leaves out
  return fmt::format("{}, encoder {}", TreatmentName(plain), Q4EncoderName(tensor.encoder));
}

class Treatments {
 public:
  Treatments(const Q4Model& model, const RecordedOptions& options, bool knows_policy, bool knows_calibration,
             const VerifyContext& context)
      : model_(model),
        options_(options),
        knows_policy_(knows_policy),
        knows_calibration_(knows_calibration),
        context_(context) {}

  absl::Status Check(std::size_t number, const Decision& decision) {
    const Q4Model::Location& at = model_.tensors()[number];
    const Q4Tensor& stored = model_.tensor(at);
    // A damaged tensor has been reported as such.
    if (context_.findings->Failed(stored.name)) return absl::OkStatus();
    Q4Tensor expected = stored;
    static_cast<QuantFormat&>(expected) = decision.quantize ? QuantFormat(decision.settings) : QuantFormat();
    expected.encoder = decision.quantize ? decision.settings.encoder : Q4Encoder::kNone;
    if (!knows_policy_ && stored.quantized() != decision.quantize) {
      if (!stored.quantized()) return absl::OkStatus();
      static_cast<QuantFormat&>(expected) = decision.settings;
      expected.encoder = decision.settings.encoder;
    }
    if (!expected.quantized()) {
      const bool converts = options_.keep_dtype && IsQuantizable(stored.dtype) && !stored.quantized();
      if (converts) expected.dtype = *options_.keep_dtype;
    }
    if (!Equal(stored, expected)) {
      Q4_ASSIGN_OR_RETURN(const bool excused, IsExcused(number, stored, expected));
      if (!excused) {
        Report(kTreatmentDiffers, at, stored,
               GotExpected(DescribeTreatment(stored), DescribeTreatment(expected) + ", " + decision.reason));
        return absl::OkStatus();
      }
    }
    if (stored.quantized() && stored.encoder != Q4Encoder::kNone && !stored.has_stats) {
      Report(kStatsNotRecorded, at, stored, {});
    }
    return absl::OkStatus();
  }

 private:
  static bool Equal(const Q4Tensor& a, const Q4Tensor& b) {
    return static_cast<const QuantFormat&>(a) == static_cast<const QuantFormat&>(b) && a.encoder == b.encoder &&
           a.dtype == b.dtype;
  }

  absl::StatusOr<bool> IsExcused(std::size_t number, const Q4Tensor& stored, const Q4Tensor& expected) const {
    if (stored.quantized()) {
      // What the calibration has nothing for, or no Hessian, is left to others.
      Q4Tensor left = expected;
      while (!knows_calibration_ && FindQ4Encoder(left.encoder)->calibrated) {
        left.encoder = FindQ4Encoder(left.encoder)->otherwise;
        if (Equal(stored, left)) return true;
      }
      // Where the encoder gave way to absmax, that is proven then.
      Q4Tensor absmax = expected;
      absmax.encoder = Q4Encoder::kAbsmax;
      if (expected.nested && ProofOf(expected.encoder).nested_gives_way && Equal(stored, absmax)) return true;
      Q4Tensor unnested = expected;
      unnested.nested = false;
      // Nested scales are off by half a step of their map at most, which is less than 2 % of the largest.
      const ScaleSpread& scales = context_.report->tensors[number].scales;
      const double largest = std::max(std::fabs(double{scales.min}), std::fabs(double{scales.max}));
      return expected.nested && Equal(stored, unnested) && largest >= 0.98 * LargestFinite(stored.dtype);
    }
    if (!options_.keep_nonfinite || !IsQuantizable(stored.dtype)) return false;
    const Q4Reader& reader = model_.reader(model_.tensors()[number]);
    for (const Q4PartEntry& part : stored.parts()) {
      for (std::uint64_t chunk = 0; chunk < part.chunk_count; ++chunk) {
        if (context_.cancelled()) return Fail(kVerifyInterrupted, reader.path(), {});
        Q4_ASSIGN_OR_RETURN(const std::vector<std::uint8_t> bytes, reader.ReadChunk(part.first_chunk + chunk));
        if (HoldsNonfinite(stored.dtype, bytes)) return true;
      }
    }
    return false;
  }

  void Report(const Issue& issue, const Q4Model::Location& at, const Q4Tensor& tensor, std::string_view what) const {
    context_.findings->Add(tensor.name, issue, model_.reader(at).path(), TensorPlace(tensor.name), what);
  }

  const Q4Model& model_;
  const RecordedOptions& options_;
  const bool knows_policy_, knows_calibration_;
  const VerifyContext& context_;
};

// What the tensor counts when shards are cut, at least and at most: its planned treatment, by which they are cut, may
// have had smaller scales (nested ones, which would have overflowed) or 4 bits (it holds NaN).
std::uint64_t LeastBytes(const Q4Tensor& tensor, const RecordedOptions& options) {
  if (!tensor.quantized()) return options.keep_nonfinite ? 0 : tensor.elems * ItemSize(tensor.dtype);
  return CeilDiv(tensor.elems, 2) + tensor.blocks();
}
std::uint64_t MostBytes(const Q4Tensor& tensor) {
  if (!tensor.quantized()) return tensor.elems * ItemSize(tensor.dtype);
  return CeilDiv(tensor.elems, 2) + tensor.blocks() * sizeof(float) + GroupCount(tensor.blocks()) * sizeof(float);
}

// What the options say of the files, not of a tensor.
void CheckWhole(const Q4Model& model, const RecordedOptions& options, FindingList* findings) {
  for (std::size_t number = 0; number < model.shards().size(); ++number) {
    const Q4Index& index = model.shards()[number]->index();
    const auto add = [&](const char* option, const std::string& what) {
      findings->Add("", kOptionContradicted, model.shards()[number]->path(),
                    fmt::format("provenance, options.{}", option), what);
    };
    const bool any = std::any_of(index.chunks.begin(), index.chunks.end(),
                                 [](const Q4Chunk& chunk) { return chunk.codec != Q4Codec::kStored; });
    if (any && !options.compressed) add("compress", "none, but chunks are compressed");
    // Shards end where source files do, whose sizes are not known here.
    if (options.shard_by_source) continue;
    if (options.shard_bytes == 0) {
      if (index.shard_count != 1) add("shard_size", "0, but the model has shards");
      continue;
    }
    // A shard ends before the tensor that would take it beyond its size, unless that is its first.
    std::uint64_t least = 0, most = 0;
    std::size_t tensors = 0;
    for (const Q4Tensor& tensor : index.tensors) {
      least += LeastBytes(tensor, options);
      most += MostBytes(tensor);
      tensors += tensor.elems != 0;
    }
    if (tensors > 1 && least > options.shard_bytes) {
      add("shard_size", fmt::format("{}, but the shard holds {} bytes", options.shard_bytes, least));
    }
    if (number + 1 == model.shards().size()) continue;
    const std::vector<Q4Tensor>& next = model.shards()[number + 1]->index().tensors;
    const auto first = std::min_element(next.begin(), next.end(), [](const Q4Tensor& a, const Q4Tensor& b) {
      return std::pair(a.elems == 0, a.first_chunk) < std::pair(b.elems == 0, b.first_chunk);
    });
    if (first != next.end() && most + MostBytes(*first) <= options.shard_bytes) {
      add("shard_size", fmt::format("{}, but the next shard's first tensor had room", options.shard_bytes));
    }
  }
}

// A calibration is recorded where an encoder uses one, and nowhere else.
void CheckCalibrationRecord(const PolicyOptions& options, const ProvenanceView& provenance, const std::string& path,
                            FindingList* findings) {
  const std::size_t expected = NamesCalibratedEncoder(options) ? 1 : 0, got = provenance.calibration.size();
  if (got == expected) return;
  findings->Add("", kOptionContradicted, path, "provenance, calibration",
                fmt::format("{} files, and the encoders use {}", got, expected));
}

// Whether the source has its weights in the files, by name, that the container was made from.
bool HasFilesOf(const ProvenanceView& provenance, const Checkpoint& source) {
  return std::equal(provenance.sources.begin(), provenance.sources.end(), source.files().begin(), source.files().end(),
                    [](const SourceFileRecord& a, const CheckpointFile& b) { return a.name == b.name; });
}

// Shards that end where source files do: they name their plan, and no source file has tensors in two of them.
void CheckShardsBySource(const Q4Model& model, const Checkpoint* source, const ProvenanceView& provenance,
                         FindingList* findings) {
  if (!provenance.options->shard_by_source) return;
  const auto add = [&](const std::string& what) {
    findings->Add("", kOptionContradicted, model.path(), "provenance, options.shard_by", "source, but " + what);
  };
  if (!provenance.document.contains("plan")) add("no plan is named");
  if (source == nullptr || !HasFilesOf(provenance, *source)) return;
  std::map<std::uint32_t, std::size_t> shard_of;  // by source file
  for (const Q4Model::Location& at : model.tensors()) {
    const SourceTensor* const tensor = source->Find(model.tensor(at).name);
    if (tensor == nullptr) continue;  // told elsewhere
    const auto [known, is_new] = shard_of.emplace(tensor->place().file, at.shard);
    if (is_new || known->second == at.shard) continue;
    return add(fmt::format("tensors of {} lie in shards {} and {}", source->files()[known->first].name,
                           known->second + 1, at.shard + 1));
  }
}

// Of a container whose weights were taken over: the source has decided all, and the options name the settings of the
// first of them. What is kept is kept in the source. Without that source only the encoder can be judged.
absl::Status JudgeTakenOver(const Q4Model& model, const Checkpoint* source, const ProvenanceView& provenance,
                            const VerifyContext& context) {
  if (const auto record = BnbRecordOf(model, provenance.document); !record.ok()) {
    context.findings->Add("", record.status());
  }
  const auto contradicts = [&](const char* place, const std::string& what) {
    context.findings->Add("", kOptionContradicted, model.path(), fmt::format("provenance, {}", place), what);
  };
  if (!provenance.options->patterns.empty())
    contradicts("options.patterns", "nothing is chosen where codes are taken over");
  if (provenance.options->recipe) contradicts("options.recipe", "nothing is chosen where codes are taken over");
  const bool has_source = source != nullptr && source->taken_over().has_value();
  if (has_source) {
    const Json* const recorded = FindMember(provenance.document, "bitsandbytes");
    Json got = recorded == nullptr ? Json::object() : *recorded;
    Json expected = BnbRecordJson(*source);
    if (expected.is_null()) expected = Json::object();
    // How tensors lay in files may be left unsaid, and of another copy of the model it may be otherwise.
    const bool same_files = HasFilesOf(provenance, *source);
    for (const char* const member : {"files", "index"}) {
      const bool is_asked = same_files && got.contains("files");
      if (!is_asked) expected.erase(member);
      if (!is_asked) got.erase(member);
    }
    if (got != expected) {
      contradicts("bitsandbytes", GotExpected(got.dump(), expected.dump()));
    }
  }
  const bool is_whole = model.shards().size() == model.shards().front()->index().shard_count;
  bool first = is_whole;
  for (const Q4Model::Location& at : model.tensors()) {
    const Q4Tensor& stored = model.tensor(at);
    if (stored.quantized() && std::exchange(first, false) &&
        static_cast<const QuantFormat&>(stored) != static_cast<const QuantFormat&>(provenance.options->defaults)) {
      contradicts("options",
                  fmt::format("they are not those of '{}', the first tensor that was taken over", stored.name));
    }
    if (context.findings->Failed(stored.name)) continue;
    Q4Tensor expected = stored;
    if (const SourceTensor* const from = has_source ? source->Find(stored.name) : nullptr; from != nullptr) {
      static_cast<QuantFormat&>(expected) = from->bnb != nullptr ? QuantFormat(*from->bnb) : QuantFormat();
    }
    expected.encoder = Q4Encoder::kNone;
    if (static_cast<const QuantFormat&>(stored) == static_cast<const QuantFormat&>(expected) &&
        stored.encoder == expected.encoder) {
      continue;
    }
    context.findings->Add(stored.name, kTreatmentDiffers, model.reader(at).path(), TensorPlace(stored.name),
                          GotExpected(DescribeTreatment(stored), DescribeTreatment(expected) + ", taken over"));
  }
  context.report->strength.policy = has_source ? VerifyStrength::Policy::kWhole : VerifyStrength::Policy::kSettings;
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckTreatments(FileSystem& fs, const Q4Model& model, const Checkpoint* source,
                             const Calibration* calibration, const ProvenanceView& provenance,
                             const VerifyContext& context) {
  if (!provenance.options) {
    if (source != nullptr) context.findings->Add("", kOptionsNotRecorded, model.path(), "provenance, options");
    return absl::OkStatus();
  }
  const RecordedOptions& recorded = *provenance.options;
  CheckWhole(model, recorded, context.findings);
  CheckShardsBySource(model, source, provenance, context.findings);
  if (recorded.defaults.encoder == Q4Encoder::kNone) return JudgeTakenOver(model, source, provenance, context);
  if (provenance.document.contains("bitsandbytes")) {
    context.findings->Add("", kOptionContradicted, model.path(), "provenance, bitsandbytes", "nothing was taken over");
  }
  const bool is_whole = model.shards().size() == model.shards().front()->index().shard_count;
  const bool is_ours = provenance.tool_name == "q4convert" && provenance.tool_version == kQ4Version;
  const bool knows_policy = is_ours && (is_whole || source != nullptr);
  const std::vector<SourceTensor> own = source == nullptr ? TensorsOf(model) : std::vector<SourceTensor>();
  const std::vector<SourceTensor>& tensors = source == nullptr ? own : source->tensors();
  // What is not right about a record is a finding; that it cannot be read is an error.
  const auto decide = [&]() -> absl::StatusOr<std::vector<Decision>> {
    Q4_ASSIGN_OR_RETURN(const PolicyOptions options, PolicyOptionsOf(recorded, model.path()));
    CheckCalibrationRecord(options, provenance, model.path(), context.findings);
    absl::StatusOr<ModelConfigs> configs = source == nullptr ? ReadModelConfigs(model) : source->Configs(fs);
    if (!configs.ok()) return configs.status();
    Q4_ASSIGN_OR_RETURN(std::vector<Decision> decisions, DecideTensors(tensors, *configs, options));
    if (calibration != nullptr && NamesCalibratedEncoder(options)) {
      Q4_RETURN_IF_ERROR(ApplyCalibration(*calibration, tensors, &decisions).status());
    }
    return decisions;
  };
  const absl::StatusOr<std::vector<Decision>> decisions = decide();
  if (!decisions.ok()) {
    const ExitCode code = ExitCodeOf(decisions.status());
    if (code == ExitCode::kIo || code == ExitCode::kInternal) return decisions.status();
    // Damaged bytes of config.json were found with the other chunks; the finding says why nothing was judged.
    context.findings->Add("", kOptionContradicted, model.path(), "provenance, options", MessageOf(decisions.status()));
    return absl::OkStatus();
  }
  context.report->strength.policy = knows_policy ? VerifyStrength::Policy::kWhole : VerifyStrength::Policy::kSettings;
  std::unordered_map<std::string_view, std::size_t> numbers;
  for (std::size_t i = 0; i < tensors.size(); ++i) numbers.emplace(tensors[i].name, i);
  Treatments treatments(model, recorded, knows_policy, /*knows_calibration=*/calibration != nullptr, context);
  for (std::size_t i = 0; i < model.tensors().size(); ++i) {
    const auto at = numbers.find(model.tensor(model.tensors()[i]).name);
    // A tensor that the source lacks has a finding of its own.
    if (at != numbers.end()) Q4_RETURN_IF_ERROR(treatments.Check(i, (*decisions)[at->second]));
  }
  return absl::OkStatus();
}

}  // namespace q4
