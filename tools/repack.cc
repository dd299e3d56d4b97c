// Which options go with a container is decided by what was given, not by values: a default that was typed was meant.
#include "tools/repack.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "formats/base/counted.h"
#include "formats/publish/atomic_file.h"
#include "formats/q4/shards.h"
#include "libconvert/convert/convert.h"
#include "libconvert/model/open_model.h"
#include "libconvert/repack/repack.h"
#include "libconvert/repack/repack_report.h"
#include "tools/report_files.h"
#include "tools/usage_issues.h"

namespace q4 {
namespace {

// They would change codes, scales or types, or decide what is quantized.
constexpr std::array<std::string_view, 19> kAboutQuantizing{
    "--type",         "--block-size",  "--double-quant", "--encoder",         "--effort",      "--calibration",
    "--include",      "--exclude",     "--recipe",       "--target-bpw",      "--target-nmse", "--keep-most-sensitive",
    "--compare",      "--fused-alike", "--write-recipe", "--allow-unmatched", "--keep-dtype",  "--on-nonfinite",
    "--source-digest"};
// They are about the weights of a checkpoint, or about the work of quantizing.
struct Refused {
  std::string_view option, instead;
};
constexpr std::array<Refused, 12> kAboutCheckpoints{{
    {"--adapter",
     "nothing can be merged into codes; convert the 16-bit checkpoint with it; where there is none, --from-quantized "
     "decodes the container, and what is merged is quantized again"},
    {"--components", "it is about a pipeline"},
    {"--device", "nothing is computed"},
    {"--shard-by", "its source files are not here; --shard-size splits it"},
    {"--part", "it is one run"},
    {"--part-from-env", "it is one run"},
    {"--parts", "it is one run"},
    {"--sync-every", "a run that is interrupted begins again"},
    {"--max-nmse", "q4verify --max-nmse judges a container"},
    {"--gate", "q4verify --gate judges a container"},
    {"--follow-symlinks", "it is about the files of a model's folder"},
    {"--allow-empty", "an empty container needs no leave"},
}};
constexpr std::array<std::string_view, 4> kAboutContainers{"--root", "--tensor", "--add-file", "--drop-file"};
constexpr std::string_view kRoot = kAboutContainers.front();

absl::Status CheckFlags(const ConvertFlags& flags) {
  for (const std::string& given : flags.given) {
    if (std::find(kAboutQuantizing.begin(), kAboutQuantizing.end(), given) != kAboutQuantizing.end()) {
      return Fail(
          kNotRequantized, flags.input, given,
          "convert the 16-bit checkpoint with it; where there is none, --from-quantized decodes the container and "
          "quantizes it again, whose errors add up");
    }
    for (const Refused& refused : kAboutCheckpoints) {
      if (refused.option == given) return Fail(kNotOfRepack, flags.input, given, refused.instead);
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<RepackOptions> OptionsFrom(const ConvertFlags& flags, const std::optional<Q4Compression>& compression) {
  RepackOptions options;
  options.compression = compression;
  if (std::find(flags.given.begin(), flags.given.end(), "--shard-size") != flags.given.end()) {
    options.shard_bytes = flags.shard_size;
  }
  options.tensor_pattern = flags.tensor;
  options.dropped = flags.drop_files;
  for (const std::string& text : flags.add_files) {
    // The first one: names of embedded files have none.
    const std::size_t equals = text.find('=');
    if (equals == std::string::npos || equals == 0 || equals + 1 == text.size()) {
      return Fail(kBadFlag, {}, "--add-file", GotExpected(text, "NAME=PATH"));
    }
    options.added.push_back({text.substr(0, equals), text.substr(equals + 1)});
  }
  return options;
}

absl::Status CheckReport(FileSystem& fs, const ConvertFlags& flags, const Q4Model& model, const RepackPlan& plan) {
  if (flags.report.empty()) return absl::OkStatus();
  ReportRules rules(fs);
  rules.AddInput(model.path());
  for (const auto& shard : model.shards()) rules.AddInput(shard->path(), shard->file().identity());
  for (const auto& file : plan.added) rules.AddInput(file->path(), file->identity());
  for (std::string& path : ContainerNames(flags.output, plan.shards.size())) rules.AddOutput(std::move(path));
  return rules.Check(flags.report);
}

}  // namespace

absl::Status CheckNoRepackFlags(const ConvertFlags& flags, bool container) {
  for (const std::string& given : flags.given) {
    // A container that is quantized again may be pinned, but is taken whole.
    if (container && given == kRoot) continue;
    if (std::find(kAboutContainers.begin(), kAboutContainers.end(), given) != kAboutContainers.end()) {
      return Fail(kOfRepackOnly, flags.input, given, "convert first, then give the container");
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<ToolResult> RepackContainer(JobFiles& files, const ConvertFlags& flags,
                                           const std::optional<Q4Compression>& compression, const JobHooks& hooks) {
  FileSystem& fs = files.fs();
  Q4_RETURN_IF_ERROR(CheckFlags(flags));
  Q4_ASSIGN_OR_RETURN(const RepackOptions options, OptionsFrom(flags, compression));
  Q4_ASSIGN_OR_RETURN(const std::unique_ptr<Q4Model> model, OpenContainer(fs, flags.input, ParseQ4Root(flags.root)));
  Q4_ASSIGN_OR_RETURN(RepackPlan plan, PlanRepack(fs, *model, options));
  Q4_RETURN_IF_ERROR(CheckReport(fs, flags, *model, plan));
  ToolResult result;
  if (flags.dry_run) {
    const bool named = std::find(flags.given.begin(), flags.given.end(), "--output") != flags.given.end();
    const absl::Status checked =
        named ? CheckRepackOutput(fs, *model, plan, flags.output, flags.force) : absl::OkStatus();
    if (IsInTheWay(checked)) {
      plan.notes.insert(plan.notes.begin(), WouldFail(checked));
    } else {
      Q4_RETURN_IF_ERROR(checked);
    }
    const std::string output = named ? flags.output : std::string();
    const std::string document =
        flags.json || !flags.report.empty() ? RepackPlanJson(*model, plan, output, files.Bounds()) : std::string();
    result.notes = LinesOf(plan.notes);
    if (flags.json) {
      result.output = document;
    } else if (!flags.quiet) {
      result.output = RepackPlanText(*model, plan, flags.verbose > 0, output, files.Bounds());
    }
    if (!flags.report.empty()) Q4_RETURN_IF_ERROR(WriteFileAtomically(fs, flags.report, document, /*replace=*/true));
    return result;
  }
  result.notes = LinesOf(plan.notes);
  if (!flags.report.empty()) Q4_RETURN_IF_ERROR(TryReport(fs, flags.report));
  const auto begin = std::chrono::steady_clock::now();
  RepackRun run;
  run.threads = flags.threads;
  run.max_memory = flags.max_memory;
  run.bound_of = files.Bounds();
  run.force = flags.force;
  run.progress = hooks.Begin();
  run.cancel = hooks.cancel;
  Q4_ASSIGN_OR_RETURN(RepackReport repacked, Repack(fs, *model, plan, run, flags.output));
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  const double seconds = took.count();
  // The same report as that of a conversion: its reader asks what was written.
  ConvertReport report;
  report.shards = std::move(repacked.shards);
  for (const ConvertedShard& shard : report.shards) report.provenance.push_back(shard.index.provenance);
  report.index_path = repacked.index_path;
  report.source_bytes = plan.source_bytes;
  report.output_bytes = repacked.output_bytes;
  for (const Note& note : plan.notes) (note.warning ? report.warnings : report.notes).push_back(note.text);
  if (flags.verbose > 0) {
    result.notes.push_back(Counted(repacked.threads, "thread"));
    result.notes.insert(result.notes.end(), repacked.limits.begin(), repacked.limits.end());
  }
  Q4_RETURN_IF_ERROR(GiveConvertReport(fs, flags, report, seconds, &result.output));
  return result;
}

}  // namespace q4
