// q4export: hands a .q4 model on to transformers, vLLM and other readers.  See docs/q4export.md.
//
// Flags become ExportOptions; libconvert/export does the rest, its checks of the output included.
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "formats/q4/shards.h"
#include "libconvert/base/machine.h"
#include "libconvert/components/seal.h"
#include "libconvert/export/export.h"
#include "tools/options.h"
#include "tools/pipeline.h"
#include "tools/progress_printer.h"
#include "tools/tool_main.h"

namespace q4 {
namespace {

// Both spellings, q4's and PyTorch's. The flags' values were checked by the parser; "same" is no dtype.
std::optional<DType> ParseDType(std::string_view name) {
  if (name == "uint8") return DType::kU8;
  if (name == "bf16" || name == "bfloat16") return DType::kBF16;
  if (name == "fp16" || name == "float16") return DType::kF16;
  if (name == "fp32" || name == "float32") return DType::kF32;
  return std::nullopt;
}

// Options that only another exporter looks at are passed on all the same.
// One of three names, or the options were refused.
ExpertWeights ExpertWeightsFrom(const std::string& name) {
  if (name == "dequantize") return ExpertWeights::kDequantize;
  return name == "keep4bit" ? ExpertWeights::kKeep4bit : ExpertWeights::kError;
}

ExportOptions OptionsFrom(const ExportFlags& flags) {
  ExportOptions options;
  options.to = flags.to;
  options.root = ParseQ4Root(flags.root);
  options.tensor_pattern = flags.tensor;
  options.shard_bytes = flags.shard_size;
  options.force = flags.force;
  options.into = flags.into;
  if (flags.quant_storage_asked) options.quant_storage = ParseDType(flags.quant_storage);
  options.compute_dtype = ParseDType(flags.compute_dtype);
  options.experts = ExpertWeightsFrom(flags.experts);
  options.unloadable = ExpertWeightsFrom(flags.unloadable);
  options.dtype = ParseDType(flags.dtype);
  options.threads = flags.threads;
  options.max_memory = flags.max_memory;
  return options;
}

// The printer must outlive the export, which calls it.
absl::StatusOr<ToolResult> Export(const ExportFlags& flags) {
  ProgressPrinter printer("q4export", flags.progress, flags.quiet);
  ExportOptions options = OptionsFrom(flags);
  options.progress = printer.Callback();
  options.cancel = &InterruptRequested();
  Q4_ASSIGN_OR_RETURN(const std::string pipeline, SealedPipelineFolder(PosixFileSystem(), flags.file));
  if (!pipeline.empty()) return ExportPipelineFolder(flags, pipeline, options);
  Q4_ASSIGN_OR_RETURN(const ExportReport report, ExportModel(PosixFileSystem(), flags.file, flags.output, options));
  ToolResult result;
  for (const std::string& warning : report.warnings) result.notes.push_back("warning: " + warning);
  if (flags.verbose > 0) {
    for (std::string& reason : LimitsOfRun(flags.threads, flags.max_memory).Reasons())
      result.notes.push_back(std::move(reason));
  }
  if (flags.json) {
    result.output = ExportReportJson(report);
  } else if (!flags.quiet) {
    result.output = ExportReportText(report);
  }
  return result;
}

}  // namespace
}  // namespace q4

int main(int argc, char** argv) { return q4::RunTool<q4::ExportFlags>("q4export", argc, argv, q4::Export); }
