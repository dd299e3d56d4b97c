// q4verify: checks every byte of a .q4 container and, with --against, every code against the original. See
// docs/q4verify.md.
//
// Whatever can be wrong about the flags is found before the container is read, and report files are opened before it
// too: a run of an hour must not end in a directory that cannot be written.
#include <optional>
#include <string>
#include <utility>

#include "libconvert/base/machine.h"
#include "libconvert/components/components_issues.h"
#include "libconvert/components/seal.h"
#include "libconvert/report/json.h"
#include "libconvert/report/text.h"
#include "libconvert/verify/verify.h"
#include "tools/job_files.h"
#include "tools/mains.h"
#include "tools/options.h"
#include "tools/parts_job.h"
#include "tools/pipeline.h"
#include "tools/progress_printer.h"
#include "tools/report_files.h"
#include "tools/terminal.h"
#include "tools/tool_main.h"
#include "tools/verify_job.h"

namespace q4 {
namespace {

// Findings are results and not errors of the run: they are printed as error lines, but the reports are written all the
// same.
absl::StatusOr<ToolResult> Verify(const VerifyFlags& given) {
  JobFiles files(given.max_memory, &InterruptRequested());
  FileSystem& fs = files.fs();
  VerifyFlags flags = given;
  Q4_RETURN_IF_ERROR(files.Adopt(&flags.file));
  Q4_RETURN_IF_ERROR(files.Adopt(&flags.against));
  Q4_RETURN_IF_ERROR(files.Adopt(&flags.merge));
  flags.max_memory = files.MemoryForWork();
  Q4_ASSIGN_OR_RETURN(const std::string pipeline, SealedPipelineFolder(fs, flags.file));
  Q4_ASSIGN_OR_RETURN(const VerifyOptions options, VerifyOptionsFrom(flags, !pipeline.empty(), &InterruptRequested()));
  std::optional<ProgressPrinter> printer;
  const JobHooks hooks = PrintingHooks("q4verify", flags.progress, flags.quiet, &printer);
  Q4_ASSIGN_OR_RETURN(const std::optional<PartFound> part, PartBy(flags.part, flags.parts, flags.part_from_env));
  if (!pipeline.empty() && (part || !flags.merge.empty())) {
    return NoPartsOfPipeline(flags.file, part ? "--part" : "--merge");
  }
  if (!pipeline.empty()) return VerifyPipelineFolder(fs, flags, pipeline, options, hooks);
  if (part) {
    Q4_ASSIGN_OR_RETURN(ToolResult done, VerifyPartJob(fs, flags, options, *part, hooks));
    for (std::string& note : files.Notes()) done.notes.push_back(std::move(note));
    return done;
  }
  if (!flags.merge.empty()) return MergeVerifiedJob(fs, flags, options);
  ReportFiles reports;
  Q4_RETURN_IF_ERROR(reports.Open(fs, flags));
  Q4_ASSIGN_OR_RETURN(const VerifyReport report, VerifyModel(fs, flags.file, options, hooks.Begin()));
  ToolResult result;
  result.notes = files.Notes();
  if (flags.verbose > 0) {
    for (std::string& reason : LimitsOfRun(flags.threads, flags.max_memory).Reasons()) {
      result.notes.push_back(std::move(reason));
    }
  }
  result.errors = FindingLines(report.findings, report.finding_count, /*all=*/flags.verbose > 0);
  // A broken check is the weightier news; a report that is missing fails the run nonetheless.
  for (const absl::Status& status : reports.Write(report)) {
    result.errors.push_back(MessageOf(status));
    result.exit_code = ExitCodeOf(status);
  }
  if (!report.passed()) result.exit_code = ExitCode::kCheckFailed;
  if (flags.json) {
    result.output = VerifyReportJson(report);
  } else if (!flags.quiet) {
    result.output = VerifyReportText(report, StyleOfStdout("never"));
  }
  return result;
}

}  // namespace

int VerifyMain(int argc, char** argv) {
  return RunTool<VerifyFlags>("q4verify", argc, argv, Verify, OnInterrupt::kEnd);
}

}  // namespace q4
