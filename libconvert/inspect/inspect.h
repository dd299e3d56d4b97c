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
#include "libconvert/model/scale_spread.h"
#include "libconvert/model/stats.h"

namespace q4 {

// One part of a tensor in a container, chunks added up.
struct InspectPart {
  Q4Part part = Q4Part::kData;
  // Before compression, and as they lie in the file.
  std::uint64_t raw_bytes = 0;
  std::uint64_t stored_bytes = 0;
  // How many chunks the part has, and how many of them are compressed.
  std::uint64_t chunks = 0;
  std::uint64_t compressed_chunks = 0;
};

// One tensor of the list: of a container, of a checkpoint, or a bitsandbytes weight with all that belongs to it. The
// base has its scheme, block size and nesting.
struct InspectTensor : QuantFormat {
  std::string name;
  // In words: "nf4 b64 dq", "BF16", "bnb nf4 b64 dq". Tensors of one treatment have equal texts.
  std::string treatment;
  // Of the values; of a quantized tensor, of the decoded ones.
  DType dtype = DType::kF32;
  Shape shape;
  std::uint64_t elems = 0;
  // Which encoder chose scales and codes; kNone where it is not known or the tensor is kept.
  Q4Encoder encoder = Q4Encoder::kNone;
  // The offset of nested scales; containers only.
  float nested_offset = 0;
  // Of all its parts, as they lie in the file.
  std::uint64_t stored_bytes = 0;
  // Of a tensor of a checkpoint that is not stored as it is read: the names of those in its files that it is made of,
  // and the element type of the first. Else empty.
  std::vector<std::string> stored_names;
  DType stored_dtype = DType::kF32;
  // Of its first byte in shard `shard`; 0 for an empty tensor of a container.
  std::uint64_t offset = 0;
  // Index into InspectReport::shards.
  std::uint32_t shard = 0;
  // Containers only.
  std::vector<InspectPart> parts;
  // Whether `stats` is recorded; containers only.
  bool has_stats = false;
  Q4Stats stats;
};

// One file with weights.
struct InspectShard {
  std::string path;
  std::uint64_t bytes = 0;
  // Its own root; containers only.
  std::optional<Sha256> root;
};

// An embedded file, or one beside a checkpoint.
struct InspectFile {
  std::string name;
  std::uint64_t bytes = 0;
};

// All tensors that are treated alike, added up.
struct InspectTreatment {
  std::string treatment;
  bool quantized = false;
  std::uint64_t tensors = 0, elems = 0, stored_bytes = 0;
};

// What chose the scales and codes of some tensors.
struct InspectEncoder {
  Q4Encoder encoder = Q4Encoder::kNone;
  std::uint64_t tensors = 0, elems = 0;
};

// What is in a model. Everything that a report shows is made of this; nothing points into the opened model.
struct InspectReport {
  // As the user gave it.
  std::string path;
  // "q4", or Checkpoint::format() such as "safetensors-sharded", with ", bitsandbytes" added where a checkpoint has
  // such weights.
  std::string format;
  // From config.json; "" when not stated. Of GGUF general.architecture and, in `model_name`, general.name.
  std::string architecture, model_type, model_name;
  // Of all shards that are there.
  std::uint64_t file_bytes = 0;
  // Of all tensors, and of the quantized ones.
  std::uint64_t elems = 0, quantized_elems = 0;
  // Stored bytes of quantized tensors, codes and scales.
  std::uint64_t quantized_bytes = 0;
  // Quantized ones first, then by name.
  std::vector<InspectTreatment> treatments;
  // Of quantized tensors, in the order of the encoders' numbers; kNone where nobody is known.
  std::vector<InspectEncoder> encoders;
  std::vector<InspectShard> shards;
  // Files that the model has: more than shards.size() when one shard was given alone.
  std::uint32_t shard_count = 0;
  // Containers only: the identity of the model, byte for byte.
  std::optional<Sha256> root;
  // Containers only: that of its content (content_identity.h), where the index tells it.
  std::optional<Sha256> content;
  // Containers only: the JSON document, of all shards together (ModelProvenance()).
  std::string provenance;
  // Embedded, or beside a checkpoint.
  std::vector<InspectFile> files;
  // What lies beside a checkpoint and is not carried; of a container, what its provenance records of that.
  std::vector<LeftOutFile> left_out;
  std::uint64_t tensor_count = 0;
  // Bytewise sorted by name; empty for InspectScope::kSummary of a container, which `tensor_count` is not.
  std::vector<InspectTensor> tensors;
  // Totals of the recorded statistics; of no tensors for a checkpoint.
  ModelStats model;

