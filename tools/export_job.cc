#include "tools/export_job.h"

#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "formats/q4/shards.h"
#include "libconvert/base/machine.h"
#include "libconvert/components/seal.h"
#include "tools/output_name.h"
#include "tools/pipeline.h"
#include "tools/usage_issues.h"

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

// One of three names, or the options were refused.
ExpertWeights ExpertWeightsFrom(const std::string& name) {
  if (name == "dequantize") return ExpertWeights::kDequantize;
  return name == "keep4bit" ? ExpertWeights::kKeep4bit : ExpertWeights::kError;
}

}  // namespace

ExportOptions ExportOptionsFrom(const ExportFlags& flags) {
  ExportOptions options;
  options.to = flags.to;
  options.root = ParseQ4Root(flags.root);
  options.tensor_pattern = flags.tensor;
  options.shard_bytes = flags.shard_size;
  options.force = flags.force;
  options.into = flags.into;
  options.base_model = flags.base_model;
  // Whoever names the original wants the card that does.
  const bool asked = flags.card_asked || !flags.base_model.empty();
  options.card = !flags.card ? ModelCardUse::kNever : asked ? ModelCardUse::kAlways : ModelCardUse::kUsual;
  if (flags.quant_storage_asked) options.quant_storage = ParseDType(flags.quant_storage);
  options.compute_dtype = ParseDType(flags.compute_dtype);
  options.experts = ExpertWeightsFrom(flags.experts);
  options.unloadable = ExpertWeightsFrom(flags.unloadable);
  options.dtype = ParseDType(flags.dtype);
  options.threads = flags.threads;
  options.max_memory = flags.max_memory;
  return options;
}

absl::StatusOr<ToolResult> ExportJob(const ExportFlags& asked, const JobHooks& hooks) {
  ExportFlags flags = asked;
  if (flags.output.empty()) {
    flags.output = NameOutput(flags.file, flags.to);
    if (flags.output.empty()) return Fail(kNoOutputName, flags.file, {});
  }
  ExportOptions options = ExportOptionsFrom(flags);
  options.progress = hooks.Begin();
  options.cancel = hooks.cancel;
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

}  // namespace q4
