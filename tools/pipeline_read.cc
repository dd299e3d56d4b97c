// q4verify, q4inspect and q4export of pipelines.
#include <utility>

#include "formats/q4/shards.h"
#include "libconvert/components/components_issues.h"
#include "libconvert/components/export_pipeline.h"
#include "libconvert/components/inspect_pipeline.h"
#include "libconvert/components/verify_pipeline.h"
#include "libconvert/report/text.h"
#include "tools/pipeline.h"
#include "tools/terminal.h"

namespace q4 {
namespace {

// The first of `options` that was given; "" for none.
std::string_view FirstGiven(std::initializer_list<std::pair<bool, std::string_view>> options) {
  for (const auto& [given, name] : options) {
    if (given) return name;
  }
  return {};
}

}  // namespace

absl::StatusOr<ToolResult> VerifyPipelineFolder(FileSystem& fs, const VerifyFlags& flags, const std::string& folder,
                                                const VerifyOptions& options, const JobHooks& hooks) {
  const std::string_view single = FirstGiven({{!flags.junit.empty(), "--junit"},
                                              {!flags.markdown.empty(), "--markdown"},
                                              {!flags.html.empty(), "--html"},
                                              {!flags.baseline.empty(), "--baseline"},
                                              {!flags.evaluation.empty(), "--evaluation"}});
  if (!flags.adapter.empty()) {
    return Fail(kNotOfPipeline, folder, "--adapter",
                "none was merged into a pipeline; q4verify FOLDER/model.q4 verifies a component with it");
  }
  if (!single.empty()) return Fail(kNotOfPipeline, folder, single);
  Q4_ASSIGN_OR_RETURN(const PipelineVerifyReport report,
                      VerifyPipeline(fs, folder, options, flags.calibration, hooks.Begin()));
  ToolResult result;
  const bool all = flags.verbose > 0;
  result.errors = FindingLines(report.findings, report.finding_count, all);
  for (const PipelineVerifyReport::Component& component : report.components) {
    for (std::string& line : FindingLines(component.report.findings, component.report.finding_count, all)) {
      result.errors.push_back(std::move(line));
    }
  }
  if (!report.passed()) result.exit_code = ExitCode::kCheckFailed;
  if (flags.json) {
    result.output = PipelineVerifyJson(report);
  } else if (!flags.quiet) {
    result.output = PipelineVerifyText(report);
  }
  return result;
}

absl::StatusOr<ToolResult> InspectPipelineFolder(FileSystem& fs, const InspectFlags& flags, const std::string& folder,
                                                 const OpenOptions& open) {
  const std::string_view single = FirstGiven({{!flags.tensor.empty(), "--tensor"},
                                              {!flags.diff.empty(), "--diff"},
                                              {flags.lint, "--lint"},
                                              {flags.command, "--command"},
                                              {flags.card, "--card"},
                                              {flags.scales, "--scales"},
                                              {flags.content, "--content"}});
  if (!single.empty()) return Fail(kNotOfPipeline, folder, single);
  PipelineDetail detail;
  detail.each.stats = flags.stats;
  detail.each.hist = flags.hist;
  detail.each.files = flags.files;
  detail.each.tree = flags.tree;
  const bool selects = !flags.filter.empty() || !flags.sort.empty() || flags.top != 0;
  detail.each.errors = flags.sort == "nmse" || flags.sort == "sqnr";
  const bool wants_values = flags.stats || flags.hist;
  detail.selection = {flags.filter, flags.sort, flags.allow_unmatched, flags.top, wants_values};
  detail.each.list_tensors =
      flags.tensors || (selects && !wants_values && !flags.tree) || (flags.json && (wants_values || flags.tree));
  detail.components = detail.each.list_tensors || wants_values || flags.tree || flags.files;
  const bool summary = !detail.each.list_tensors && !wants_values && !flags.tree;
  Q4_ASSIGN_OR_RETURN(const PipelineInspectReport report,
                      InspectPipeline(fs, folder, open, summary ? InspectScope::kSummary : InspectScope::kTensors));
  if (const auto root = ParseQ4Root(flags.root); root && root != report.root) {
    return report.root ? Fail(kPipelinePinned, folder, {},
                              GotExpected("sha256:" + HexOf(*report.root), "sha256:" + HexOf(*root)))
                       : Fail(kNotOfPipeline, folder, "--root", "only a converted pipeline has a root");
  }
  ToolResult result;
  if (flags.json) {
    Q4_ASSIGN_OR_RETURN(result.output, PipelineInspectJson(report, detail));
  } else {
    Q4_ASSIGN_OR_RETURN(result.output, PipelineInspectText(report, detail, StyleOfStdout(flags.color)));
  }
  return result;
}

absl::StatusOr<ToolResult> ExportPipelineFolder(const ExportFlags& flags, const std::string& folder,
                                                const ExportOptions& options) {
  Q4_ASSIGN_OR_RETURN(const PipelineExportReport report,
                      ExportPipeline(PosixFileSystem(), folder, flags.output, options));
  ToolResult result;
  for (const std::string& warning : report.warnings) result.notes.push_back("warning: " + warning);
  if (flags.json) {
    result.output = PipelineExportJson(report);
  } else if (!flags.quiet) {
    result.output = PipelineExportText(report);
  }
  return result;
}

}  // namespace q4
