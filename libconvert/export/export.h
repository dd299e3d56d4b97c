// Hands a .q4 model on to other software: the public API behind q4export.
//
// kBnb writes a directory that transformers and vLLM load as a pre-quantized bitsandbytes model; the codes and scales
// are copied, nothing is computed. kSafetensors writes a dequantized checkpoint: a directory, or one file when the
// output's name ends in ".safetensors". docs/q4export.md describes both.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/base/file.h"
#include "formats/tensor/tensor.h"
#include "kernels/kernels.h"
#include "libconvert/base/progress.h"

namespace q4 {

enum class ExportFormat : std::uint8_t { kBnb, kSafetensors };

struct ExportOptions {
  ExportFormat format = ExportFormat::kBnb;
  std::string tensor_pattern;     // regular expression; only tensors whose name it occurs in; "" for all
  std::uint64_t shard_bytes = 0;  // most tensor bytes per weight file; 0: one file
  bool force = false;             // replace an existing output

  // kBnb: the dtype that packed codes pose as (U8, BF16, F16, F32), and the one that config.json asks to compute in.
  DType quant_storage = DType::kU8;
  DType compute_dtype = DType::kF32;

  // kSafetensors: the dtype of every F32, F16 and BF16 tensor (of the source's dtype); nullopt: each keeps its own.
  std::optional<DType> dtype;

  unsigned threads = 0;                               // 0: all cores
  std::uint64_t max_memory = std::uint64_t{2} << 30;  // bytes; fewer threads work when it is small
  const KernelTable* kernels = nullptr;               // nullptr: BestCpuKernels()
  ProgressCallback progress;                          // bytes are those written
  CancelFlag* cancel = nullptr;
};

struct ExportedFile {
  std::string name;  // relative to the output directory; the output's own name when it is a single file
  std::uint64_t bytes = 0;
};

struct ExportReport {
  std::string input, output;
  ExportFormat format = ExportFormat::kBnb;
  std::vector<ExportedFile> files;      // bytewise sorted by name
  std::uint64_t quantized_tensors = 0;  // written as codes and scales
  std::uint64_t dequantized_tensors = 0;
  std::uint64_t kept_tensors = 0;      // never quantized
  std::uint64_t left_out_tensors = 0;  // not matched by tensor_pattern
  std::uint64_t parameters = 0;        // logical elements of the tensors written
  std::uint64_t tensor_bytes = 0;      // of the weight files, without their headers

  // kBnb: what config.json says.
  std::string quant_type;  // "nf4" or "fp4"
  bool double_quant = false;
  std::optional<std::vector<std::string>> skip_modules;  // nullopt: transformers' defaults hold

  std::uint64_t overflowed = 0;       // elements that became infinite in a narrower dtype
  std::vector<std::string> warnings;  // for people; fit for a terminal
};

// Exports the model `input` (a .q4 file or NAME.q4.index.json) to `output`, which appears by one rename when everything
// is written and synced; on any error nothing remains. Errors: exit code 1 output, flags or pattern refused; 2 I/O; 3
// or 6 the container is invalid or damaged; 5 a tensor that the format cannot hold; 7 cancelled.
absl::StatusOr<ExportReport> ExportModel(FileSystem& fs, const std::string& input, const std::string& output,
                                         const ExportOptions& options);

// The report as docs/schema/export.schema.json describes it, with a final newline.
std::string ExportReportJson(const ExportReport& report);

// The report for people, a few lines.
std::string ExportReportText(const ExportReport& report);

}  // namespace q4
