// q4export: hands a .q4 model on to transformers, vLLM and other readers.  See docs/q4export.md.
//
// Flags become ExportOptions; libconvert/export does the rest, its checks of the output included.
#include <string>
#include <utility>

#include "libconvert/base/machine.h"
#include "libconvert/export/export.h"
#include "tools/export_job.h"
#include "tools/mains.h"
#include "tools/options.h"
#include "tools/progress_printer.h"
#include "tools/tool_main.h"

namespace q4 {
namespace {

// The printer must outlive the export, which calls it.
absl::StatusOr<ToolResult> Export(const ExportFlags& flags) {
  ProgressPrinter printer("q4export", flags.progress, flags.quiet);
  ExportOptions options = ExportOptionsFrom(flags);
  options.progress = printer.Callback();
  options.cancel = &InterruptRequested();
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

int ExportMain(int argc, char** argv) { return RunTool<ExportFlags>("q4export", argc, argv, Export); }

}  // namespace q4
