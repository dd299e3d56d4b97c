// Hands a .q4 model on to other software: the public API behind q4export.
//
// Chunks are checked against their digests as they are read, and memory for them is bounded by
// ExportOptions::max_memory whatever the size of a tensor.
//
// Exporters() are the kinds of export. "bnb" writes a directory that transformers and vLLM load as a pre-quantized
// bitsandbytes model; the codes and scales are copied, nothing is computed. "safetensors" writes a dequantized
// checkpoint: a directory, or one file when the output's name ends in ".safetensors". docs/q4export.md describes them.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/base/digest.h"
#include "formats/base/file.h"
#include "formats/tensor/tensor.h"
#include "kernels/kernels.h"
#include "libconvert/base/progress.h"

namespace q4 {

class Exporter;  // exporter.h, of this wing alone

// A kind of export, as people see it.
struct ExporterRow {
  // Whether quantized tensors stay codes and scales, or become elements of a float dtype. The report
  // counts them so. Tensors that the container keeps are never quantized here.
  enum class Weights : std::uint8_t { kQuantized, kDequantized };

  std::string_view name;     // what --to and the report call it
  std::string_view what;     // what it writes, for --help
  Weights weights;           // what becomes of quantized tensors
  const Exporter* exporter;  // never null; lives as long as the program
};

// All kinds, in the order of --help. They live as long as the program.
std::span<const ExporterRow> Exporters();

// transformers 5 loads no experts in 4 bits, so a bitsandbytes export that has some is made on purpose only.
enum class ExpertWeights : std::uint8_t {
  kError,       // refuse the model (kExportExperts)
  kDequantize,  // write them as elements of the source's dtype, which every loader takes
  kKeep4bit,    // write them as 4-bit weights like all others, for loaders that take them
};

// Whether a directory gets a model card, README.md (libconvert/card/card.h).
enum class ModelCardUse : std::uint8_t {
  kNever,
  kUsual,   // with weights in 4 bits, unless they were taken over, a part is exported, or others' files stay
  kAlways,  // in every directory
};

// What the user asked for. Options of one exporter are ignored by others, or refused by its Check().
struct ExportOptions {
  std::string to = "bnb";         // the name of an exporter
  std::optional<Sha256> root;     // that the container must have; nullopt: any
  std::string tensor_pattern;     // regular expression; only tensors whose name it occurs in; "" for all
  std::uint64_t shard_bytes = 0;  // most tensor bytes per weight file; 0: one file
  bool force = false;             // replace what an earlier export wrote and nobody changed since
  bool into = false;              // write into a directory that holds other files, which stay
  ModelCardUse card = ModelCardUse::kNever;
  std::string base_model;  // that the card names; "" for none

  // "bnb": the dtype that packed codes pose as (U8, BF16, F16, F32); nullopt: U8, or of weights that were taken over
  // from bitsandbytes the one that they had. And the one that config.json asks to compute in; nullopt: that of the
  // quantized weights, or what config.json of such weights says.
  std::optional<DType> quant_storage;
  std::optional<DType> compute_dtype;

  // "bnb": what becomes of quantized experts that transformers holds fused (policy/experts.h).
  ExpertWeights experts = ExpertWeights::kError;
  // "bnb": the same of quantized weights of modules that are no linear layers, such as embeddings (policy/loadable.h).
  ExpertWeights unloadable = ExpertWeights::kError;

  // "safetensors": the dtype of every F32, F16 and BF16 tensor (of the source's dtype); nullopt: each keeps its own.
  std::optional<DType> dtype;

  unsigned threads = 0;  // 0: what this process may use of the machine
  // Bytes; fewer threads work when it is small. 0: 2 GiB, or less where the machine has less (machine.h).
  std::uint64_t max_memory = 0;
  const KernelTable* kernels = nullptr;  // nullptr: BestCpuKernels()
  ProgressCallback progress;             // bytes are those written
  CancelFlag* cancel = nullptr;          // looked at before each piece; kExportInterrupted (exit code 7)
};

// A file of the output: weights, the exporter's own, or copied from the container.
struct ExportedFile {
  std::string name;  // relative to the output directory; the output's own name when it is a single file
  std::uint64_t bytes = 0;
};

// Something that the exporter settled for the whole model, such as what config.json says of it.
struct ExportSetting {
  std::string key;  // in the JSON report
  // monostate: null
  std::variant<std::monostate, bool, std::uint64_t, std::string, std::vector<std::string>> value;
};

// What was written. Valid only if ExportModel() succeeded: a failed export leaves nothing to report.
struct ExportReport {
  // As they were given, but for slashes at the output's end.
  std::string input, output;
  std::string to;                         // the exporter's name
  std::vector<ExportedFile> files;        // bytewise sorted by name
  std::uint64_t quantized_tensors = 0;    // written as codes and scales
  std::uint64_t dequantized_tensors = 0;  // written as elements
  std::uint64_t kept_tensors = 0;         // never quantized
  std::uint64_t left_out_tensors = 0;     // not matched by tensor_pattern
  std::uint64_t parameters = 0;           // logical elements of the tensors written
  std::uint64_t tensor_bytes = 0;         // of the weight files, without their headers

  std::uint64_t overflowed = 0;         // elements that became infinite in a narrower dtype
  std::vector<ExportSetting> settings;  // in the report's order; docs/schema/export.schema.json names them
  std::string summary;                  // the same for people: a line without its end, or ""
  std::vector<std::string> warnings;    // for people; fit for a terminal
};

// Exports the model `input` (a .q4 file or NAME.q4.index.json) to `output`, which appears by one rename when everything
// is written and synced; on any error nothing remains. A directory that cannot be renamed is filled file by file
// (atomic_directory.h). An output that ends in ".safetensors" is one file, any other a directory. Blocks until it is
// done, on options.threads threads, the calling one among them. `fs` may be shared.
//
// Errors by exit code. 1: kExportUnknown; kExportFlag; kExportOneShard for a shard opened alone; kExportIsInput,
// kExportExists, kExportNotReplaceable or kExportIsSource for an output that must not be overwritten; a pattern that
// cannot be parsed, or kExportNoTensor; kExportShards; kExportMemory. 5: a tensor that the format cannot hold,
// kExportExperts, kExportFusedExperts, kExportUnloadable, kExportNameCollision, kExportNameTaken, or a container of a
// newer version. 3: kExportConfig, or the input is no container. 6: the container is damaged, with file, tensor, part
// and chunk. 2: a file cannot be read or written. 7: kExportInterrupted.
absl::StatusOr<ExportReport> ExportModel(FileSystem& fs, const std::string& input, const std::string& output,
                                         const ExportOptions& options);

// The report as docs/schema/export.schema.json describes it, with a final newline. UTF-8: bytes of paths that are not
// become U+FFFD.
std::string ExportReportJson(const ExportReport& report);

// The report for people: two or three lines, each with its end. Names are escaped, so that it is fit for a terminal.
// Warnings are left out; the caller prints those where it prints warnings.
std::string ExportReportText(const ExportReport& report);

}  // namespace q4
