// RunConversion: find and check the output, run the pipeline, judge, publish. What may fail for a user's mistake comes
// before what takes long; gates come before publishing, since an output that breaks one must never have its name.
//
// After an error, ConversionOutput decides whether partial files stay for another run; when it is destroyed without
// that, they go.
#include "libconvert/convert/convert.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <utility>

#include "formats/base/digest.h"
#include "formats/q4/shards.h"
#include "libconvert/base/machine.h"
#include "libconvert/base/run_issues.h"
#include "libconvert/convert/conversion.h"
#include "libconvert/convert/convert_issues.h"
#include "libconvert/convert/memory_needs.h"
#include "libconvert/convert/output.h"
#include "libconvert/convert/pipeline.h"
#include "libconvert/judge/gate_judge.h"

namespace q4 {
namespace {

// Converts into `output`, which is found and checked. `path`: the name of the output as asked for.
absl::StatusOr<ConvertReport> ConvertInto(ConversionOutput& output, const Conversion& conversion, unsigned threads,
                                          const std::string& path) {
  Q4_RETURN_IF_ERROR(output.Open(threads));
  for (const std::string& note : output.notes()) {
    if (conversion.run.tell) conversion.run.tell(note);
  }
  // Opening is not part of the time: it can mean to read what an earlier run has written.
  const auto begin = std::chrono::steady_clock::now();
  Q4_ASSIGN_OR_RETURN(PipelineResult result,
                      RunPipeline(conversion, output.start(), output.writers(), output.journal()));
  ConvertReport report;
  for (const PlannedShard& shard : conversion.plan.shards) {
    report.provenance.push_back(ProvenanceJson(conversion.checkpoint, conversion.options, shard.source_files,
                                               result.source_digests, HexOf(output.run_id())));
  }
  report.source_bytes = conversion.plan.stored_bytes;
  report.peak_budget_bytes = result.peak_budget_bytes;
  // What was found first, then what happened.
  for (const Note& note : conversion.plan.notes) (note.warning ? report.warnings : report.notes).push_back(note.text);
  report.left_out = conversion.checkpoint.left_out();
  report.choice_text = conversion.plan.choice_text;
  report.choice = conversion.plan.choice;
  report.notes.insert(report.notes.end(), output.notes().begin(), output.notes().end());
  report.warnings.insert(report.warnings.end(), output.warnings().begin(), output.warnings().end());
  report.notes.insert(report.notes.end(), result.notes.begin(), result.notes.end());
  Q4_ASSIGN_OR_RETURN(report.shards, output.Finish(report.provenance));
  for (const ConvertedShard& shard : report.shards) report.output_bytes += shard.seal.file_bytes;
  if (report.shards.size() > 1) report.index_path = Q4ShardIndexName(path);
  if (!conversion.run.gates.empty()) {
    // On the indexes as they were written, of all shards together: gates are about the model.
    std::vector<const Q4Index*> indexes;
    for (const ConvertedShard& shard : report.shards) indexes.push_back(&shard.index);
    VerifyReport judged = JudgeConversion(conversion.run.gates, indexes, path);
    report.gates = std::move(judged.gates);
    report.gate_findings = std::move(judged.findings);
    report.gate_finding_count = judged.finding_count;
    if (!report.gate_findings.empty()) return report;  // the caller destroys `output`, and with it what was written
  }
  const auto written = std::chrono::steady_clock::now();
  Q4_RETURN_IF_ERROR(output.Publish(report.shards, result.digest_states));
  report.convert_seconds = std::chrono::duration<double>(written - begin).count();
  report.publish_seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - written).count();
  return report;
}

}  // namespace

absl::StatusOr<std::vector<std::string>> SetLimits(const Checkpoint& checkpoint, const ConversionPlan& plan,
                                                   const ConvertOptions& options, RunOptions* run) {
  RunLimits limits = LimitsOfRun(run->threads, run->max_memory);
  // An engine's ring grows with the bound, but by less: what is enough is asked again of itself, until it stays.
  const auto least = [&] {
    std::uint64_t enough = limits.max_memory, need = 0;
    while ((need = MinimumPipelineMemory(checkpoint, plan, options, limits.threads, run->engine, enough)) > enough) {
      enough = need;
    }
    return enough;
  };
  while (limits.threads_by_default && limits.threads > 1 && limits.max_memory < least()) {
    limits.threads /= 2;
    limits.threads_reason = fmt::format("--max-memory of {} MiB feeds no more", limits.max_memory >> 20);
  }
  if (const std::uint64_t enough = least(); !RaiseMemoryTo(enough, &limits)) {
    const auto given = [&](std::uint64_t bytes) { return run->bound_of ? run->bound_of(bytes) : bytes; };
    const std::string detail =
        GotExpected(fmt::format("{} bytes", given(limits.max_memory)), fmt::format("at least {} bytes", given(enough)));
    if (!limits.memory_by_default) return Fail(kMemoryTooSmall, checkpoint.path(), "--max-memory", detail);
    return Fail(kLimitOfMachine, checkpoint.path(), "--max-memory",
                fmt::format("{}; the default is {}; give the process more memory", detail, limits.memory_reason));
  }
  run->threads = limits.threads;
  run->max_memory = limits.max_memory;
  return limits.Reasons();
}

ConvertReport CheckGates(const Checkpoint& checkpoint, const ConversionPlan& plan, const ConvertOptions& options,
                         const std::vector<Gate>& gates, const std::string& output) {
  ConvertReport report;
  report.source_bytes = plan.stored_bytes;
  std::vector<const Q4Index*> indexes;
  for (const PlannedShard& shard : plan.shards) {
    indexes.push_back(&shard.index);
    report.provenance.push_back(ProvenanceJson(checkpoint, options, shard.source_files, {}, {}));
  }
  VerifyReport judged = JudgePlan(gates, indexes, output);
  report.gate_findings = std::move(judged.findings);
  report.gate_finding_count = judged.finding_count;
  return report;
}

absl::StatusOr<ConvertReport> RunConversion(FileSystem& fs, const Checkpoint& checkpoint, const ConversionPlan& plan,
                                            const ConvertOptions& options, const RunOptions& asked,
                                            const std::string& output) {
  RunOptions run = asked;
  const Conversion conversion{fs, checkpoint, plan, options, run};
  ConversionOutput files(conversion, output);
  Q4_RETURN_IF_ERROR(files.Find());
  // After Find(), so that a wrong output is named first, and before Open(), which creates files.
  if (ConvertReport report = CheckGates(checkpoint, plan, options, run.gates, output); !report.gate_findings.empty())
    return report;
  Q4_ASSIGN_OR_RETURN(std::vector<std::string> limits, SetLimits(checkpoint, plan, options, &run));
  absl::StatusOr<ConvertReport> report = ConvertInto(files, conversion, run.threads, output);
  if (!report.ok()) return files.Abandon(report.status());
  report->threads = run.threads;
  report->limits = std::move(limits);
  return report;
}

}  // namespace q4
