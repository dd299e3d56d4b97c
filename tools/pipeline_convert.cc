// The same order of things as in convert_job.cc: everything that can be refused comes before devices and weights.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <optional>
#include <utility>

#include "formats/publish/atomic_file.h"
#include "libconvert/base/machine.h"
#include "libconvert/components/budget_pipeline.h"
#include "libconvert/components/component_settings.h"
#include "libconvert/components/components_issues.h"
#include "libconvert/components/convert_pipeline.h"
#include "libconvert/components/pipeline_report.h"
#include "libconvert/report/text.h"
#include "tools/budget_job.h"
#include "tools/compare_job.h"
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
absl::Status CheckPipelineReport(FileSystem& fs, const ConvertFlags& flags, const PipelineSource& source,
                                 const PipelineCalibrations& calibrations) {
  if (flags.report.empty()) return absl::OkStatus();
  ReportRules rules(fs);
  for (const InputFile& input : source.inputs()) rules.AddInput(input.path, input.identity);
  rules.AddInput(flags.recipe);
  rules.AddInput(flags.gate);
  for (const auto& [component, calibration] : calibrations) rules.AddInput(calibration->path());
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

// --report and --json of a run; of one whose gates are broken the lines for stderr, too.
absl::StatusOr<ToolResult> ResultOf(FileSystem& fs, const ConvertFlags& flags, const PipelineReport& report,
                                    double seconds) {
  ToolResult result;
  if (!report.passed()) {
    result.errors = FindingLines(report.gate_findings, report.gate_finding_count, /*all=*/flags.verbose > 0);
    result.findings = report.gate_findings;
    result.exit_code = ExitCode::kCheckFailed;
  }
  const std::string document =
      flags.json || !flags.report.empty() ? PipelineReportJson(report, seconds) : std::string();
  if (!flags.report.empty()) Q4_RETURN_IF_ERROR(WriteFileAtomically(fs, flags.report, document, /*replace=*/true));
  if (flags.json) {
    result.output = document;
  } else if (!flags.quiet && report.passed()) {
    result.output = PipelineReportText(report, seconds);
  }
  return result;
}

absl::StatusOr<ToolResult> PipelineDryRun(JobFiles& files, const ConvertFlags& flags, const PipelineSource& source,
                                          PipelinePlan plan, const ConvertOptions& options,
                                          const std::vector<Gate>& gates, CancelFlag* cancel) {
  FileSystem& fs = files.fs();
  ToolResult result;
  // Of a plan alone nobody asks what lies where.
  const bool named = std::find(flags.given.begin(), flags.given.end(), "--output") != flags.given.end();
  const absl::Status checked =
      named ? CheckPipelineOutput(fs, source, flags.output, flags.force, cancel).status() : absl::OkStatus();
  if (IsInTheWay(checked)) {
    plan.notes.insert(plan.notes.begin(), WouldFail(checked));
  } else {
    Q4_RETURN_IF_ERROR(checked);
  }
  const PipelineReport gated = CheckPipelineGates(source, plan, gates, flags.output);
  if (!gated.passed()) return ResultOf(fs, flags, gated, 0);
  for (Note& note : LimitsLeftOpen(gates)) plan.notes.push_back(std::move(note));
  const RunLimits limits = LimitsOfRun(flags.threads, flags.max_memory);
  for (std::string& line : LinesOf(plan.notes)) result.notes.push_back(std::move(line));
  if (flags.verbose > 0) {
    for (std::string& reason : limits.Reasons()) result.notes.push_back(std::move(reason));
  }
  const std::string document =
      flags.json || !flags.report.empty()
          ? PipelinePlanJson(source, plan, options, limits.threads, flags.output, files.Bounds())
          : std::string();
  if (flags.json) {
    result.output = document;
  } else if (!flags.quiet) {
    result.output =
        PipelinePlanText(source, plan, options, limits.threads, flags.verbose > 0, flags.output, files.Bounds());
  }
  if (!flags.report.empty()) Q4_RETURN_IF_ERROR(WriteFileAtomically(fs, flags.report, document, /*replace=*/true));
  return result;
}

}  // namespace

