// Answers "what is in this file, how was it made, how good is it" from headers and index, without reading the payload.
//
// Of a .q4 container the header, index and footer are read, and the embedded config.json (a few kilobytes), which names
// the model. Of a safetensors or bitsandbytes checkpoint the headers are read, config.json, and the small quant_state
// texts.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/base/file.h"
#include "formats/q4/container.h"
#include "formats/source/checkpoint.h"
#include "kernels/kernels.h"
#include "libconvert/model/open_model.h"
#include "libconvert/model/stats.h"

namespace q4 {

struct InspectPart {
  Q4Part part = Q4Part::kData;
  std::uint64_t raw_bytes = 0;
  std::uint64_t stored_bytes = 0;
  std::uint64_t chunks = 0;
  std::uint64_t compressed_chunks = 0;
};

struct InspectTensor : QuantFormat {
  std::string name;
  std::string treatment;      // "nf4 b64 dq", "BF16", "bnb nf4 b64 dq"
  DType dtype = DType::kF32;  // of the values; a bitsandbytes weight: of the decoded ones
  Shape shape;
  std::uint64_t elems = 0;
  Q4Encoder encoder = Q4Encoder::kNone;
  float nested_offset = 0;
  std::uint64_t stored_bytes = 0;  // of all its parts, as they lie in the file
  std::uint64_t offset = 0;        // of the first byte, in shard `shard`
  std::uint32_t shard = 0;         // index into InspectReport::shards
  std::vector<InspectPart> parts;  // containers only
  bool has_stats = false;
  Q4Stats stats;
};

struct InspectShard {
  std::string path;
  std::uint64_t bytes = 0;
  std::optional<Sha256> root;  // containers only
};

struct InspectFile {
  std::string name;
  std::uint64_t bytes = 0;
};

// The tensors that are treated alike.
struct InspectTreatment {
  std::string treatment;
  bool quantized = false;
  std::uint64_t tensors = 0, elems = 0, stored_bytes = 0;
};

struct InspectReport {
  std::string path;
  std::string format;                    // "q4", "safetensors", "safetensors-sharded", "bitsandbytes"
  std::string architecture, model_type;  // from config.json; "" when not stated
  std::uint64_t file_bytes = 0;          // of all shards
  std::uint64_t elems = 0, quantized_elems = 0;
  std::uint64_t quantized_bytes = 0;         // stored, codes and scales
  std::vector<InspectTreatment> treatments;  // quantized ones first, then by name
  std::vector<InspectShard> shards;
  std::uint32_t shard_count = 0;   // more than shards.size() when one shard was given alone
  std::optional<Sha256> root;      // containers only: the artifact's identity
  std::string provenance;          // containers only: the JSON document as stored
  std::vector<InspectFile> files;  // embedded, or beside a checkpoint
  std::uint64_t tensor_count = 0;
  std::vector<InspectTensor> tensors;  // bytewise sorted by name; empty for InspectScope::kSummary of a container
  ModelStats model;

  // Stored bits of codes and scales per quantized element; 0 when nothing is quantized.
  double BitsPerQuantizedElement() const;
  // Bits of the whole file per element.
  double BitsPerElement() const;
};

// What a report is to hold. A summary of 100,000 tensors costs less than their descriptions.
enum class InspectScope { kSummary, kTensors };

// Of an opened model. `fs` is where the config.json beside a checkpoint is read from.
absl::StatusOr<InspectReport> InspectModel(FileSystem& fs, const OpenedModel& model,
                                           InspectScope scope = InspectScope::kTensors);

// The same of the model that `path` names.
absl::StatusOr<InspectReport> InspectModel(FileSystem& fs, const std::string& path, const OpenOptions& options = {},
                                           InspectScope scope = InspectScope::kTensors);

// nullptr when there is no such tensor.
const InspectTensor* FindTensor(const InspectReport& report, std::string_view name);

// Which tensors a table shows, and in which order.
struct TensorSelection {
  std::string filter;  // a regular expression searched in the name; "" for all
  std::string sort;    // "name", "size" and "elems" (largest first), "nmse" (largest first), "sqnr" (smallest first)
};
absl::StatusOr<std::vector<const InspectTensor*>> SelectTensors(const InspectReport& report,
                                                                const TensorSelection& selection);

// One decoded element.
struct DumpValue {
  std::uint64_t index = 0;  // flat, row-major
  int code = -1;            // -1: not quantized
  float scale = 0;          // of its block, decoded
  std::string value;        // shortest text that reads back equal; hexadecimal for types without a number
};

// Elements [start, start + count) of the tensor `name`, of which little more is read. At most kMaxDump.
absl::StatusOr<std::vector<DumpValue>> DumpTensor(const OpenedModel& model, const std::string& name,
                                                  std::uint64_t start, std::uint64_t count,
                                                  const KernelTable& kernels = BestCpuKernels());
inline constexpr std::uint64_t kMaxDump = 1'000'000;

// What a report shows beyond the summary.
struct InspectDetail {
  std::vector<const InspectTensor*> tensors;  // listed, in this order
  bool list_tensors = false;
  bool tree = false;   // the module tree of `tensors`; text only
  bool stats = false;  // error statistics: of the model, and of each listed tensor
  bool hist = false;   // code usage
  bool files = false;
  std::vector<DumpValue> dump;  // of the one listed tensor
};

// "START:COUNT"
struct DumpRange {
  std::uint64_t start = 0, count = 0;
};
absl::StatusOr<DumpRange> ParseDumpRange(const std::string& text);

}  // namespace q4
