// q4verify: checks every byte of a .q4 container and, with --against, every code against the original.
// See docs/q4verify.md.
#include "libconvert/report_json.h"
#include "libconvert/report_text.h"
#include "libconvert/verify.h"
#include "tools/options.h"
#include "tools/progress_printer.h"
#include "tools/report_files.h"
#include "tools/tool_main.h"
#include "tools/usage_issues.h"

namespace q4 {
namespace {

VerifyOptions OptionsFrom(const VerifyFlags& flags) {
  VerifyOptions options;
  options.against = flags.against;
  options.source_options.follow_symlinks = flags.follow_symlinks;
  options.threads = flags.threads;
  options.max_memory = flags.max_memory;
  options.max_nmse = flags.max_nmse;
  options.min_sqnr_db = flags.min_sqnr;
  options.max_abs_error = flags.max_abs_error;
  options.cancel = &InterruptRequested();
  return options;
}

absl::StatusOr<ToolResult> Verify(const VerifyFlags& flags) {
  if (!flags.gate.empty()) return Fail(kNotYetGate, {}, "--gate");
  ReportFiles reports;
  Q4_RETURN_IF_ERROR(reports.Open(PosixFileSystem(), flags));
  ProgressPrinter printer("q4verify", flags.progress, flags.quiet);
  Q4_ASSIGN_OR_RETURN(const VerifyReport report,
                      VerifyModel(PosixFileSystem(), flags.file, OptionsFrom(flags), printer.Callback()));
  ToolResult result;
  for (const VerifyFinding& finding : report.findings) result.errors.push_back(finding.message);
  if (report.finding_count > report.findings.size()) {
    result.errors.push_back("and " + std::to_string(report.finding_count - report.findings.size()) + " more problems");
  }
  // A broken check is the weightier news; a report that is missing fails the run nonetheless.
  for (const absl::Status& status : reports.Write(report)) {
    result.errors.push_back(MessageOf(status));
    result.exit_code = ExitCodeOf(status);
  }
  if (!report.passed()) result.exit_code = ExitCode::kCheckFailed;
  if (flags.json) {
    result.output = VerifyReportJson(report);
  } else if (!flags.quiet) {
    result.output = VerifyReportText(report);
  }
  return result;
}

}  // namespace
}  // namespace q4

int main(int argc, char** argv) { return q4::RunTool<q4::VerifyFlags>("q4verify", argc, argv, q4::Verify); }