absl::StatusOr<ToolResult> ConvertPipeline(JobFiles& files, const ConvertFlags& flags, const std::string& folder,
                                           const std::string& typed, const DeviceChoice& device,
                                           const ConvertOptions& options, std::vector<Gate> gates,
                                           const JobHooks& hooks) {
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
  ComponentSettings settings;
  if (!flags.calibration.empty()) {
    Q4_ASSIGN_OR_RETURN(settings.calibrations, OpenCalibrations(fs, flags.calibration, source));
  }
  if (flags.compare) {
    ConvertFlags shown = flags;
    shown.input = typed;
    Q4_ASSIGN_OR_RETURN(const PipelineSources sources, SourcesOf(fs, source, options, settings));
    Q4_ASSIGN_OR_RETURN(ToolResult result, CompareJob(shown, sources.sources, options, device, files.Bounds(), hooks));
    for (const Note& note : sources.notes) result.notes.push_back(note.text);
    return result;
  }
  Q4_ASSIGN_OR_RETURN(PipelinePlan plan, PlanPipeline(fs, source, options, settings));
  Q4_RETURN_IF_ERROR(CheckPipelineReport(fs, asked, source, settings.calibrations));
  if (!flags.report.empty()) Q4_RETURN_IF_ERROR(TryReport(fs, flags.report));
  ProgressCallback progress;
  if (ChoosesByBudget(flags)) {
    // As for a checkpoint: what can be refused is refused before what takes long.
    if (!flags.dry_run) {
      Q4_RETURN_IF_ERROR(CheckPipelineOutput(fs, source, output, flags.force, hooks.cancel).status());
    }
    progress = hooks.Begin();
    MeasureProgress measure(progress, flags.dry_run ? 0 : plan.source_bytes());
    Q4_ASSIGN_OR_RETURN(
        plan, PlanPipelineByBudget(fs, source, options, RequestOf(flags),
                                   MeasureRunOf(flags, measure.Measuring(), files.Bounds(), hooks.cancel), &settings));
    for (const PlannedComponent& component : plan.components) {
      if (std::string note = NoteOfChoice(component.plan); !note.empty()) {
        plan.notes.push_back({false, component.component->name + ": " + note});
      }
    }
    progress = measure.Converting();
  }
  if (flags.dry_run) return PipelineDryRun(files, asked, source, std::move(plan), options, gates, hooks.cancel);
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
  run.progress = ChoosesByBudget(flags) ? progress : hooks.Begin();
  run.cancel = hooks.cancel;
  run.engine = chosen.engine.get();
  absl::StatusOr<PipelineReport> converted = RunPipelineConversion(fs, source, plan, run, output);
  if (device.kind == DeviceChoice::Kind::kAuto && IsDeviceFailure(converted.status())) {
    chosen.note = "converting again on the CPU: " + MessageOf(converted.status());
    run.engine = nullptr;
    converted = RunPipelineConversion(fs, source, plan, run, output);
  }
  Q4_ASSIGN_OR_RETURN(const PipelineReport report, std::move(converted));
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  const double seconds = took.count();
  Q4_ASSIGN_OR_RETURN(ToolResult result, ResultOf(fs, flags, report, seconds));
  if (!report.passed()) return result;
  result.notes = files.Notes();
  if (!chosen.note.empty()) result.notes.push_back(chosen.note);
  result.notes.insert(result.notes.end(), report.notes.begin(), report.notes.end());
  for (const std::string& warning : report.warnings) result.notes.push_back("warning: " + warning);
  if (flags.verbose > 0 && !report.components.empty()) {
    const ConvertReport& last = report.components.back().report;
    result.notes.insert(result.notes.end(), last.limits.begin(), last.limits.end());
  }
  return result;
}

}  // namespace q4
