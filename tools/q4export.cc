// q4export: hands a .q4 model on to transformers, vLLM and other readers.  See docs/q4export.md.
#include <optional>

#include "tools/export_job.h"
#include "tools/mains.h"
#include "tools/options.h"
#include "tools/progress_printer.h"
#include "tools/tool_main.h"

namespace q4 {
namespace {

absl::StatusOr<ToolResult> Export(const ExportFlags& flags) {
  std::optional<ProgressPrinter> printer;
  return ExportJob(flags, PrintingHooks("q4export", flags.progress, flags.quiet, &printer));
}

}  // namespace

int ExportMain(int argc, char** argv) {
  return RunTool<ExportFlags>("q4export", argc, argv, Export, OnInterrupt::kWait);
}

}  // namespace q4
