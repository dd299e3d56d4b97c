// From headers and options to the layout, in this order: decide each tensor, cut into shards, sort each shard's index,
// derive its file id, compute its size.
//
// Two documents are made here that must never change by chance, because digests depend on them: the provenance, and the
// identity behind the file id. Both are JSON with keys in a fixed order.
#include "libconvert/plan/plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <set>

#include "formats/base/base_issues.h"
#include "formats/base/digest.h"
#include "formats/base/json_value.h"
#include "formats/base/limits.h"
#include "formats/base/text.h"
#include "formats/bnb/taken_over.h"
#include "libconvert/base/json_document.h"
#include "libconvert/base/version.h"
#include "libconvert/encode/encoder.h"
#include "libconvert/model/bnb_record.h"
#include "libconvert/plan/plan_issues.h"
#include "libconvert/plan/plan_notes.h"
#include "libconvert/plan/shard_cut.h"
#include "libconvert/policy/calibrated.h"
#include "libconvert/policy/policy_issues.h"
#include "libconvert/policy/unmatched.h"
#include "libconvert/scheme/quant_settings.h"
#include "libconvert/scheme/treatment.h"

namespace q4 {
namespace {

// The settings that the provenance names: those of the options, or of the first tensor by name that is taken over.
QuantSettings RecordedSettings(const Checkpoint& checkpoint, const ConvertOptions& options) {
  const SourceTensor* first = nullptr;
  for (const SourceTensor& tensor : checkpoint.tensors()) {
    if (tensor.bnb != nullptr && (first == nullptr || tensor.name < first->name)) first = &tensor;
  }
  return first == nullptr ? options.policy.defaults : QuantSettings(*first->bnb, Q4Encoder::kNone);
}

// Options that decide bytes. Threads, memory and device are absent on purpose: they change nothing (D8).
Json OptionsJson(const QuantSettings& defaults, const ConvertOptions& options) {
  Json patterns = Json::array();
  for (const PatternRule& rule : options.policy.patterns) {
    patterns.push_back({{rule.include ? "include" : "exclude", rule.regex}});
  }
  // Keys in bytewise order: the document is canonical.
  Json json;
  json["block_size"] = defaults.block_size;
  json["compress"] = options.compression.zstd ? fmt::format("zstd:{}", options.compression.level) : "none";
  json["double_quant"] = defaults.nested;
  // Where no encoder has one, documents are those of versions that knew none.
  if (UsesEffort(options)) json["effort"] = options.effort;
  json["encoder"] = Q4EncoderName(defaults.encoder);
  json["keep_dtype"] = options.keep_dtype ? std::string(DTypeName(*options.keep_dtype)) : "same";
  json["on_nonfinite"] = options.keep_nonfinite ? "keep" : "error";
  json["patterns"] = std::move(patterns);
  json["recipe"] = options.policy.recipe ? Json(RecipeText(*options.policy.recipe)) : Json(nullptr);
  if (options.shard_by_source) json["shard_by"] = "source";
  json["shard_size"] = options.shard_bytes;
  json["type"] = Q4SchemeName(defaults.scheme);
  return json;
}

// What decides the elements of a tensor beside its place in the files, and stands in a configuration that is not
// carried so. Null for a plain one.
Json RecipeJson(const SourceTensor& source) {
  if (const ScaledF8* scaled = source.scaled.get()) {
    return Json::array({DTypeName(scaled->code), DTypeName(scaled->scale), DTypeName(scaled->product),
                        scaled->block_rows, scaled->block_columns, scaled->matrix_step, scaled->row_step,
                        scaled->column_step});
  }
  if (const PackedF4* packed = source.packed.get()) {
    return Json::array({static_cast<int>(packed->order), DTypeName(packed->scale), DTypeName(packed->global),
                        static_cast<int>(packed->use), DTypeName(packed->joint), DTypeName(packed->product),
                        packed->block, packed->global_step, packed->shifts});
  }
  const MergedAdapter* merged = source.merged.get();
  if (merged == nullptr) return {};
  Json json = Json::array({"merged", merged->rank, merged->transposed, std::bit_cast<std::uint32_t>(merged->scale)});
  for (const auto* part : {&merged->base, &merged->a, &merged->b, &merged->magnitude}) {
    if (*part == nullptr) {
      json.push_back(Json());
      continue;
    }
    json.push_back(Json::array({(*part)->name, DTypeName((*part)->dtype), RecipeJson(**part)}));
  }
  return json;
}

// The seed of all digests: fixed before the first byte is written, the same for the same input and options. It covers
// what the plan knows: names, types, shapes and places of the source's tensors, their treatments, and the sizes of all
// files. The source's digests are left out (empty below): they are known only at the end.
Sha256 DeriveFileId(const Checkpoint& checkpoint, const ConvertOptions& options, const PlannedShard& shard,
                    std::size_t number, std::size_t count) {
  // One JSON array, digested piece by piece: there may be a million tensors.
  Sha256Stream digest;
  const auto add = [&digest](const std::string& text) {
    digest.Update({reinterpret_cast<const std::uint8_t*>(text.data()), text.size()});
  };
  const std::string head = Json::array({"q4 file id", kNumericsVersion, number, count,
                                        ProvenanceJson(checkpoint, options, shard.source_files, {}, {})})
                               .dump();
  add(head.substr(0, head.size() - 1) + ",[");
  // In payload order, so that the order of writing is part of the identity too.
  const char* separator = "";
  for (const PlannedTensor& planned : shard.tensors) {
    const SourceTensor& source = checkpoint.tensors()[planned.source];
    Json tensor = Json::array({source.name, DTypeName(source.dtype), source.shape});
    for (const SourceExtent& extent : source.extents) {
      tensor.push_back(extent.file);
      tensor.push_back(extent.offset);
    }
    if (Json recipe = RecipeJson(source); !recipe.is_null()) tensor.push_back(std::move(recipe));
    tensor.push_back(TreatmentName(shard.index.tensors[planned.tensor]));
    add(std::exchange(separator, ",") + tensor.dump());
  }
  Json files = Json::array();
  for (const CompanionFile& file : shard.files) files.push_back(Json::array({file.name, file.size}));
  add("]," + files.dump() + "]");
  return digest.Finish();
}

// The files that the shard's tensors are read from. The first shard also lists those that hold no tensor, as the one
// file of a checkpoint without tensors, so that all shards together list every file.
std::vector<std::uint32_t> SourceFilesOf(const Checkpoint& checkpoint, const PlannedShard& shard, bool is_first) {
  std::set<std::uint32_t> files;
  const auto of_model = static_cast<std::uint32_t>(checkpoint.files().size() - checkpoint.adapter_files());
  if (is_first) {
    for (std::uint32_t file = 0; file < of_model; ++file) files.insert(file);
    for (const SourceTensor& tensor : checkpoint.tensors()) {
      for (const SourceExtent& extent : tensor.extents) files.erase(extent.file);
    }
  }
  for (const PlannedTensor& planned : shard.tensors) {
    for (const SourceExtent& extent : checkpoint.tensors()[planned.source].extents) files.insert(extent.file);
  }
  // Those of an adapter stand apart, and in every shard.
  files.erase(files.lower_bound(of_model), files.end());
  return {files.begin(), files.end()};
}

// With shard_by_source: of the first tensor of each source file the bytes that all of them take in the output, for a
// shard takes the file or leaves it; 0 for the others. Empty without.
std::vector<std::uint64_t> RunsOfFiles(const Checkpoint& checkpoint, const std::vector<Decision>& decisions,
                                       const ConvertOptions& options) {
  if (!options.shard_by_source) return {};
  std::vector<std::uint64_t> runs(decisions.size());
  for (std::size_t i = 0, first = 0; i < decisions.size(); ++i) {
    const SourceTensor& source = checkpoint.tensors()[i];
    if (source.place().file != checkpoint.tensors()[first].place().file) first = i;
    runs[first] += StoredBytes(PlanTensor(source, decisions[i], options));
  }
  return runs;
}

// Sorts the shard's entries by name, as the format asks, keeping `tensors` in payload order.
void SortIndex(PlannedShard* shard) {
  // `tensors` and entries are still in the same order here.
  const std::vector<std::size_t> places = SortByName(&shard->index.tensors);
  for (std::size_t i = 0; i < places.size(); ++i) shard->tensors[i].tensor = places[i];
}

// A calibration without an encoder that uses it, or the other way round, is a mistake.
absl::Status CheckCalibration(const ConvertOptions& options) {
  const bool is_named = NamesCalibratedEncoder(options.policy);
  if (options.calibration == nullptr) {
    return !is_named ? absl::OkStatus() : Fail(kCalibrationMissing, {}, "--encoder");
  }
  if (!is_named) return Fail(kCalibrationUnused, options.calibration->path(), "--calibration");
  if (!IsUtf8(options.calibration->path())) return Fail(kSourceName, options.calibration->path(), {});
  return absl::OkStatus();
}

// No loader goes on with a configuration that is no object, and no export could.
absl::Status CheckConfig(const std::string& config_json) {
  if (config_json.empty()) return absl::OkStatus();
  Q4_ASSIGN_OR_RETURN(const Json config, ParseModelJson(config_json, "config.json"));
  return config.is_object() ? absl::OkStatus() : Fail(kJsonSyntax, "config.json", {}, "expected an object");
}

}  // namespace

ConversionPlan PlanOfShard(const Checkpoint& checkpoint, const ConversionPlan& plan, std::size_t shard) {
  ConversionPlan own;
  own.shards.push_back(plan.shards[shard]);
  const PlannedShard& planned = own.shards.front();
  for (const PlannedTensor& tensor : planned.tensors) {
    own.source_bytes += SourceBytes(checkpoint.tensors()[tensor.source]);
    own.stored_bytes += checkpoint.tensors()[tensor.source].stored_bytes();
    ++(planned.index.tensors[tensor.tensor].quantized() ? own.quantized_tensors : own.kept_tensors);
  }
  own.output_bytes = planned.file_bytes;
  own.read_bytes = plan.read_bytes;
  return own;
}

std::pair<std::size_t, std::size_t> TensorsOf(const ConversionPlan& plan) {
  // Shards but a lone one have tensors.
  if (plan.shards.front().tensors.empty()) return {0, 0};
  return {plan.shards.front().tensors.front().source, plan.shards.back().tensors.back().source + std::size_t{1}};
}

std::vector<bool> FilesOf(const Checkpoint& checkpoint, const ConversionPlan& plan) {
  const std::size_t count = checkpoint.files().size();
  std::vector<bool> of_plan(count);
  for (const PlannedShard& shard : plan.shards) {
    for (const std::uint32_t file : shard.source_files) of_plan[file] = true;
  }
  // An adapter's stand in every document.
  std::fill(of_plan.end() - static_cast<std::ptrdiff_t>(checkpoint.adapter_files()), of_plan.end(), true);
  return of_plan;
}

bool UsesEffort(const ConvertOptions& options) {
  const auto has_efforts = [](Q4Encoder id) {
    const Encoder* const encoder = FindEncoder(id);
    return encoder != nullptr && HasEfforts(*encoder);
  };
  if (has_efforts(options.policy.defaults.encoder)) return true;
  if (!options.policy.recipe) return false;
  return std::any_of(options.policy.recipe->rules.begin(), options.policy.recipe->rules.end(),
                     [&](const RecipeRule& rule) { return rule.encoder && has_efforts(*rule.encoder); });
}

std::string_view EncoderOfCoresAlone(const ConversionPlan& plan) {
  for (const PlannedShard& shard : plan.shards) {
    for (const Q4Tensor& tensor : shard.index.tensors) {
      const Encoder* const encoder = tensor.quantized() ? FindEncoder(tensor.encoder) : nullptr;
      if (encoder != nullptr && !encoder->has_cuda_kernels()) return encoder->name();
    }
  }
  return {};
}

std::uint64_t SourceBytes(const SourceTensor& source) {
  if (source.bnb == nullptr) return source.bytes;
  std::uint64_t bytes = 0;
  for (const SourceTensor& part : source.bnb->parts) bytes += part.bytes;
  return bytes;
}

Q4Tensor PlanTensor(const SourceTensor& source, const Decision& decision, const ConvertOptions& options) {
  Q4Tensor tensor;
  tensor.name = source.name;
  tensor.dtype = source.dtype;
  tensor.shape = source.shape;
  tensor.elems = source.elems;
  if (!decision.quantize) {
    // Integers and other types keep theirs: --keep-dtype is about floating point.
    if (options.keep_dtype && IsQuantizable(source.dtype)) tensor.dtype = *options.keep_dtype;
    return tensor;
  }
  // Only the base of the settings, QuantFormat: sliced off on purpose.
  static_cast<QuantFormat&>(tensor) = decision.settings;
  tensor.encoder = decision.settings.encoder;
  if (source.bnb != nullptr) {
    tensor.nested_offset = source.bnb->nested_offset;
    return tensor;  // without statistics, for the elements are not known
  }
  tensor.has_stats = true;
  return tensor;
}

std::string ProvenanceJson(const Checkpoint& checkpoint, const ConvertOptions& options,
                           const std::vector<std::uint32_t>& source_files, const std::vector<std::string>& digests,
                           const std::string& plan_id) {
  const bool sha256 = options.source_digest == SourceDigest::kSha256;
  // As long as a digest of this kind, so that the planned size of the document is the final one.
  const std::string placeholder(sha256 ? 64 : 16, '0');
  const auto record = [&](std::size_t i) {
    Json file;
    file["name"] = checkpoint.files()[i].name;
    const std::string& digest = i < digests.size() ? digests[i] : placeholder;
    // In the order of their names, as all members are.
    if (sha256) file["sha256"] = digest;
    file["size"] = checkpoint.files()[i].file->size();
    if (!sha256) file["xxh3"] = digest;
    return file;
  };
  Json files = Json::array(), adapter = Json::array();
  for (const std::uint32_t i : source_files) files.push_back(record(i));
  const std::size_t count = checkpoint.files().size();
  for (std::size_t i = count - checkpoint.adapter_files(); i < count; ++i) adapter.push_back(record(i));
  Json calibration;
  if (options.calibration != nullptr) {
    Json file;
    file["name"] = BaseNameOf(options.calibration->path());
    file["sha256"] = options.calibration->digest();
    file["size"] = options.calibration->file_bytes();
    calibration["files"] = Json::array({std::move(file)});
    calibration["tokens"] = options.calibration->tokens();
  }
  Json left_out = Json::array();
  for (const LeftOutFile& file : checkpoint.left_out()) {
    if (file.recorded) left_out.push_back({{"name", file.name}, {"reason", file.reason}, {"warning", file.warning}});
  }
  // Json keeps this order; it is bytewise, so the document is canonical.
  Json json;
  if (!adapter.empty()) json["adapter"] = Json{{"files", std::move(adapter)}};
  if (Json weights = BnbRecordJson(checkpoint); !weights.empty()) json["bitsandbytes"] = std::move(weights);
  if (!calibration.is_null()) json["calibration"] = std::move(calibration);
  if (!left_out.empty()) json["left_out"] = std::move(left_out);
  json["numerics"] = kNumericsVersion;
  json["options"] = OptionsJson(RecordedSettings(checkpoint, options), options);
  if (!checkpoint.parent().is_null()) json["parent"] = checkpoint.parent();
  // The one thing that shards which were made apart can be known by to belong together.
  if (options.shard_by_source) json["plan"] = plan_id.empty() ? std::string(64, '0') : plan_id;
  Json source = Json{{"files", std::move(files)}, {"format", checkpoint.format()}};
  if (!checkpoint.four_bits().empty()) source["quantized"] = checkpoint.four_bits();
  json["source"] = std::move(source);
  json["tool"] = Json{{"name", "q4convert"}, {"version", kQ4Version}};
  return json.dump();
}

absl::StatusOr<ConversionPlan> PlanConversion(const Checkpoint& checkpoint, const ModelConfigs& configs,
                                              const ConvertOptions& options) {
  // Whatever the policy made of its tensors, the result would load as another model.
  if (checkpoint.foreign()) return ForeignStatus(*checkpoint.foreign());
  if (!checkpoint.four_bits().empty() && !options.from_quantized) {
    return Fail(
        kFromQuantized, checkpoint.path(), checkpoint.four_bits(),
        "their mean squared error about doubles; convert the 16-bit checkpoint that they were made from, or give "
        "--from-quantized where there is none");
  }
  for (const CheckpointFile& file : checkpoint.files()) {
    if (!IsUtf8(file.name)) return Fail(kSourceName, file.file->path(), {});
  }
  Q4_RETURN_IF_ERROR(CheckConfig(configs.root));
  for (const std::string& text : configs.texts) Q4_RETURN_IF_ERROR(CheckConfig(text));
  Q4_RETURN_IF_ERROR(CheckTakenOver(checkpoint));
  Q4_RETURN_IF_ERROR(CheckCalibration(options));
  Q4_ASSIGN_OR_RETURN(std::vector<Decision> decisions, DecideTensors(checkpoint.tensors(), configs, options.policy));
  Q4_ASSIGN_OR_RETURN(std::vector<Note> pattern_notes, CheckPatterns(checkpoint.tensors(), decisions, options.policy));
  CalibratedDecisions calibrated;
  if (options.calibration != nullptr) {
    Q4_ASSIGN_OR_RETURN(calibrated, ApplyCalibration(*options.calibration, checkpoint.tensors(), &decisions));
  }
  calibrated.inputs.resize(decisions.size());
  ConversionPlan plan;
  plan.read_bytes = checkpoint.read_bytes();
  plan.shards.emplace_back();
  const std::vector<std::uint64_t> runs = RunsOfFiles(checkpoint, decisions, options);
  // Without a size no file fits beside another.
  ShardCut cut(options.shard_by_source ? std::max<std::uint64_t>(options.shard_bytes, 1) : options.shard_bytes);
  for (std::size_t i = 0; i < decisions.size(); ++i) {
    const SourceTensor& source = checkpoint.tensors()[i];
    // The encoder of --encoder; those that a recipe names were checked when it was read.
    if (decisions[i].quantize && source.bnb == nullptr && FindEncoder(decisions[i].settings.encoder) == nullptr) {
      return Fail(kEncoderNotBuilt, checkpoint.path(),
                  fmt::format("tensor '{}', encoder {}", source.name, Q4EncoderName(decisions[i].settings.encoder)));
    }
    Q4Tensor tensor = PlanTensor(source, decisions[i], options);
    // In the source's order.
    if (runs.empty() ? cut.Begins(tensor) : runs[i] != 0 && cut.Begins(runs[i])) plan.shards.emplace_back();
    plan.source_bytes += SourceBytes(source);
    plan.stored_bytes += source.stored_bytes();
    if (decisions[i].quantize) {
      ++plan.quantized_tensors;
    } else {
      ++plan.kept_tensors;
    }
    PlannedShard& shard = plan.shards.back();
    // Its place in the index is a preliminary one: SortIndex() moves it.
    shard.tensors.push_back(
        {static_cast<std::uint32_t>(i), shard.index.tensors.size(), decisions[i], calibrated.inputs[i]});
    shard.index.tensors.push_back(std::move(tensor));
  }
  // Only now, so that the message can say how many there would be.
  if (plan.shards.size() > limits::kShards) {
    return Fail(kTooManyParts, {}, "--shard-size",
                GotExpected(std::to_string(plan.shards.size()), "at most " + std::to_string(limits::kShards)));
  }
  // All companions lie in the first shard, so that it is enough to open that one for them.
  plan.shards.front().files = checkpoint.companions();
  for (std::size_t i = 0; i < plan.shards.size(); ++i) {
    PlannedShard& shard = plan.shards[i];
    SortIndex(&shard);
    shard.source_files = SourceFilesOf(checkpoint, shard, i == 0);
    for (const CompanionFile& file : shard.files) {
      Q4EmbeddedFile embedded;
      embedded.name = file.name;
      embedded.raw_bytes = file.size;
      shard.index.files.push_back(std::move(embedded));
    }
    shard.index.shard = static_cast<std::uint32_t>(i);
    shard.index.shard_count = static_cast<std::uint32_t>(plan.shards.size());
    shard.index.file_id = DeriveFileId(checkpoint, options, shard, i, plan.shards.size());
    // The order of writing, which is the source's and not that of the index: offsets follow from it.
    std::vector<std::size_t> order;
    for (const PlannedTensor& tensor : shard.tensors) order.push_back(tensor.tensor);
    const std::uint64_t provenance_bytes = ProvenanceJson(checkpoint, options, shard.source_files, {}, {}).size();
    Q4_ASSIGN_OR_RETURN(const Q4LayoutSize size, ComputeQ4Layout(shard.index, order, provenance_bytes));
    shard.file_bytes = size.file_bytes;
    plan.output_bytes += size.file_bytes;
  }
  plan.notes = PlanNotes(checkpoint, configs, plan);
  NoteCalibration(checkpoint, calibrated, &plan.notes);
  plan.notes.insert(plan.notes.end(), pattern_notes.begin(), pattern_notes.end());
  return plan;
}

}  // namespace q4
