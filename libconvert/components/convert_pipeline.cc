// Order of things: look at the output, make and lock the partial folder, convert each component into it or find it
// finished, copy what is carried, digest, seal, look at the output again, publish.
#include "libconvert/components/convert_pipeline.h"

#include <algorithm>
#include <memory>
#include <set>
#include <utility>

#include "fmt/format.h"
#include "formats/base/status.h"
#include "formats/base/text.h"
#include "formats/publish/input_files.h"
#include "formats/q4/shards.h"
#include "libconvert/base/machine.h"
#include "libconvert/base/version.h"
#include "libconvert/components/components_issues.h"
#include "libconvert/components/finished.h"
#include "libconvert/components/place.h"
#include "libconvert/convert/resume.h"
#include "libconvert/judge/gate_judge.h"
#include "libconvert/policy/unmatched.h"

namespace q4 {
namespace {

constexpr char kContainerName[] = "model.q4";

std::string ContainerOf(const std::string& component) { return component + "/" + kContainerName; }

// Of a pipeline that gets no output, because `done` breaks a gate.
void EndBroken(PipelineReport::Component done, PipelineReport* report) {
  report->gate_findings = done.report.gate_findings;
  report->gate_finding_count = done.report.gate_finding_count;
  report->components.push_back(std::move(done));
}

// One run: what its steps share.
class PipelineConversion {
 public:
  PipelineConversion(FileSystem& fs, const PipelineSource& source, const PipelinePlan& plan, const RunOptions& run,
                     const std::string& output)
      : fs_(fs), source_(source), plan_(plan), run_(run), output_(output) {}

  absl::StatusOr<PipelineReport> Run() {
    Q4_ASSIGN_OR_RETURN(DirectoryUse found, CheckPipelineOutput(fs_, source_, output_, run_.force, run_.cancel));
    if (PipelineReport early = CheckPipelineGates(source_, plan_, run_.gates, output_); !early.passed()) {
      return early;
    }
    found.resumes = run_.resume;
    Q4_ASSIGN_OR_RETURN(directory_, AtomicDirectory::Create(fs_, output_, found));
    report_.output = output_;
    report_.class_name = source_.class_name;
    report_.choice_text = plan_.choice_text;
    report_.choice = plan_.choice;
    for (const Note& note : plan_.notes) (note.warning ? report_.warnings : report_.notes).push_back(note.text);
    const absl::Status status = Fill();
    // What was written is worth keeping only where the next run finds it.
    if (!status.ok() && IsWorthResuming(status) && directory_->locked()) directory_->LeavePartial();
    Q4_RETURN_IF_ERROR(status);
    if (!report_.passed()) return std::move(report_);
    Q4_RETURN_IF_ERROR(Publish());
    return std::move(report_);
  }

 private:
  absl::Status Fill() {
    for (const PlannedComponent& planned : plan_.components) {
      Q4_RETURN_IF_ERROR(Convert(planned));
      if (!report_.passed()) return absl::OkStatus();
      done_bytes_ += planned.plan.source_bytes;
    }
    for (const CompanionFile& file : source_.files) {
      Q4_ASSIGN_OR_RETURN(SealedFile copied, CopyCarried(fs_, file, file.name, directory_.get(), run_.cancel));
      report_.source_bytes += copied.bytes;
      report_.output_bytes += copied.bytes;
      report_.carried.push_back(std::move(copied));
    }
    return absl::OkStatus();
  }

  absl::Status Convert(const PlannedComponent& planned) {
    const PipelineComponent& component = *planned.component;
    Q4_ASSIGN_OR_RETURN(const std::string container, directory_->PathFor(ContainerOf(component.name)));
    Q4_ASSIGN_OR_RETURN(const Sha256 run_id, RunIdOf(fs_, planned.plan));
    PipelineReport::Component done{component.name, component.class_name, false, {}};
    std::optional<ConvertReport> finished;
    if (run_.resume) {
      finished =
          FindFinished(fs_, container, run_id, *component.checkpoint, planned.plan, ThreadsOrDefault(run_.threads));
    }
    if (finished) {
      done.resumed = true;
      done.report = *std::move(finished);
      JudgeAgain(container, &done.report);
    } else {
      Q4_RETURN_IF_ERROR(RemoveFinishedNote(fs_, container));
      RunOptions run = run_;
      run.force = true;  // of an earlier run that was another one
      run.progress = ProgressOf(planned);
      absl::StatusOr<ConvertReport> converted =
          RunConversion(fs_, *component.checkpoint, planned.plan, planned.options, run, container);
      if (!converted.ok()) return InFile(converted.status(), component.name);
      done.report = *std::move(converted);
    }
    if (!done.report.gate_findings.empty()) {
      // The container is named as it would have been published.
      for (VerifyFinding& finding : done.report.gate_findings) {
        const std::string partial = Printable(directory_->partial_path(), 4096);
        if (finding.message.starts_with(partial)) finding.message.replace(0, partial.size(), Printable(output_, 4096));
      }
      EndBroken(std::move(done), &report_);
      return absl::OkStatus();
    }
    if (!done.resumed && run_.resume) {
      Q4_RETURN_IF_ERROR(WriteFinishedNote(fs_, container, run_id, *component.checkpoint, done.report));
    }
    report_.source_bytes += done.report.source_bytes;
    report_.output_bytes += done.report.output_bytes;
    report_.components.push_back(std::move(done));
    return absl::OkStatus();
  }

