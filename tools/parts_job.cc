// What goes with a part, and what with a merge, is decided by what was given, as in repack.cc.
#include "tools/parts_job.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdlib>
#include <string_view>
#include <utility>

#include "formats/base/counted.h"
#include "formats/base/digest.h"
#include "formats/base/status.h"
#include "formats/base/text.h"
#include "formats/net/net_issues.h"
#include "formats/net/url.h"
#include "libconvert/base/json_document.h"
#include "libconvert/components/components_issues.h"
#include "libconvert/engine/device.h"
#include "libconvert/model/stats_json.h"
#include "libconvert/parts/convert_part.h"
#include "libconvert/parts/merge.h"
#include "libconvert/parts/merge_verified.h"
#include "libconvert/parts/verify_part.h"
#include "libconvert/report/text.h"
#include "tools/report_files.h"
#include "tools/usage_issues.h"

namespace q4 {
namespace {

struct RefusedOfPart {
  std::string_view option, instead;
};
constexpr std::string_view kChooseOnce =
    "every part would measure the whole model; choose once with --dry-run and "
    "--write-recipe, and give all parts that --recipe";
constexpr std::array<RefusedOfPart, 9> kNotOfOnePart{{
    {"--gate", "gates are about the whole model: give it to --merge"},
    {"--max-nmse", "gates are about the whole model: give it to --merge"},
    {"--report", "it is about the whole model: give it to --merge"},
    {"--target-bpw", kChooseOnce},
    {"--target-nmse", kChooseOnce},
    {"--keep-most-sensitive", kChooseOnce},
    {"--write-recipe", kChooseOnce},
    {"--compare", "it is about the whole model, and converts nothing"},
    {"--components", "convert the components of a pipeline one by one"},
}};
constexpr std::array<std::string_view, 10> kOfMerge{"--merge",  "--status", "--parts",   "--gate", "--max-nmse",
                                                    "--report", "--quiet",  "--verbose", "--json", "--progress"};

bool Given(const ConvertFlags& flags, std::string_view option) {
  return std::find(flags.given.begin(), flags.given.end(), option) != flags.given.end();
}

std::string_view OutcomeName(PartShard::Outcome outcome) {
  switch (outcome) {
    case PartShard::Outcome::kWritten:
      return "written";
    case PartShard::Outcome::kFinished:
      return "finished";
    case PartShard::Outcome::kEqual:
      return "equal";
    case PartShard::Outcome::kReplaced:
      return "replaced";
  }
  return "";
}

std::string PartText(const PartReport& report) {
  const auto& [first, end] = report.range;
  std::string text = fmt::format("part    {} of {}: ", report.part.index, report.part.count);
  if (first == end) return text + "nothing to do\n";
  text += fmt::format("shards {} to {} of {}\n", first + 1, end, report.shard_count);
  for (const PartShard& shard : report.shards) {
    const bool was_there =
        shard.outcome == PartShard::Outcome::kFinished || shard.outcome == PartShard::Outcome::kEqual;
    text += fmt::format("{}   {}\nseal    sha256:{}\n", was_there ? "there" : "wrote", Printable(shard.path, 4096),
                        HexOf(shard.root));
  }
  return text;
}

std::string PartJson(const PartReport& report, double seconds) {
  Json shards = Json::array();
  for (const PartShard& shard : report.shards) {
    shards.push_back({{"number", shard.number + 1},
                      {"path", shard.path},
                      {"outcome", OutcomeName(shard.outcome)},
                      {"bytes", shard.bytes},
                      {"root_sha256", HexOf(shard.root)}});
  }
  Json json = NewDocument("q4convert-part");
  json["part"] = report.part.index;
  json["parts"] = report.part.count;
  json["shard_count"] = report.shard_count;
  json["shards"] = std::move(shards);
  json["source_bytes"] = report.source_bytes;
  json["output_bytes"] = report.output_bytes;
  json["seconds"] = seconds;
  json["warnings"] = report.warnings;
  json["notes"] = report.notes;
  return JsonReportText(json);
}

// --report of a merge: none of the files that it reads, writes or removes.
absl::Status CheckMergeReport(FileSystem& fs, const ConvertFlags& flags) {
  if (flags.report.empty()) return absl::OkStatus();
  ReportRules rules(fs);
  rules.AddInput(flags.gate);
  for (std::string& path : ContainerNames(flags.input, 2)) rules.AddOutput(std::move(path));
  Q4_RETURN_IF_ERROR(rules.Check(flags.report));
  return TryReport(fs, flags.report);
}

}  // namespace

absl::StatusOr<std::optional<PartFound>> PartBy(const std::string& part, std::uint64_t parts, bool part_from_env) {
  if (part.empty() && !part_from_env) {
    return parts == 0 ? absl::StatusOr<std::optional<PartFound>>(std::nullopt) : Fail(kPartsAlone, {}, "--parts");
  }
  PartFound found;
  if (!part.empty()) {
    Q4_ASSIGN_OR_RETURN(found.part, ParsePart(part, "--part"));
  } else {
    Q4_ASSIGN_OR_RETURN(found, PartFromEnvironment([](const char* name) { return std::getenv(name); },
                                                   parts == 0 ? std::nullopt : std::optional(parts)));
  }
  return std::optional(std::move(found));
}

absl::Status NoPartsOfPipeline(const std::string& path, std::string_view option) {
  return Fail(kNotOfPipeline, path, option, "verify its containers in parts");
}

absl::StatusOr<std::optional<PartFound>> PartOf(const ConvertFlags& flags) {
  Q4_ASSIGN_OR_RETURN(std::optional<PartFound> found, PartBy(flags.part, flags.parts, flags.part_from_env));
  if (!found) return found;
  for (const RefusedOfPart& refused : kNotOfOnePart) {
    if (Given(flags, refused.option)) return Fail(kNotOfPart, flags.input, refused.option, refused.instead);
  }
  if (Given(flags, "--shard-by") && flags.shard_by != "source") {
    return Fail(kNotOfPart, flags.input, "--shard-by " + flags.shard_by,
                "parts are made of shards that end where source files do: --shard-by source");
  }
  if (!Given(flags, "--shard-by")) found->notes.emplace_back("a part implies --shard-by source");
  return found;
}

absl::StatusOr<ToolResult> VerifyPartJob(FileSystem& fs, const VerifyFlags& flags, const VerifyOptions& options,
                                         const PartFound& part, const JobHooks& hooks) {
  Q4_ASSIGN_OR_RETURN(const VerifyPartReport report, VerifyPart(fs, flags.file, options, part.part, hooks.Begin()));
  ToolResult result;
  result.notes = part.notes;
  for (const VerifiedShard& shard : report.shards) {
    std::vector<std::string> lines = FindingLines(shard.findings, shard.finding_count, /*all=*/flags.verbose > 0);
    result.errors.insert(result.errors.end(), lines.begin(), lines.end());
  }
  if (report.finding_count != 0) result.exit_code = ExitCode::kCheckFailed;
  result.output = flags.json ? VerifyPartJson(report) : flags.quiet ? std::string() : VerifyPartText(report);
  return result;
}

absl::StatusOr<ToolResult> MergeVerifiedJob(FileSystem& fs, const VerifyFlags& flags, const VerifyOptions& options) {
  ReportFiles reports;
  Q4_RETURN_IF_ERROR(reports.Open(fs, flags));
  Q4_ASSIGN_OR_RETURN(const VerifiedModel model,
                      MergeVerifiedParts(fs, flags.file, options.root, flags.merge, GatesOf(options)));
  ToolResult result;
  result.notes = model.notes;
  result.errors = FindingLines(model.report.findings, model.report.finding_count, /*all=*/flags.verbose > 0);
  for (const absl::Status& status : reports.Write(model.report)) {
    result.errors.push_back(MessageOf(status));
    result.exit_code = ExitCodeOf(status);
  }
  if (!model.report.passed()) result.exit_code = ExitCode::kCheckFailed;
  result.output = flags.json ? VerifiedModelJson(model) : flags.quiet ? std::string() : VerifiedModelText(model);
  return result;
}

void NotePart(const Checkpoint& checkpoint, const ConversionPlan& plan, const PartFound& part,
              std::vector<Note>* notes) {
  const auto [first, end] = AssignShards(ShardWeights(checkpoint, plan), part.part.count)[part.part.index];
  for (const std::string& note : part.notes) notes->push_back({false, note});
  const std::string what =
      first == end ? "nothing to do" : fmt::format("shards {} to {} of {}", first + 1, end, plan.shards.size());
  notes->push_back({false, fmt::format("part {} of {}: {}", part.part.index, part.part.count, what)});
}

absl::StatusOr<ToolResult> ConvertPartJob(FileSystem& fs, const ConvertFlags& flags, const Checkpoint& checkpoint,
                                          const ConversionPlan& plan, const ConvertOptions& options, RunOptions run,
                                          const PartFound& part, bool auto_device, std::vector<std::string> notes) {
  const auto begin = std::chrono::steady_clock::now();
  absl::StatusOr<PartReport> converted = ConvertPart(fs, checkpoint, plan, options, run, flags.output, part.part);
  if (auto_device && IsDeviceFailure(converted.status())) {
    notes.push_back("converting again on the CPU: " + MessageOf(converted.status()));
    run.engine = nullptr;
    converted = ConvertPart(fs, checkpoint, plan, options, run, flags.output, part.part);
  }
  Q4_ASSIGN_OR_RETURN(const PartReport report, std::move(converted));
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  ToolResult result;
  result.notes = std::move(notes);
  result.notes.insert(result.notes.end(), part.notes.begin(), part.notes.end());
  result.notes.insert(result.notes.end(), report.notes.begin(), report.notes.end());
  for (const std::string& warning : report.warnings) result.notes.push_back("warning: " + warning);
  if (flags.verbose > 0) {
    result.notes.push_back(fmt::format("{}, {}; {:.3f} s to convert", Counted(report.threads, "thread"),
                                       run.engine != nullptr ? "GPU" : "CPU", took.count()));
    result.notes.insert(result.notes.end(), report.limits.begin(), report.limits.end());
  }
  if (flags.json) {
    result.output = PartJson(report, took.count());
  } else if (!flags.quiet) {
    result.output = PartText(report);
  }
  return result;
}

absl::StatusOr<ToolResult> JoinPartsJob(const ConvertFlags& flags, const std::vector<Gate>& gates) {
  for (const std::string& given : flags.given) {
    const bool known = std::find(kOfMerge.begin(), kOfMerge.end(), given) != kOfMerge.end();
    const bool about_model = given == "--gate" || given == "--max-nmse" || given == "--report";
    if (!known || (flags.status && about_model)) {
      return Fail(kNotOfMerge, flags.input, given,
                  given == "--output" ? "INPUT is the output already" : "it is about converting, or about the model");
    }
  }
  if (IsUrl(flags.input) || !CollapsedUrl(flags.input).empty()) {
    return Fail(kOutputIsUrl, flags.input, flags.status ? "--status" : "--merge");
  }
  FileSystem& fs = PosixFileSystem();
  ToolResult result;
  if (flags.status) {
    Q4_ASSIGN_OR_RETURN(const PartsStatus status,
                        StatusOfParts(fs, flags.input, flags.parts == 0 ? std::nullopt : std::optional(flags.parts)));
    result.notes = status.notes;
    result.output = flags.json ? PartsStatusJson(status) : flags.quiet ? std::string() : PartsStatusText(status);
    return result;
  }
  Q4_RETURN_IF_ERROR(CheckMergeReport(fs, flags));
  const auto begin = std::chrono::steady_clock::now();
  Q4_ASSIGN_OR_RETURN(const MergeReport merge, MergeParts(fs, flags.input, gates));
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  const ConvertReport& report = merge.report;
  result.notes = report.notes;
  for (const std::string& warning : report.warnings) result.notes.push_back("warning: " + warning);
  if (!report.gate_findings.empty()) {
    result.errors = FindingLines(report.gate_findings, report.gate_finding_count, /*all=*/flags.verbose > 0);
    result.findings = report.gate_findings;
    result.exit_code = ExitCode::kCheckFailed;
    return result;
  }
  Q4_RETURN_IF_ERROR(GiveConvertReport(fs, flags, report, took.count(), &result.output));
  return result;
}

}  // namespace q4