  // Stored bits of codes and scales per quantized element; 0 when nothing is quantized. Compression counts.
  double BitsPerQuantizedElement() const;
  // Bits of all files per element, headers and embedded files included; 0 without elements.
  double BitsPerElement() const;
};

// What a report is to hold. A summary of 100,000 tensors costs less than their descriptions. Checkpoints are always
// described whole.
enum class InspectScope { kSummary, kTensors };

// Describes an opened model. `fs` is where the config.json beside a checkpoint is read from; one that cannot be used
// leaves the names empty. Costs time with the number of tensors and chunks, not with the size of the payload. Error: of
// a bitsandbytes checkpoint, a quant_state text that cannot be read.
absl::StatusOr<InspectReport> InspectModel(FileSystem& fs, const OpenedModel& model,
                                           InspectScope scope = InspectScope::kTensors);

// The same of the model that `path` names. Errors: also those of OpenModel().
absl::StatusOr<InspectReport> InspectModel(FileSystem& fs, const std::string& path, const OpenOptions& options = {},
                                           InspectScope scope = InspectScope::kTensors);

// The tensor of that name in a report with tensors; nullptr when there is none. Binary search. Points into `report`.
const InspectTensor* FindTensor(const InspectReport& report, std::string_view name);

// Which tensors a table shows, and in which order.
struct TensorSelection {
  // A regular expression searched in the name; "" for all.
  std::string filter;
  // "name", "size" and "elems" (largest first), "nmse" (largest first), "sqnr" (smallest first); anything else as
  // "name".
  std::string sort;
  bool allow_unmatched = false;  // a filter that matches no tensor gives an empty table, no error
  std::uint64_t top = 0;         // the first so many in that order; 0: all
  bool quantized = false;        // `top` counts quantized ones only, which is what tables of errors and scales list
};
// The selected tensors, which point into `report`. Errors: `filter` is no regular expression that NamePattern
// takes; kPatternUnmatched.
absl::StatusOr<std::vector<const InspectTensor*>> SelectTensors(const InspectReport& report,
                                                                const TensorSelection& selection);

// One decoded element, as DumpTensor() gives it.
struct DumpValue {
  // Flat, row-major, in the tensor.
  std::uint64_t index = 0;
  // 0 to 15; -1 if the tensor is kept.
  int code = -1;
  // Decoded scale of the element's block.
  float scale = 0;
  // Shortest text that reads back equal; hexadecimal for types without a number in C++.
  std::string value;
};

// Elements [start, start + count) of the tensor `name`, of which little more is read. Errors: kNoSuchTensor;
// kBadDumpRange if the range is empty, not inside the tensor or longer than kMaxDump; a damaged chunk; those of
// FindTensor() on the model; I/O. Sets the float environment for itself.
absl::StatusOr<std::vector<DumpValue>> DumpTensor(const OpenedModel& model, const std::string& name,
                                                  std::uint64_t start, std::uint64_t count,
                                                  const KernelTable& kernels = BestCpuKernels());
// In elements.
inline constexpr std::uint64_t kMaxDump = 1'000'000;

// The scales of a tensor as they decode.
struct InspectScales {
  ScaleSpread spread;            // of the finite ones
  std::uint64_t not_finite = 0;  // of a container, or a checkpoint, that is damaged
};

// Reads all scales of `tensors`, which are of the report of `model`; nothing of kept ones. In their order. Errors: a
// damaged chunk; those of TensorsOf(); I/O. Sets the float environment for itself.
absl::StatusOr<std::vector<InspectScales>> ReadScales(const OpenedModel& model,
                                                      const std::vector<const InspectTensor*>& tensors,
                                                      const KernelTable& kernels = BestCpuKernels());

// What a report shows. Without anything set it is the summary.
struct InspectDetail {
  // The listed tensors in this order; what tree, statistics and code usage are about too.
  std::vector<const InspectTensor*> tensors;
  bool list_tensors = false;
  bool errors = false;  // the list has the error of each tensor, too
  bool tree = false;    // the module tree of `tensors`; text only
  bool stats = false;   // error statistics: of the model, and of each listed tensor
  bool hist = false;    // code usage
  bool files = false;
  // Of each of `tensors`, where scales are shown.
  std::optional<std::vector<InspectScales>> scales;
  // Elements of the one listed tensor; JSON only, text has DumpText().
  std::vector<DumpValue> dump;
};

// "START:COUNT", in elements.
struct DumpRange {
  std::uint64_t start = 0, count = 0;
};
// Parses it: two decimal numbers. Whether the range lies inside a tensor is asked later. Error: kBadDumpRange.
absl::StatusOr<DumpRange> ParseDumpRange(const std::string& text);

}  // namespace q4