  // The gates may be others than those of the run that has finished it.
  void JudgeAgain(const std::string& container, ConvertReport* report) const {
    if (run_.gates.empty()) return;
    std::vector<const Q4Index*> indexes;
    for (const ConvertedShard& shard : report->shards) indexes.push_back(&shard.index);
    VerifyReport judged = JudgeConversion(run_.gates, indexes, container);
    report->gates = std::move(judged.gates);
    report->gate_findings = std::move(judged.findings);
    report->gate_finding_count = judged.finding_count;
  }

  // Of all components together.
  ProgressCallback ProgressOf(const PlannedComponent& planned) const {
    if (!run_.progress) return {};
    const std::uint64_t before = done_bytes_, total = plan_.source_bytes();
    return [this, before, total, own = planned.plan.source_bytes](const Progress& progress) {
      Progress whole = progress;
      whole.done_bytes = before + std::min(progress.done_bytes, own);
      whole.total_bytes = total;
      run_.progress(whole);
    };
  }

  // The paths of the containers become those of the output, and the folder gets its name.
  absl::Status Publish() {
    absl::StatusOr<PipelineSeal> seal = Seal();
    if (!seal.ok()) {
      if (IsWorthResuming(seal.status()) && directory_->locked()) directory_->LeavePartial();
      return seal.status();
    }
    const std::string text = EncodePipelineSeal(*seal);
    report_.root = Sha256Of({reinterpret_cast<const std::uint8_t*>(text.data()), text.size()});
    Q4_RETURN_IF_ERROR(directory_->WriteFile(kPipelineSealName, text));
    report_.output_bytes += text.size();
    report_.left_out = source_.left_out;
    Q4_ASSIGN_OR_RETURN(const DirectoryUse use, CheckPipelineOutput(fs_, source_, output_, run_.force, run_.cancel));
    Q4_RETURN_IF_ERROR(directory_->Publish(use, {kPipelineIndexName, kPipelineSealName}));
    if (!directory_->whole()) {
      report_.warnings.push_back(
          "the output cannot be published by one rename, so its files were renamed one by one, q4-pipeline.json last");
    }
    return absl::OkStatus();
  }

  absl::StatusOr<PipelineSeal> Seal() {
    PipelineSeal seal;
    seal.tool_version = kQ4Version;
    seal.class_name = source_.class_name;
    std::vector<std::string> containers;
    for (const PipelineComponent& component : source_.components) {
      seal.components.push_back({component.name, component.library, component.class_name, "", ""});
    }
    for (PipelineReport::Component& done : report_.components) {
      const std::string prefix = done.name + "/";
      std::vector<Sha256> roots;
      for (ConvertedShard& shard : done.report.shards) {
        containers.push_back(prefix + BaseNameOf(shard.path));
        shard.path = JoinPath(output_, containers.back());
        roots.push_back(shard.seal.root);
      }
      std::string container = ContainerOf(done.name);
      if (!done.report.index_path.empty()) {
        container = prefix + BaseNameOf(done.report.index_path);
        containers.push_back(container);
        done.report.index_path = JoinPath(output_, container);
      }
      const auto sealed = std::find_if(seal.components.begin(), seal.components.end(),
                                       [&](const SealedComponent& other) { return other.name == done.name; });
      sealed->container = container;
      sealed->root = HexOf(Q4ModelRoot(roots));
    }
    for (const std::string& name : containers) Q4_RETURN_IF_ERROR(directory_->Adopt(name));
    Q4_ASSIGN_OR_RETURN(seal.files, DigestFiles(fs_, directory_->partial_path(), containers,
                                                ThreadsOrDefault(run_.threads), run_.cancel));
    seal.files.insert(seal.files.end(), report_.carried.begin(), report_.carried.end());
    std::sort(seal.files.begin(), seal.files.end(),
              [](const SealedFile& a, const SealedFile& b) { return a.path < b.path; });
    for (const LeftOutFile& file : source_.left_out) {
      if (file.recorded) seal.left_out.push_back({file.name, file.reason});
    }
    return seal;
  }

