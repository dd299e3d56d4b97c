// q4inspect: says what is in a .q4 container or a checkpoint, reading its header and index only.  See
// docs/q4inspect.md.
//
// Several jobs share the command line: a summary or tables (Inspect), one tensor in depth, a comparison (Diff,
// DiffWithSource) and lint. --diff and --lint come first and take no selection. Only they, --dump and --scales may read
// weights.
#include "formats/base/text.h"
#include "formats/q4/q4_issues.h"
#include "formats/q4/shards.h"
#include "formats/source/pipeline.h"
#include "libconvert/base/machine.h"
#include "libconvert/base/nearest_parts.h"
#include "libconvert/card/card.h"
#include "libconvert/components/seal.h"
#include "libconvert/inspect/command.h"
#include "libconvert/inspect/diff.h"
#include "libconvert/inspect/inspect.h"
#include "libconvert/inspect/inspect_issues.h"
#include "libconvert/inspect/json.h"
#include "libconvert/inspect/text.h"
#include "libconvert/lint/lint.h"
#include "libconvert/model/bnb_weights.h"
#include "libconvert/model/content_identity.h"
#include "libconvert/model/model_configs.h"
#include "libconvert/model/open_model.h"
#include "libconvert/report/json.h"
#include "libconvert/report/text.h"
#include "libconvert/verify/verify.h"
#include "tools/job_files.h"
#include "tools/mains.h"
#include "tools/options.h"
#include "tools/pipeline.h"
#include "tools/terminal.h"
#include "tools/tool_main.h"
#include "tools/usage_issues.h"

