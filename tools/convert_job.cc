// A container as input is packed anew (repack.h), or with --from-quantized a source like any other. A pipeline is
// converted component by component: pipeline.h. For checkpoints:
//
// Order of things: flags become options, the checkpoint is opened (headers only), the plan is made, everything that the
// run will read or write is checked, and only then are devices started and weights read. With --dry-run it ends after
// the checks.
#include "tools/convert_job.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>

#include "formats/base/counted.h"
#include "formats/base/limits.h"
#include "formats/net/net_issues.h"
#include "formats/net/url.h"
#include "formats/publish/atomic_file.h"
#include "formats/publish/input_files.h"
#include "formats/q4/shards.h"
#include "formats/source/checkpoint.h"
#include "formats/source/pipeline.h"
#include "libconvert/adapter/merge_adapter.h"
#include "libconvert/base/machine.h"
#include "libconvert/components/components_issues.h"
#include "libconvert/convert/convert.h"
#include "libconvert/convert_report/convert_report.h"
#include "libconvert/encode/encoder.h"
#include "libconvert/engine/device.h"
#include "libconvert/model/open_model.h"
#include "libconvert/output/output_issues.h"
#include "libconvert/parts/convert_part.h"
#include "libconvert/policy/policy_issues.h"
#include "libconvert/report/text.h"
#include "libconvert/requantize/container_source.h"
#include "libconvert/scheme/scheme.h"
#include "tools/budget_job.h"
#include "tools/compare_job.h"
#include "tools/job_files.h"
#include "tools/output_name.h"
#include "tools/parts_job.h"
#include "tools/pipeline.h"
#include "tools/repack.h"
#include "tools/report_files.h"
#include "tools/usage_issues.h"

