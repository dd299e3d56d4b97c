// The plan of a conversion: from headers and options to the exact layout, before the first payload byte is read. Pure,
// so that --dry-run is exact and nothing but input and options can change the output.
//
// Which tensors are quantized, and how, is decided in libconvert/policy; sizes and offsets are computed in
// formats/q4/writer. Here both come together. Only a tensor's data can still change its treatment: NaN or infinity with
// --on-nonfinite keep, or nested scales that would overflow (numerics Q5.12).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/base/json_value.h"
#include "formats/base/note.h"
#include "formats/calibration/calibration.h"
#include "formats/q4/container.h"
#include "formats/q4/writer.h"
#include "formats/source/checkpoint.h"
#include "libconvert/policy/policy.h"
#include "libconvert/source/digest.h"

namespace q4 {

// What decides the bytes of the output, apart from the input. All of it is stored in the provenance.
struct ConvertOptions {
  PolicyOptions policy;             // which tensors are quantized, and how
  std::optional<DType> keep_dtype;  // of F32, F16 and BF16 tensors that stay unquantized; nullopt: their own
  bool keep_nonfinite = false;      // a tensor with NaN or infinity is stored unquantized instead of failing
  Q4Compression compression;
  // Most payload bytes of a shard before compression; a single larger tensor has a shard of its own. 0: one file.
  std::uint64_t shard_bytes = 0;
  // Shards end where source files do: each is a run of whole files, of at most `shard_bytes` unless it is a single one.
  // 0 then means a shard for each source file.
  bool shard_by_source = false;
  SourceDigest source_digest = SourceDigest::kSha256;  // what identifies the source files in the provenance
  // Leave to quantize what was quantized to 4 bits already (Checkpoint::four_bits()). Says nothing of other sources.
  bool from_quantized = false;
  int effort = kDefaultEffort;  // of encoders that search: kLeastEffort .. kMostEffort
  // What is known of the inputs of layers; for encoders that weigh errors by it. Outlives what is made with it.
  std::shared_ptr<const Calibration> calibration;
};

// How the note on what is left out, and no loader would miss, begins: for whoever tells of it otherwise.
inline constexpr std::string_view kLeftOutNote = "left out: ";

// Joins a tensor of the source, its entry in the container, and why it is treated so.
struct PlannedTensor {
  std::uint32_t source = 0;  // index into Checkpoint::tensors()
  std::size_t tensor = 0;    // index into the shard's Q4Index::tensors
  Decision decision;
  WeightInput calibrated;  // set where the encoder is a calibrated one
};

// What one file will hold: embedded files first, then tensors. Indices into `index` are those of a writer.
struct PlannedShard {
  Q4Index index;                       // complete but for what only the data can tell
  std::vector<PlannedTensor> tensors;  // in payload order: that of the source, so that it is read once, front to back
  std::vector<CompanionFile> files;    // in the order of index.files; the first shard holds them all
  // What its tensors are read from: ascending indices into Checkpoint::files(). A file may serve several shards; one
  // without tensors is listed by the first.
  std::vector<std::uint32_t> source_files;
  // Size of the file: exact without compression, else an upper bound; both while no data changes a treatment.
  std::uint64_t file_bytes = 0;
};

// Made by PlanConversion() and never changed. Belongs to a checkpoint, whose tensors and files it counts by index.
struct ConversionPlan {
  std::vector<PlannedShard> shards;  // one or more
  std::uint64_t source_bytes = 0;    // SourceBytes() of all tensors: what there is to read
  std::uint64_t stored_bytes = 0;    // SourceTensor::stored_bytes() of all: what they occupy in the source's files
  std::uint64_t output_bytes = 0;    // sum of file_bytes
  std::uint64_t read_bytes = 0;      // Checkpoint::read_bytes()
  std::uint64_t quantized_tensors = 0, kept_tensors = 0;
  // What is worth knowing before the work: the checkpoint's notes, then a warning for what it leaves out and a loader
  // would miss, then what was decided. Warnings and notes are mixed, in this order.
  std::vector<Note> notes;
  // Where the options' recipe was chosen by a budget (libconvert/budget): what was chosen and why, for people and for
  // JSON, if anybody wants that. Set by who chose; "" and nullptr for all others.
  std::string choice_text, choice_table;
  std::shared_ptr<const Json> choice;
};

// Decides every tensor and lays out every shard. `configs`: those of the checkpoint. Reads nothing.
//
// Errors: kAlreadyQuantized or kIsAdapter for a checkpoint that is foreign(), kFromQuantized for one of 4 bits without
// ConvertOptions::from_quantized, kEncoderNotBuilt for an encoder that this
// version cannot run (exit code 5), kTooManyParts for more shards than limits::kShards, kCalibrationMissing and
// kCalibrationUnused (1), and those of DecideTensors(), ApplyCalibration(), CheckPatterns() and ComputeQ4Layout().
absl::StatusOr<ConversionPlan> PlanConversion(const Checkpoint& checkpoint, const ModelConfigs& configs,
                                              const ConvertOptions& options);

// Whether an encoder that the options name searches, so that their effort means something.
bool UsesEffort(const ConvertOptions& options);
// The name of an encoder of the plan that GPUs have no kernels for, or "".
std::string_view EncoderOfCoresAlone(const ConversionPlan& plan);

// The plan of shard `shard` alone, all of whose numbers are those of the whole: what a run needs that writes only this
// one. Notes and choice are left out. It can be made into the same file without the other shards.
ConversionPlan PlanOfShard(const Checkpoint& checkpoint, const ConversionPlan& plan, std::size_t shard);

// The first of the source's tensors that the shards of `plan` hold, and the one behind the last: they are a run.
std::pair<std::size_t, std::size_t> TensorsOf(const ConversionPlan& plan);

// Which of Checkpoint::files() the shards of `plan` are made from, by index: all of a whole plan. Their digests stand
// in the provenance.
std::vector<bool> FilesOf(const Checkpoint& checkpoint, const ConversionPlan& plan);

// What is read of a tensor: its elements, or the codes and scales that are taken over.
std::uint64_t SourceBytes(const SourceTensor& source);

// The container entry for a source tensor treated as `decision` says (parts and chunks left empty). A kept tensor gets
// the dtype of options.keep_dtype if it has one of the three that it is for.
Q4Tensor PlanTensor(const SourceTensor& source, const Decision& decision, const ConvertOptions& options);

// The provenance document of a shard (docs/format.md section 8): canonical JSON. `source_files`: those that it lists,
// the shard's own. `digests` holds one lower-case hexadecimal digest per file of the checkpoint, or "" for one that is
// not listed; it may be empty while planning: the length of the document does not depend on their values. `plan_id`: of
// options with shard_by_source what RunIdOf() (convert/resume.h) says, in hexadecimal, or "" while planning; ignored
// for all others.
std::string ProvenanceJson(const Checkpoint& checkpoint, const ConvertOptions& options,
                           const std::vector<std::uint32_t>& source_files, const std::vector<std::string>& digests,
                           const std::string& plan_id);

}  // namespace q4