namespace q4 {
namespace {

// A container beside a checkpoint: what the checkpoint asks for and the container does not have, and by how much its
// decoded weights are off. That is the comparison of q4verify --against, so it is that, with its report.
absl::StatusOr<ToolResult> DiffWithSource(FileSystem& fs, const std::string& container, const std::string& source,
                                          const InspectFlags& flags) {
  VerifyOptions options;
  options.against = source;
  options.root = ParseQ4Root(flags.root);
  options.source_options.follow_symlinks = flags.follow_symlinks;
  options.cancel = &InterruptRequested();
  Q4_ASSIGN_OR_RETURN(const VerifyReport report, VerifyModel(fs, container, options));
  ToolResult result;
  result.errors = FindingLines(report.findings, report.finding_count, /*all=*/flags.verbose > 0 || flags.all);
  result.output = flags.json ? VerifyReportJson(report) : VerifyReportText(report, StyleOfStdout("never"));
  if (!report.passed()) result.exit_code = ExitCode::kCheckFailed;
  return result;
}

OpenOptions OpenOptionsFrom(const InspectFlags& flags) {
  OpenOptions open;
  open.follow_symlinks = flags.follow_symlinks;
  // Somebody who looks at an empty model wants to see that.
  open.allow_empty = true;
  return open;
}

// Which comparison depends on what the two files are. A checkpoint with weights in the layout of bitsandbytes is
// quantized already, so codes are compared with codes; any other one beside a container is a possible source.
absl::StatusOr<ToolResult> Diff(FileSystem& fs, const InspectFlags& flags) {
  Q4_ASSIGN_OR_RETURN(const bool left_is_container, IsQ4Container(fs, flags.file));
  Q4_ASSIGN_OR_RETURN(const bool right_is_container, IsQ4Container(fs, flags.diff));
  const DiffOptions options{.open = OpenOptionsFrom(flags), .root = ParseQ4Root(flags.root)};
  if (left_is_container != right_is_container) {
    const std::string& container = left_is_container ? flags.file : flags.diff;
    const std::string& checkpoint = left_is_container ? flags.diff : flags.file;
    Q4_ASSIGN_OR_RETURN(const auto opened, OpenCheckpoint(fs, checkpoint, options.open));
    Q4_ASSIGN_OR_RETURN(const bool is_quantized, HoldsBnbWeights(*opened));
    if (!is_quantized) return DiffWithSource(fs, container, checkpoint, flags);
  }
  Q4_ASSIGN_OR_RETURN(const DiffReport report, DiffModels(fs, flags.file, flags.diff, options));
  ToolResult result;
  Q4_ASSIGN_OR_RETURN(const PathInfo left, fs.Stat(flags.file));
  Q4_ASSIGN_OR_RETURN(const PathInfo right, fs.Stat(flags.diff));
  if (left.exists && right.exists && left.identity == right.identity) {
    result.notes.push_back("warning: " + Printable(flags.diff, 4096) +
                           " is what it is compared with, so nothing differs");
  }
  result.output = flags.json ? DiffReportJson(report) : DiffReportText(report, flags.all);
  // As diff and cmp do: other content is an exit code of its own (6), no error line.
  if (!report.SameContent()) result.exit_code = ExitCode::kCheckFailed;
  return result;
}

// Exit code 6 where a rule is broken, so that a script can ask.
absl::StatusOr<ToolResult> Lint(FileSystem& fs, const InspectFlags& flags) {
  LintOptions options;
  options.follow_symlinks = flags.follow_symlinks;
  options.root = ParseQ4Root(flags.root);
  Q4_ASSIGN_OR_RETURN(const LintReport report, LintModel(fs, flags.file, options));
  ToolResult result;
  result.output = flags.json ? LintReportJson(report) : LintReportText(report, StyleOfStdout(flags.color));
  if (!report.passed()) result.exit_code = ExitCode::kCheckFailed;
  return result;
}

// An option that is about containers alone.
absl::Status CheckContainer(FileSystem& fs, const std::string& file, std::string_view option) {
  Q4_ASSIGN_OR_RETURN(const bool is_container, IsQ4Container(fs, file));
  return is_container ? absl::OkStatus()
                      : Fail(kBadFlag, file, option, "it is about a container (.q4), and this is none");
}

absl::StatusOr<ToolResult> Card(FileSystem& fs, const InspectFlags& flags) {
  if (flags.json) return Fail(kBadFlag, {}, "--card", "a card is Markdown; without --json");
  Q4_RETURN_IF_ERROR(CheckContainer(fs, flags.file, "--card"));
  Q4_ASSIGN_OR_RETURN(const auto model, OpenContainer(fs, flags.file, ParseQ4Root(flags.root)));
  if (model->shards().size() != model->shards().front()->index().shard_count) {
    return Fail(kBadFlag, flags.file, "--card", "one shard of several; give NAME.q4.index.json");
  }
  Q4_ASSIGN_OR_RETURN(const ModelConfigs configs, ReadModelConfigs(*model));
  CardRequest request;
  request.base_model = flags.base_model;
  ToolResult result;
  Q4_ASSIGN_OR_RETURN(result.output, ModelCard(*model, configs, request));
  return result;
}

// The error names what was probably meant.
absl::Status NoSuchTensor(const std::string& file, const std::string& name, const InspectReport& report) {
  const auto name_of = [](const InspectTensor& tensor) { return std::string_view(tensor.name); };
  return Fail(kNoSuchTensor, file, name,
              "--tensors lists the names, --filter takes a pattern" + DidYouMeanByParts(name, report.tensors, name_of));
}

// --tensor, with or without --dump. In JSON a dump is a member of the same document.
absl::StatusOr<ToolResult> InspectTensorInDepth(const InspectFlags& flags, const OpenedModel& model,
                                                const InspectReport& report) {
  const InspectTensor* tensor = FindTensor(report, flags.tensor);
  // Exact names only: a pattern is --filter's.
  if (tensor == nullptr) return NoSuchTensor(flags.file, flags.tensor, report);
  InspectDetail detail;
  detail.tensors = {tensor};
  detail.list_tensors = detail.stats = true;
  if (flags.scales) {
    Q4_ASSIGN_OR_RETURN(detail.scales, ReadScales(model, detail.tensors));
  }
  if (!flags.dump.empty()) {
    Q4_ASSIGN_OR_RETURN(const DumpRange range, ParseDumpRange(flags.dump));
    Q4_ASSIGN_OR_RETURN(detail.dump, DumpTensor(model, flags.tensor, range.start, range.count));
  }
  ToolResult result;
  if (flags.json) {
    result.output = InspectReportJson(report, detail);
  } else {
    const TextStyle style = StyleOfStdout(flags.color);
    result.output = flags.dump.empty() ? InspectTensorText(*tensor, detail, style) : DumpText(detail.dump);
  }
  return result;
}

// --content: the identity that the index does not tell. Every shard must be there.
absl::Status ReadContent(const InspectFlags& flags, const OpenedModel& model, InspectReport* report) {
  if (report->content) return absl::OkStatus();
  if (report->shards.size() != report->shard_count) {
    return Fail(kBadFlag, flags.file, "--content", "one shard of several; give NAME.q4.index.json");
  }
  Q4_ASSIGN_OR_RETURN(report->content, ContentIdentity(*model.container, DefaultThreads(), &InterruptRequested()));
  return absl::OkStatus();
}

// --command.
absl::StatusOr<ToolResult> Command(FileSystem& fs, const InspectFlags& flags) {
  Q4_ASSIGN_OR_RETURN(const bool is_container, IsQ4Container(fs, flags.file));
  if (!is_container) {
    return Fail(
        kQ4NotAContainer, flags.file, "--command",
        "a container records how it was made; of a checkpoint nothing is known, q4convert makes a container of it");
  }
  Q4_ASSIGN_OR_RETURN(const auto model, OpenContainer(fs, flags.file, ParseQ4Root(flags.root)));
  ToolResult result;
  Q4_ASSIGN_OR_RETURN(result.output, RebuildCommand(*model, flags.file));
  return result;
}

// Options that the views beside them would not show.
absl::Status CheckViews(const InspectFlags& flags) {
  const bool has_rows = flags.tensors || flags.stats || flags.scales || (flags.json && (flags.hist || flags.tree));
  if (!flags.sort.empty() && flags.top == 0 && (flags.hist || flags.tree) && !has_rows) {
    return Fail(kBadFlag, {}, "--sort", "what is shown has no rows; add --tensors, --stats or --top");
  }
  // In the document it stands beside everything.
  const bool has_view = flags.tensors || flags.tree || flags.stats || flags.hist || flags.scales || flags.files ||
                        !flags.filter.empty() || !flags.sort.empty() || flags.top != 0;
  if (flags.content && has_view && !flags.json) {
    return Fail(kBadFlag, {}, "--content", "stands in the summary: give it without other views, or with --json");
  }
  if (!flags.dump.empty() && !flags.json && (flags.stats || flags.hist || flags.scales)) {
    return Fail(kBadFlag, {}, "--dump", "prints the values alone: give it without other views, or with --json");
  }
  return absl::OkStatus();
}

// Turns flags into what the report shows. A summary of 100,000 tensors costs less than their descriptions, hence the
// scope.
absl::StatusOr<ToolResult> Inspect(const InspectFlags& given) {
  JobFiles files(0, &InterruptRequested());
  FileSystem& fs = files.fs();
  InspectFlags flags = given;
  Q4_RETURN_IF_ERROR(files.Adopt(&flags.file));
  Q4_RETURN_IF_ERROR(files.Adopt(&flags.diff));
  Q4_ASSIGN_OR_RETURN(std::string pipeline, SealedPipelineFolder(fs, flags.file));
  if (pipeline.empty()) {
    Q4_ASSIGN_OR_RETURN(pipeline, PipelineFolder(fs, flags.file));
  }
  if (!pipeline.empty()) return InspectPipelineFolder(fs, flags, pipeline, OpenOptionsFrom(flags));
  if (!flags.root.empty()) Q4_RETURN_IF_ERROR(CheckContainer(fs, flags.file, "--root"));
  if (flags.content) Q4_RETURN_IF_ERROR(CheckContainer(fs, flags.file, "--content"));
  if (flags.card) return Card(fs, flags);
  if (!flags.diff.empty()) return Diff(fs, flags);
  if (flags.lint) return Lint(fs, flags);
  if (flags.command) return Command(fs, flags);
  Q4_RETURN_IF_ERROR(CheckViews(flags));
  // A selection alone asks for the table it selects from; in JSON statistics and tree stand with the tensors.
  const bool selects = !flags.filter.empty() || !flags.sort.empty() || flags.top != 0;
  const bool wants_values = flags.stats || flags.hist || flags.scales;
  InspectDetail detail;
  detail.stats = flags.stats;
  detail.hist = flags.hist;
  detail.files = flags.files;
  detail.errors = flags.sort == "nmse" || flags.sort == "sqnr";
  detail.tree = flags.tree;
  detail.list_tensors =
      flags.tensors || (selects && !wants_values && !flags.tree) || (flags.json && (wants_values || flags.tree));
  // Nothing was asked for: one screen.
  const bool summary = !detail.list_tensors && !wants_values && !flags.tree && flags.tensor.empty();
  Q4_ASSIGN_OR_RETURN(const OpenedModel model, OpenModel(fs, flags.file, OpenOptionsFrom(flags)));
  if (model.container != nullptr) Q4_RETURN_IF_ERROR(model.container->RequireRoot(ParseQ4Root(flags.root)));
  Q4_ASSIGN_OR_RETURN(InspectReport report,
                      InspectModel(fs, model, summary ? InspectScope::kSummary : InspectScope::kTensors));
  if (flags.content) Q4_RETURN_IF_ERROR(ReadContent(flags, model, &report));
  if (!flags.tensor.empty()) return InspectTensorInDepth(flags, model, report);
  Q4_ASSIGN_OR_RETURN(detail.tensors, SelectTensors(report, {flags.filter, flags.sort, flags.allow_unmatched, flags.top,
                                                             wants_values}));
  if (flags.scales) {
    Q4_ASSIGN_OR_RETURN(detail.scales, ReadScales(model, detail.tensors));
  }
  ToolResult result;
  result.output =
      flags.json ? InspectReportJson(report, detail) : InspectReportText(report, detail, StyleOfStdout(flags.color));
  return result;
}

// With -q the exit code is left, as of cmp -s: of a comparison, of lint, of whether the file opens.
absl::StatusOr<ToolResult> InspectOrOnlyLook(const InspectFlags& flags) {
  absl::StatusOr<ToolResult> result = Inspect(flags);
  if (flags.quiet && !flags.json && result.ok()) result->output.clear();
  return result;
}

}  // namespace

int InspectMain(int argc, char** argv) {
  return RunTool<InspectFlags>("q4inspect", argc, argv, InspectOrOnlyLook, OnInterrupt::kEnd);
}

}  // namespace q4