  FileSystem& fs_;
  const PipelineSource& source_;
  const PipelinePlan& plan_;
  const RunOptions& run_;
  const std::string output_;
  std::unique_ptr<AtomicDirectory> directory_;
  std::uint64_t done_bytes_ = 0;
  PipelineReport report_;
};

}  // namespace

PipelineReport CheckPipelineGates(const PipelineSource& source, const PipelinePlan& plan,
                                  const std::vector<Gate>& gates, const std::string& output) {
  PipelineReport report;
  report.output = output;
  report.class_name = source.class_name;
  report.left_out = source.left_out;
  for (const Note& note : plan.notes) (note.warning ? report.warnings : report.notes).push_back(note.text);
  for (const PlannedComponent& planned : plan.components) {
    const PipelineComponent& component = *planned.component;
    ConvertReport checked = CheckGates(*component.checkpoint, planned.plan, planned.options, gates, component.name);
    if (checked.gate_findings.empty()) continue;
    EndBroken({component.name, component.class_name, false, std::move(checked)}, &report);
    break;
  }
  return report;
}

std::uint64_t PipelinePlan::source_bytes() const {
  std::uint64_t bytes = 0;
  for (const PlannedComponent& planned : components) bytes += planned.plan.source_bytes;
  return bytes;
}

std::uint64_t PipelinePlan::output_bytes() const {
  std::uint64_t bytes = carried_bytes;
  for (const PlannedComponent& planned : components) bytes += planned.plan.output_bytes;
  return bytes;
}

absl::Status CheckPipelinePatterns(const PipelineSource& source, const ConvertOptions& options) {
  if (options.policy.allow_unmatched) return absl::OkStatus();
  std::vector<SourceTensor> tensors;
  for (const PipelineComponent& component : source.components) {
    if (!component.quantized) continue;
    tensors.insert(tensors.end(), component.checkpoint->tensors().begin(), component.checkpoint->tensors().end());
  }
  // Whether a rule that matches has an effect is asked component by component.
  const std::vector<Decision> decisions(tensors.size(), Decision{.quantize = true, .settings = {}, .reason = {}});
  return CheckPatterns(tensors, decisions, options.policy).status();
}

absl::StatusOr<PipelinePlan> PlanPipeline(FileSystem& fs, const PipelineSource& source, const ConvertOptions& options,
                                          const ComponentSettings& settings) {
  Q4_RETURN_IF_ERROR(CheckPipelinePatterns(source, options));
  ConvertOptions each = options;
  each.policy.allow_unmatched = true;
  PipelinePlan plan;
  plan.notes = source.notes;
  for (const PipelineComponent& component : source.components) {
    if (!component.quantized) continue;
    Q4_ASSIGN_OR_RETURN(const ModelConfigs configs, component.checkpoint->Configs(fs));
    ConvertOptions own = OptionsOf(component.name, each, settings, &plan.notes);
    absl::StatusOr<ConversionPlan> planned = PlanConversion(*component.checkpoint, configs, own);
    if (!planned.ok()) return InFile(planned.status(), component.name);
    for (const Note& note : planned->notes) {
      // The list of the pipeline has them, with those of the other components. A warning is said once more.
      if (!note.warning && note.text.starts_with(kLeftOutNote)) continue;
      plan.notes.push_back({note.warning, component.name + ": " + note.text});
    }
    plan.components.push_back({&component, std::move(own), *std::move(planned)});
  }
  for (const CompanionFile& file : source.files) plan.carried_bytes += file.size;
  return plan;
}

absl::StatusOr<DirectoryUse> CheckPipelineOutput(FileSystem& fs, const PipelineSource& source,
                                                 const std::string& output, bool force, CancelFlag* cancel) {
  InputFiles inputs;
  for (const InputFile& input : source.inputs()) inputs.Add(input.path, input.identity);
  Q4_ASSIGN_OR_RETURN(const PathInfo from, fs.Stat(source.directory));
  Q4_ASSIGN_OR_RETURN(const PathInfo to, fs.Stat(output));
  if (to.exists && to.identity == from.identity) return Fail(kPipelineIsInput, output, {});
  return CheckPipelinePlace(fs, output, SealRecord(), inputs, force, cancel);
}

absl::StatusOr<PipelineReport> RunPipelineConversion(FileSystem& fs, const PipelineSource& source,
                                                     const PipelinePlan& plan, const RunOptions& run,
                                                     const std::string& output) {
  return PipelineConversion(fs, source, plan, run, output).Run();
}

}  // namespace q4
