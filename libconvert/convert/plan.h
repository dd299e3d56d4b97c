// The plan of a conversion: from headers and options to the exact layout, before the first payload byte is read. Pure,
// so that
// --dry-run is exact and that nothing but input and options can change the output.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/q4/container.h"
#include "formats/q4/writer.h"
#include "formats/source/checkpoint.h"
#include "libconvert/policy/policy.h"
#include "libconvert/source/digest.h"

namespace q4 {

// What decides the bytes of the output, apart from the input.
struct ConvertOptions {
  PolicyOptions policy;
  std::optional<DType> keep_dtype;  // of F32, F16 and BF16 tensors that stay unquantized; nullopt: their own
  bool keep_nonfinite = false;      // a tensor with NaN or infinity is stored unquantized instead of failing
  Q4Compression compression;
  std::uint64_t shard_bytes = 0;  // 0: one file
  SourceDigest source_digest = SourceDigest::kSha256;
};

struct PlannedTensor {
  std::uint32_t source = 0;  // index into Checkpoint::tensors()
  std::size_t tensor = 0;    // index into the shard's Q4Index::tensors
  Decision decision;
};

struct PlannedShard {
  Q4Index index;                       // complete but for what only the data can tell
  std::vector<PlannedTensor> tensors;  // in payload order: that of the source, so that it is read once, front to back
  std::vector<CompanionFile> files;    // in the order of index.files; the first shard holds them all
  // What its tensors are read from: ascending indices into Checkpoint::files(). A file may serve several shards.
  std::vector<std::uint32_t> source_files;
  std::uint64_t file_bytes = 0;  // exact without compression, else an upper bound
};

struct ConversionPlan {
  std::vector<PlannedShard> shards;
  std::uint64_t source_bytes = 0;  // tensor payload
  std::uint64_t output_bytes = 0;  // sum of file_bytes
  std::uint64_t quantized_tensors = 0, kept_tensors = 0;
  std::uint64_t quantized_elems = 0;
  std::uint64_t largest_tensor_elems = 0;  // among those to be quantized
};

// Decides every tensor and lays out every shard. `config_json` is the text of config.json or "". Refuses an encoder
// that is not built (exit code 5).
absl::StatusOr<ConversionPlan> PlanConversion(const Checkpoint& checkpoint, const std::string& config_json,
                                              const ConvertOptions& options);

// The container entry for a source tensor treated as `decision` says (parts and chunks left empty).
Q4Tensor PlanTensor(const SourceTensor& source, const Decision& decision, const ConvertOptions& options);

// The provenance document of a shard (docs/format.md section 8): canonical JSON. `source_files`: those that it lists,
// the shard's own. `digests` holds one lower-case hexadecimal digest per file of the checkpoint; it may be empty while
// planning: the length of the document does not depend on their values.
std::string ProvenanceJson(const Checkpoint& checkpoint, const ConvertOptions& options,
                           const std::vector<std::uint32_t>& source_files, const std::vector<std::string>& digests);

}  // namespace q4