namespace q4 {
namespace {

// none, zstd (at the default level of Q4Compression) or zstd:LEVEL. The whole text must be used: "zstd:3x" is refused.
absl::StatusOr<Q4Compression> ParseCompression(const std::string& text) {
  if (text == "none") return Q4Compression{};
  Q4Compression compression;
  compression.zstd = true;
  if (text == "zstd") return compression;
  int level = 0;
  // Behind "zstd:"; only used where the text begins so.
  const char* const begin = text.data() + 5;
  if (text.starts_with("zstd:") &&
      std::from_chars(begin, text.data() + text.size(), level).ptr == text.data() + text.size() && level >= 1 &&
      level <= 19) {
    compression.level = level;
    return compression;
  }
  return Fail(kBadFlag, {}, "--compress", GotExpected(text, "none, zstd or zstd:LEVEL with LEVEL 1 to 19"));
}

// What determines the bytes of the output. How the work is done (threads, device, memory) is in RunOptions, so that no
// flag can be in both. Calibrations of a pipeline are its components'.
absl::StatusOr<ConvertOptions> OptionsFrom(const ConvertFlags& flags, bool pipeline) {
  ConvertOptions options;
  QuantSettings& settings = options.policy.defaults;
  // One of the names, or the options were refused.
  settings.scheme = FindScheme(flags.type)->id;
  settings.block_size = flags.block_size;
  settings.nested = flags.double_quant;
  settings.encoder = FindQ4Encoder(flags.encoder)->encoder;
  // A known encoder that this build lacks is an unsupported request, not a bad flag.
  if (FindEncoder(settings.encoder) == nullptr) return Fail(kEncoderNotBuilt, {}, "--encoder " + flags.encoder);
  options.policy.asked = flags.asked;
  options.policy.patterns = flags.patterns;
  options.policy.allow_unmatched = flags.allow_unmatched;
  // A recipe's text is a part of the options: it is read once, here.
  if (!flags.recipe.empty()) {
    Q4_ASSIGN_OR_RETURN(const std::string text,
                        ReadWholeFile(PosixFileSystem(), flags.recipe, limits::kConfigJsonBytes));
    Q4_ASSIGN_OR_RETURN(options.policy.recipe, ParseRecipe(text, flags.recipe));
  }
  if (!flags.calibration.empty() && !pipeline) {
    Q4_ASSIGN_OR_RETURN(options.calibration, Calibration::Open(PosixFileSystem(), flags.calibration));
  }
  options.effort = flags.effort;
  const bool gives_effort = std::find(flags.given.begin(), flags.given.end(), "--effort") != flags.given.end();
  // A comparison has rows that search, unless an encoder was asked for.
  const bool searches = UsesEffort(options) || (flags.compare && !flags.asked.encoder);
  if (gives_effort && !searches) return Fail(kEffortUnused, {}, "--effort " + std::to_string(flags.effort));
  if (flags.keep_dtype == "bf16") options.keep_dtype = DType::kBF16;
  if (flags.keep_dtype == "fp16") options.keep_dtype = DType::kF16;
  if (flags.keep_dtype == "fp32") options.keep_dtype = DType::kF32;
  options.from_quantized = flags.from_quantized;
  options.keep_nonfinite = flags.on_nonfinite == "keep";
  Q4_ASSIGN_OR_RETURN(options.compression, ParseCompression(flags.compress));
  options.shard_bytes = flags.shard_size;
  if (flags.source_digest == "xxh3") options.source_digest = SourceDigest::kXxh3;
  return options;
}

// --report, which may be none of the files of this conversion: the source, its companions, what the flags name, and
// every name that the run writes under.
absl::Status CheckReport(FileSystem& fs, const ConvertFlags& flags, const Checkpoint& checkpoint,
                         const ConversionPlan& plan) {
  if (flags.report.empty()) return absl::OkStatus();
  ReportRules rules(fs);
  rules.AddSource(checkpoint);
  rules.AddInput(flags.recipe);
  rules.AddInput(flags.gate);
  rules.AddInput(flags.calibration);
  for (std::string& path : OutputNames(plan, flags.output)) rules.AddOutput(std::move(path));
  return rules.Check(flags.report);
}

// Recipe and gate have been read by now; still no name that the run writes under may be theirs. The checkpoint's own
// files are looked for by the conversion.
absl::Status CheckOutputIsNoFlagFile(FileSystem& fs, const ConvertFlags& flags, const ConversionPlan& plan) {
  InputFiles inputs;
  inputs.Add(fs, flags.recipe);
  inputs.Add(fs, flags.gate);
  inputs.Add(fs, flags.calibration);
  return inputs.CheckNames(fs, OutputNames(plan, flags.output), kOutputIsInput);
}

// --max-nmse and --gate.
absl::StatusOr<std::vector<Gate>> GatesFrom(FileSystem& fs, const ConvertFlags& flags) {
  std::vector<Gate> gates;
  if (flags.max_nmse) {
    gates.push_back(FlagGate("--max-nmse", "nmse", /*is_maximum=*/true, *flags.max_nmse, kNmseTooHigh));
  }
  if (flags.gate.empty()) return gates;
  Q4_ASSIGN_OR_RETURN(Gate gate, LoadGate(fs, flags.gate));
  gates.push_back(std::move(gate));
  Q4_RETURN_IF_ERROR(CheckNeedsNoEvaluation(gates,
                                            "a conversion computes nothing with the model: \"optional\" skips the "
                                            "rule here, q4verify --evaluation judges it"));
  Q4_RETURN_IF_ERROR(CheckNeedsNoAbsmax(gates,
                                        "a conversion does not run absmax beside another encoder: \"optional\" skips "
                                        "the rule here, q4verify --against judges it"));
  return gates;
}

// For a dry run, which writes nothing: what a run would refuse, but that something lies there already. That is a note.
absl::Status CheckPlannedOutput(FileSystem& fs, const ConvertFlags& flags, const Checkpoint& checkpoint,
                                ConversionPlan* plan) {
  const absl::Status checked = CheckOutput(fs, checkpoint, *plan, flags.output, flags.force);
  if (!IsInTheWay(checked)) return checked;
  plan->notes.insert(plan->notes.begin(), WouldFail(checked));
  return absl::OkStatus();
}

// A report of a run whose gates are broken, for --report and --json; the lines for stderr.
absl::StatusOr<ToolResult> GatesBroken(FileSystem& fs, const ConvertFlags& flags, const ConvertReport& report,
                                       double seconds) {
  ToolResult result;
  result.errors = FindingLines(report.gate_findings, report.gate_finding_count, /*all=*/flags.verbose > 0);
  result.findings = report.gate_findings;
  result.exit_code = ExitCode::kCheckFailed;
  Q4_RETURN_IF_ERROR(GiveConvertReport(fs, flags, report, seconds, &result.output));
  return result;
}

// "nf4", "fp4-nf4": the types that tensors get, by a recipe or of their source; `none` where all are kept.
std::string TypesOf(const ConversionPlan& plan, const std::string& none) {
  std::set<std::string_view> types;
  for (const PlannedShard& shard : plan.shards) {
    for (const Q4Tensor& tensor : shard.index.tensors) {
      if (tensor.quantized()) types.insert(Q4SchemeName(tensor.scheme));
    }
  }
  return types.empty() ? none : fmt::format("{}", fmt::join(types, "-"));
}

// What is converted: a checkpoint, or a container as one.
absl::StatusOr<std::unique_ptr<Checkpoint>> OpenSource(FileSystem& fs, const ConvertFlags& flags, bool container) {
  if (container) {
    Q4_ASSIGN_OR_RETURN(std::unique_ptr<Q4Model> model, OpenContainer(fs, flags.input, ParseQ4Root(flags.root)));
    return OpenContainerSource(fs, std::move(model));
  }
  OpenOptions open;
  open.follow_symlinks = flags.follow_symlinks;
  open.allow_empty = flags.allow_empty;
  open.take_over = true;
  return OpenCheckpoint(fs, flags.input, open);
}

}  // namespace

absl::StatusOr<ChosenEngine> OpenDevicesFor(std::string_view encoder, const DeviceChoice& device, int effort) {
  if (encoder.empty()) return OpenDevices(device, effort);
  ChosenEngine cores;
  if (device.kind == DeviceChoice::Kind::kCuda) {
    cores.note = fmt::format("converted on this machine's cores: no GPU runs the encoder {} (same bytes)", encoder);
  }
  return cores;
}

// Errors that the user can mend come as early as they can be known: a gate file with a mistake
// must not cost an hour of converting.
absl::StatusOr<ToolResult> ConvertJob(const ConvertFlags& given, const JobHooks& hooks) {
  if (given.merge || given.status) {
    Q4_ASSIGN_OR_RETURN(const std::vector<Gate> gates, GatesFrom(PosixFileSystem(), given));
    return JoinPartsJob(given, gates);
  }
  JobFiles files(given.max_memory, hooks.cancel);
  FileSystem& fs = files.fs();
  ConvertFlags flags = given;
  Q4_RETURN_IF_ERROR(files.Adopt(&flags.input));
  if (IsUrl(flags.output) || !CollapsedUrl(flags.output).empty()) return Fail(kOutputIsUrl, flags.output, "-o");
  flags.max_memory = files.MemoryForWork();
  // A container has its codes already. What cannot be looked at is left to the readers of checkpoints, which say why.
  const absl::StatusOr<bool> looked = IsQ4Container(fs, flags.input);
  const bool container = looked.ok() && *looked;
  if (container && !flags.from_quantized) {
    // Of what is packed anew neither type nor name says how it differs. A plan is none of a file.
    if (flags.output.empty() && flags.dry_run) flags.output = NameOutput(flags.input, "packed.q4");
    if (flags.output.empty() && !flags.compare) {
      return Fail(kNoOutputName, flags.input, {}, "such as -o smaller.q4");
    }
    std::optional<Q4Compression> compression;
    if (std::find(flags.given.begin(), flags.given.end(), "--compress") != flags.given.end()) {
      Q4_ASSIGN_OR_RETURN(compression, ParseCompression(flags.compress));
    }
    return RepackContainer(files, flags, compression, hooks);
  }
  Q4_RETURN_IF_ERROR(CheckNoRepackFlags(flags, container));
  Q4_ASSIGN_OR_RETURN(const std::optional<PartFound> part, PartOf(flags));
  Q4_ASSIGN_OR_RETURN(const std::string pipeline, PipelineFolder(fs, flags.input));
  const bool unnamed = flags.output.empty() && !flags.compare;
  if (unnamed) {
    // A pipeline becomes a folder.
    flags.output = NameOutput(given.input, pipeline.empty() ? flags.type + ".q4" : flags.type);
    if (flags.output.empty()) return Fail(kNoOutputName, flags.input, {});
  }
  if (pipeline.empty() && !flags.components.empty()) return Fail(kComponentsOfPipeline, flags.input, "--components");
  if (!pipeline.empty() && part) {
    return Fail(kNotOfPipeline, flags.input, "--part",
                "convert its components in parts: q4convert FOLDER_OF_THE_COMPONENT --part I/N");
  }
  if (!pipeline.empty() && !flags.adapter.empty()) {
    return Fail(kNotOfPipeline, flags.input, "--adapter",
                "merge it into its component: q4convert FOLDER_OF_THE_COMPONENT --adapter DIR");
  }
  Q4_ASSIGN_OR_RETURN(const DeviceChoice device, ParseDevice(flags.device));
  Q4_ASSIGN_OR_RETURN(ConvertOptions options, OptionsFrom(flags, !pipeline.empty()));
  options.shard_by_source = part || flags.shard_by == "source";
  Q4_RETURN_IF_ERROR(CheckBudgetFlags(flags));
  if (!pipeline.empty() && !flags.write_recipe.empty()) {
    // Two components may have tensors of one name.
    return Fail(kNotOfPipeline, flags.input, "--write-recipe",
                "a recipe knows no components; each container has its own: q4inspect CONTAINER --command, or --report");
  }
  Q4_ASSIGN_OR_RETURN(std::vector<Gate> gates, GatesFrom(fs, flags));
  if (!pipeline.empty()) {
    return ConvertPipeline(files, flags, pipeline, given.input, device, options, std::move(gates), hooks);
  }
  // Reads and validates headers; no weights yet.
  Q4_ASSIGN_OR_RETURN(auto checkpoint, OpenSource(fs, flags, container));
  if (!flags.adapter.empty()) {
    OpenOptions open;
    open.follow_symlinks = flags.follow_symlinks;
    Q4_ASSIGN_OR_RETURN(checkpoint, MergeAdapter(fs, *checkpoint, flags.adapter, open));
  }
  Q4_ASSIGN_OR_RETURN(const ModelConfigs configs, checkpoint->Configs(fs));
  if (flags.compare) {
    // The command that it prints names the source as it was typed: what was fetched lies elsewhere.
    flags.input = given.input;
    return CompareJob(flags, {{checkpoint.get(), &configs, &options, {}}}, options, device, files.Bounds(), hooks);
  }
  Q4_ASSIGN_OR_RETURN(ConversionPlan plan, PlanConversion(*checkpoint, configs, options));
  // Needs the plan: how many shards there are decides which names are written, and types name an output that nobody
  // named.
  const auto check_files = [&]() -> absl::Status {
    if (unnamed) flags.output = NameOutput(given.input, TypesOf(plan, flags.type) + ".q4");
    Q4_RETURN_IF_ERROR(CheckReport(fs, flags, *checkpoint, plan));
    return CheckOutputIsNoFlagFile(fs, flags, plan);
  };
  Q4_RETURN_IF_ERROR(check_files());
  ToolResult result;
  ProgressCallback progress;
  if (ChoosesByBudget(flags)) {
    // Measuring takes as long as a conversion: what can be refused is refused before, and again when shards are known.
    if (!flags.dry_run) Q4_RETURN_IF_ERROR(CheckOutput(fs, *checkpoint, plan, flags.output, flags.force));
    Q4_RETURN_IF_ERROR(CheckRecipeFile(fs, flags, *checkpoint, plan));
    progress = hooks.Begin();
    MeasureProgress measure(progress, flags.dry_run ? 0 : plan.source_bytes);
    Q4_ASSIGN_OR_RETURN(
        plan, PlanByBudget(*checkpoint, configs, flags, measure.Measuring(), files.Bounds(), hooks.cancel, &options));
    Q4_RETURN_IF_ERROR(check_files());
    progress = measure.Converting();
  }
  // Of a report that is asked for it must be known that it can be written, too.
  if (!flags.report.empty()) Q4_RETURN_IF_ERROR(TryReport(fs, flags.report));
  if (flags.dry_run) {
    if (part) Q4_RETURN_IF_ERROR(CheckPart(fs, *checkpoint, plan, flags.output, part->part, flags.force));
    if (part) NotePart(*checkpoint, plan, *part, &plan.notes);
    // Of a plan alone nobody asks what lies where.
    if (!part && !given.output.empty()) {
      Q4_RETURN_IF_ERROR(CheckPlannedOutput(fs, flags, *checkpoint, &plan));
    }
    const ConvertReport gated = CheckGates(*checkpoint, plan, options, gates, flags.output);
    if (!gated.gate_findings.empty()) return GatesBroken(fs, flags, gated, 0);
    for (Note& note : LimitsLeftOpen(gates)) plan.notes.push_back(std::move(note));
    const RunLimits limits = LimitsOfRun(flags.threads, flags.max_memory);
    const unsigned threads = limits.threads;
    for (std::string& note : files.Notes()) result.notes.push_back(std::move(note));
    for (std::string& line : LinesOf(plan.notes)) result.notes.push_back(std::move(line));
    const std::string document = flags.json || !flags.report.empty()
                                     ? PlanJson(*checkpoint, plan, options, threads, flags.output, files.Bounds())
                                     : std::string();
    if (flags.json) {
      result.output = document;
    } else if (!flags.quiet) {
      result.output = PlanText(*checkpoint, plan, options, threads, flags.verbose > 0, flags.output, files.Bounds());
    }
    if (!flags.report.empty()) Q4_RETURN_IF_ERROR(WriteFileAtomically(fs, flags.report, document, /*replace=*/true));
    if (flags.verbose > 0) {
      for (std::string& reason : limits.Reasons()) result.notes.push_back(std::move(reason));
    }
    Q4_RETURN_IF_ERROR(GiveRecipe(fs, flags, options));
    return result;
  }
  // Starting a GPU takes seconds, which --verbose shows apart.
  const auto begin = std::chrono::steady_clock::now();
  Q4_ASSIGN_OR_RETURN(ChosenEngine chosen, OpenDevicesFor(EncoderOfCoresAlone(plan), device, options.effort));
  const std::chrono::duration<double> opening = std::chrono::steady_clock::now() - begin;
  const auto converting = std::chrono::steady_clock::now();
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
  std::vector<std::string> told;
  if (hooks.tell) {
    run.tell = [&](const std::string& note) {
      told.push_back(note);
      hooks.tell(note);
    };
  }
  run.engine = chosen.engine.get();
  const bool auto_device = device.kind == DeviceChoice::Kind::kAuto;
  if (part) {
    std::vector<std::string> notes = files.Notes();
    if (!chosen.note.empty()) notes.push_back(chosen.note);
    return ConvertPartJob(fs, flags, *checkpoint, plan, options, run, *part, auto_device, std::move(notes));
  }
  // With "auto" a device that fails in the middle is no reason to fail: bytes do not depend on the device, so the cores
  // begin again, or resume what was durable. A device that was asked for by name fails the run.
  absl::StatusOr<ConvertReport> converted = RunConversion(fs, *checkpoint, plan, options, run, flags.output);
  if (auto_device && IsDeviceFailure(converted.status())) {
    chosen.note = "converting again on the CPU: " + MessageOf(converted.status());
    run.engine = nullptr;
    converted = RunConversion(fs, *checkpoint, plan, options, run, flags.output);
  }
  Q4_ASSIGN_OR_RETURN(const ConvertReport report, std::move(converted));
  // Of converting, publishing included, before the report below is written.
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - converting;
  const double seconds = took.count();
  if (!report.gate_findings.empty()) return GatesBroken(fs, flags, report, seconds);
  result.notes = files.Notes();
  for (const std::string& note : report.notes) {
    if (std::count(told.begin(), told.end(), note) == 0) result.notes.push_back(note);
  }
  for (const std::string& warning : report.warnings) result.notes.push_back("warning: " + warning);
  if (!chosen.note.empty()) result.notes.insert(result.notes.begin(), chosen.note);
  if (flags.verbose > 0) {
    if (!chosen.reason.empty() && chosen.note.find(chosen.reason) == std::string::npos) {
      result.notes.push_back(chosen.reason);
    }
    result.notes.push_back(
        fmt::format("{}, {}; {:.3f} s to start devices, {:.3f} s to convert, {:.3f} s to sync; {} MiB held",
                    Counted(report.threads, "thread"), chosen.engine != nullptr ? "GPU" : "CPU", opening.count(),
                    report.convert_seconds, report.publish_seconds, report.peak_budget_bytes >> 20));
    result.notes.insert(result.notes.end(), report.limits.begin(), report.limits.end());
  }
  Q4_RETURN_IF_ERROR(GiveConvertReport(fs, flags, report, seconds, &result.output));
  Q4_RETURN_IF_ERROR(GiveRecipe(fs, flags, options));
  return result;
}

}  // namespace q4
