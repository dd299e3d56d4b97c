// The same order of things as in convert_job.cc: everything that can be refused comes before devices and weights.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <optional>
#include <utility>

#include "formats/publish/atomic_file.h"
#include "libconvert/base/machine.h"
#include "libconvert/components/components_issues.h"
#include "libconvert/components/convert_pipeline.h"
#include "libconvert/components/pipeline_report.h"
#include "libconvert/report/text.h"
#include "tools/convert_job.h"
#include "tools/pipeline.h"
#include "tools/report_files.h"
#include "tools/usage_issues.h"

namespace q4 {
namespace {

// "a,b" -> a, b. Whether there are such components is asked of the pipeline.
std::optional<std::vector<std::string>> ChosenComponents(const std::string& text) {
  if (text.empty()) return std::nullopt;
  std::vector<std::string> names;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    names.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return names;
}

// The report lies in no folder that is read, cleared or written: there it would be a part of a pipeline.
absl::Status CheckPipelineReport(FileSystem& fs, const ConvertFlags& flags, const PipelineSource& source) {
  if (flags.report.empty()) return absl::OkStatus();
  ReportRules rules(fs);
  for (const InputFile& input : source.inputs()) rules.AddInput(input.path, input.identity);
  rules.AddInput(flags.recipe);
  rules.AddInput(flags.gate);
  rules.AddOutput(flags.output);
  Q4_RETURN_IF_ERROR(rules.Check(flags.report));
  std::vector<std::string> folders = {source.directory, flags.output};
  for (const PipelineComponent& component : source.components) {
    folders.push_back(JoinPath(source.directory, component.name));
  }
  Q4_ASSIGN_OR_RETURN(const PathInfo place, fs.Stat(DirectoryOf(flags.report)));
  for (const std::string& folder : folders) {
    Q4_ASSIGN_OR_RETURN(const PathInfo info, fs.Stat(folder));
    if (info.exists && info.identity == place.identity) return Fail(kReportIsCompanion, flags.report, {});
  }
  return absl::OkStatus();
}

ToolResult GateResult(const std::vector<VerifyFinding>& findings, std::uint64_t count, bool all) {
  ToolResult result;
  result.errors = FindingLines(findings, count, all);
  result.findings = findings;
  result.exit_code = ExitCode::kCheckFailed;
  return result;
}

absl::StatusOr<ToolResult> PipelineDryRun(JobFiles& files, const ConvertFlags& flags, const PipelineSource& source,
                                          const PipelinePlan& plan, const ConvertOptions& options,
                                          const std::vector<Gate>& gates, CancelFlag* cancel) {
  FileSystem& fs = files.fs();
  ToolResult result;
  // Of a plan alone nobody asks what lies where.
  const bool named = std::find(flags.given.begin(), flags.given.end(), "--output") != flags.given.end();
  const absl::Status checked =
      named ? CheckPipelineOutput(fs, source, flags.output, flags.force, cancel).status() : absl::OkStatus();
  if (IsInTheWay(checked)) {
    result.notes.push_back("warning: a run would fail: " + MessageOf(checked));
  } else {
    Q4_RETURN_IF_ERROR(checked);
  }
  for (const PlannedComponent& planned : plan.components) {
    const ConvertReport gated =
        CheckGates(*planned.component->checkpoint, planned.plan, options, gates, planned.component->name);
    if (!gated.gate_findings.empty()) return GateResult(gated.gate_findings, gated.gate_finding_count, false);
  }
  const RunLimits limits = LimitsOfRun(flags.threads, flags.max_memory);
  for (const Note& note : plan.notes) result.notes.push_back(note.warning ? "warning: " + note.text : note.text);
  if (flags.verbose > 0) {
    for (std::string& reason : limits.Reasons()) result.notes.push_back(std::move(reason));
  }
  const std::string document = flags.json || !flags.report.empty()
                                   ? PipelinePlanJson(source, plan, options, limits.threads, files.Bounds())
                                   : std::string();
  result.output = flags.json
                      ? document
                      : PipelinePlanText(source, plan, options, limits.threads, flags.verbose > 0, files.Bounds());
  if (!flags.report.empty()) Q4_RETURN_IF_ERROR(WriteFileAtomically(fs, flags.report, document, /*replace=*/true));
  return result;
}

}  // namespace

absl::StatusOr<ToolResult> ConvertPipeline(JobFiles& files, const ConvertFlags& flags, const std::string& folder,
                                           const DeviceChoice& device, const ConvertOptions& options,
                                           std::vector<Gate> gates, const JobHooks& hooks) {
  FileSystem& fs = files.fs();
  std::string output = flags.output;
  // The partial folder lies beside the output, not in it.
  while (output.size() > 1 && output.back() == '/') output.pop_back();
  ConvertFlags asked = flags;
  asked.output = output;
  OpenOptions open;
  open.follow_symlinks = flags.follow_symlinks;
  open.allow_empty = flags.allow_empty;
  open.take_over = true;
  Q4_ASSIGN_OR_RETURN(const PipelineSource source, OpenPipeline(fs, folder, open, ChosenComponents(flags.components)));
  Q4_ASSIGN_OR_RETURN(const PipelinePlan plan, PlanPipeline(fs, source, options));
  Q4_RETURN_IF_ERROR(CheckPipelineReport(fs, asked, source));
  if (!flags.report.empty()) Q4_RETURN_IF_ERROR(TryReport(fs, flags.report));
  if (flags.dry_run) return PipelineDryRun(files, asked, source, plan, options, gates, hooks.cancel);
  std::string_view cores_alone;
  for (const PlannedComponent& component : plan.components) {
    if (cores_alone.empty()) cores_alone = EncoderOfCoresAlone(component.plan);
  }
  Q4_ASSIGN_OR_RETURN(ChosenEngine chosen, OpenDevicesFor(cores_alone, device, options.effort));
  const auto begin = std::chrono::steady_clock::now();
  RunOptions run;
  run.threads = flags.threads;
  run.max_memory = flags.max_memory;
  run.bound_of = files.Bounds();
  run.force = flags.force;
  run.resume = !flags.no_resume;
  run.pace.bytes = flags.sync_every;
  run.gates = std::move(gates);
  run.progress = hooks.Begin();
  run.cancel = hooks.cancel;
  run.engine = chosen.engine.get();
  absl::StatusOr<PipelineReport> converted = RunPipelineConversion(fs, source, plan, options, run, output);
  if (device.kind == DeviceChoice::Kind::kAuto && IsDeviceFailure(converted.status())) {
    chosen.note = "converting again on the CPU: " + MessageOf(converted.status());
    run.engine = nullptr;
    converted = RunPipelineConversion(fs, source, plan, options, run, output);
  }
  Q4_ASSIGN_OR_RETURN(const PipelineReport report, std::move(converted));
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  const double seconds = took.count();
  if (!report.gate_findings.empty()) {
    return GateResult(report.gate_findings, report.gate_finding_count, flags.verbose > 0);
  }
  ToolResult result;
  result.notes = files.Notes();
  if (!chosen.note.empty()) result.notes.push_back(chosen.note);
  result.notes.insert(result.notes.end(), report.notes.begin(), report.notes.end());
  for (const std::string& warning : report.warnings) result.notes.push_back("warning: " + warning);
  if (flags.verbose > 0 && !report.components.empty()) {
    const ConvertReport& last = report.components.back().report;
    result.notes.insert(result.notes.end(), last.limits.begin(), last.limits.end());
  }
  if (!flags.report.empty()) {
    Q4_RETURN_IF_ERROR(WriteFileAtomically(fs, flags.report, PipelineReportJson(report, seconds), /*replace=*/true));
  }
  if (flags.json) {
    result.output = PipelineReportJson(report, seconds);
  } else if (!flags.quiet) {
    result.output = PipelineReportText(report, seconds);
  }
  return result;
}

}  // namespace q4
