// q4convert: turns one checkpoint into one sealed .q4 container.  See docs/q4convert.md.
#include <optional>

#include "tools/convert_job.h"
#include "tools/mains.h"
#include "tools/options.h"
#include "tools/progress_printer.h"
#include "tools/tool_main.h"

namespace q4 {
namespace {

absl::StatusOr<ToolResult> Convert(const ConvertFlags& flags) {
  std::optional<ProgressPrinter> printer;
  return ConvertJob(flags, PrintingHooks("q4convert", flags.progress, flags.quiet, &printer));
}

}  // namespace

int ConvertMain(int argc, char** argv) {
  return RunTool<ConvertFlags>("q4convert", argc, argv, Convert, OnInterrupt::kEnd);
}

}  // namespace q4
