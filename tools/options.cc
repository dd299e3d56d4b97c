// CLI11 fills the structs; flags whose values it cannot check alone are strings that the tools parse. Help texts are
// kept to a line: the pages of docs/ say the rest.
#include "tools/options.h"

#include <CLI/CLI.hpp>
#include <limits>
#include <utility>

#include "fmt/format.h"
#include "formats/q4/shards.h"
#include "libconvert/card/card.h"
#include "libconvert/encode/encoder.h"
#include "libconvert/export/export.h"
#include "libconvert/parts/part_number.h"
#include "libconvert/scheme/scheme.h"
#include "tools/option_parser.h"

namespace q4 {
namespace {

constexpr double kNoLimit = std::numeric_limits<double>::infinity();

// CLI11 reads numbers as C does, with octal, hexadecimal, signs, white space, infinity and NaN; --threads 010 would be
// 8. So what is a number is decided here, and what CLI11 then reads is plain.

// A size with a unit, as plain bytes.
CLI::Validator SizeText(std::uint64_t least) {
  return CLI::Validator(
      [least](std::string& text) -> std::string {
        const absl::StatusOr<std::uint64_t> bytes = ParseSize(text);
        if (!bytes.ok()) return "not a size: " + text + " (such as 256MiB or 2GB)";
        if (*bytes < least) return fmt::format("at least {} bytes, got {}", least, text);
        text = std::to_string(*bytes);
        return {};
      },
      "SIZE");
}

CLI::Validator Count(std::uint64_t least, std::uint64_t most) {
  return CLI::Validator([least, most](std::string& text) { return ProblemOfCount(least, most, &text); }, "COUNT");
}

CLI::Validator Number(double least, double most) {
  return CLI::Validator([least, most](const std::string& text) { return ProblemOfNumber(least, most, text); },
                        "NUMBER");
}

// One of the words, in upper or lower case: nobody means anything else by NF4 than by nf4. CLI11 stores the word as it
// stands in the list.
CLI::Validator OneOf(const std::vector<std::string>& words) { return CLI::IsMember(words, CLI::ignore_case); }

// The flags that all tools have, with one meaning everywhere.
void AddCommon(CLI::App& app, bool& quiet, bool& json, int& verbose) {
  auto* const silent = app.add_flag("-q,--quiet", quiet, "Print errors only");
  app.add_flag("-v,--verbose", verbose, "Say more on stderr")->excludes(silent);
  app.add_flag("--json", json, "Print one JSON document to stdout (docs/schema)");
}

// For the tools that work long.
CLI::Option* AddProgress(CLI::App& app, std::string& progress) {
  return app.add_option("--progress", progress, "auto|bar|plain|json|none; auto: a bar on a terminal, lines in a log")
      ->transform(OneOf({"auto", "bar", "plain", "json", "none"}));
}

// What bounds the work, for the tools that do much of it.
void AddLimits(CLI::App& app, unsigned& threads, std::uint64_t& max_memory) {
  app.add_option("--threads", threads, "Worker threads (default: all cores that this process may use)")
      ->transform(Count(1, 1024));
  app.add_option("--max-memory", max_memory, "Bound on host memory (default: 2GiB, or less where the machine has less)")
      ->transform(SizeText(1));
}

// Limits on the error: infinity and NaN would be none.
CLI::Option* AddLimit(CLI::App& app, const std::string& name, std::optional<double>& limit, double least,
                      const std::string& about) {
  return app.add_option(name, limit, about)->check(Number(least, kNoLimit));
}

// For tools that read a container: the model that it must be.
void AddRoot(CLI::App& app, std::string& root) {
  const auto problem = [](const std::string& text) {
    return ParseQ4Root(text) ? std::string() : "not a root: " + text + " (sha256: and 64 hex digits)";
  };
  app.add_option("--root", root, "sha256:HEX, the root of the container (else 6), by which all that is read is checked")
      ->check(CLI::Validator(problem, ""));
}

// For tools that write model cards.
CLI::Option* AddBaseModel(CLI::App& app, std::string& name) {
  const auto problem = [](const std::string& text) {
    return IsModelName(text) ? std::string() : "no name of a model: " + text + " (OWNER/NAME)";
  };
  return app.add_option("--base-model", name, "OWNER/NAME of the original, for the model card")
      ->check(CLI::Validator(problem, ""));
}

// The functions below describe the command line of a tool, and return what it takes a second name for, for messages.
// The order is the order in --help: input and output, the treatment of tensors, how the work is done, what is done
// with the result.
std::string_view Describe(CLI::App& app, ConvertFlags* flags) {
  app.name("q4convert");
  app.description("Quantizes a checkpoint to 4 bits, once, into one sealed .q4 file.");
  app.add_option(
         "INPUT", flags->input,
         "A .safetensors or PyTorch file, an index (*.index.json), a model or pipeline directory, or a .q4 to repack")
      ->required();
  app.add_option("-o,--output", flags->output, "The container to write, NAME.q4; of a pipeline a directory");
  app.add_option("--adapter", flags->adapter, "Folder of a PEFT LoRA to merge, as merge_and_unload() would");
  const auto notes = [](bool* asked) { return [asked](const std::string&) { *asked = true; }; };
  // The treatment of tensors. The schemes come from their table, so that a new one is offered here at once.
  app.add_option("--type", flags->type, "Code book")
      ->transform(OneOf(SchemeNames()))
      ->each(notes(&flags->asked.scheme))
      ->capture_default_str();
  app.add_option("--block-size", flags->block_size, "Elements per scale: 32, 64, 128, ... 4096")
      ->check(CLI::IsMember(std::vector<std::string>{"32", "64", "128", "256", "512", "1024", "2048", "4096"}))
      ->each(notes(&flags->asked.block_size))
      ->capture_default_str();
  app.add_flag("--double-quant,!--no-double-quant", flags->double_quant, "Quantize the scales to 8 bits (default: on)")
      ->each(notes(&flags->asked.nested));
  app.add_option("--encoder", flags->encoder, "How scales and codes are chosen")
      ->transform(OneOf(EncoderNames()))
      ->each(notes(&flags->asked.encoder))
      ->capture_default_str();
  app.add_option("--effort", flags->effort,
                 "How hard mse, weighted and feedback search: 1, 2 or 3 (a few scales, thirty-two, all)")
      ->transform(Count(kLeastEffort, kMostEffort))
      ->capture_default_str();
  app.add_option("--calibration", flags->calibration,
                 "Calibration file: what the inputs of layers look like, for --encoder weighted or feedback");
  // --include and --exclude share one list: their order among each other decides. trigger_on_parse() calls the function
  // as each flag is met; expected(1) keeps an INPUT behind it from being taken for another pattern.
  app.add_option_function<std::vector<std::string>>(
         "--include",
         [flags](const std::vector<std::string>& values) {
           for (const std::string& value : values) flags->patterns.push_back({true, value});
         },
         "Quantize tensors whose name matches; repeatable, the last match of --include and --exclude wins")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
      ->trigger_on_parse();
  app.add_option_function<std::vector<std::string>>(
         "--exclude",
         [flags](const std::vector<std::string>& values) {
           for (const std::string& value : values) flags->patterns.push_back({false, value});
         },
         "Keep tensors whose name matches as they are; repeatable")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
      ->trigger_on_parse();
  app.add_option("--components", flags->components,
                 "Of a diffusers pipeline: which components are quantized, NAME[,NAME...]");
  app.add_flag("--allow-unmatched", flags->allow_unmatched,
               "A pattern or recipe rule that matches no tensor is a note, no error");
  app.add_option("--recipe", flags->recipe, "JSON file with ordered rules (docs/policy.md)");
  // What --type, --block-size and --double-quant leave open is chosen.
  AddLimit(app, "--target-bpw", flags->target_bpw, 0,
           "Choose for least error within these bits per weight; --type, --block-size, --double-quant restrict");
  AddLimit(app, "--target-nmse", flags->target_nmse, 0, "Choose for fewest bits within this error of all tensors")
      ->excludes(app.get_option("--target-bpw"));
  app.add_option("--keep-most-sensitive", flags->keep_most_sensitive,
                 "Keep tensors that lose most by weight, PERCENT of the weights at most")
      ->check(Number(0, 100));
  app.add_flag("--fused-alike", flags->fused_alike, "Choose alike what vLLM joins: q, k, v; gate, up");
  app.add_option("--write-recipe", flags->write_recipe, "Write what was chosen to this file, for --recipe");
  app.add_flag("--from-quantized", flags->from_quantized,
               "Quantize again what has 4 bits already (MXFP4, NVFP4, .q4): its error comes on top");
  app.add_option("--keep-dtype", flags->keep_dtype, "Type of float tensors that stay unquantized")
      ->transform(OneOf({"same", "bf16", "fp16", "fp32"}))
      ->capture_default_str();
  // How the work is done. Of these only --compress, --shard-size and --source-digest change the bytes that are written.
  app.add_option("--device", flags->device, "auto|cpu|cuda|cuda:N[,M...]; never changes the bytes written")
      ->capture_default_str();
  AddLimits(app, flags->threads, flags->max_memory);
  app.add_option("--compress", flags->compress, "none|zstd[:LEVEL], lossless, per chunk")->capture_default_str();
  app.add_option("--shard-size", flags->shard_size, "Split the output into parts of about this size")
      ->transform(SizeText(0));
  app.add_option("--shard-by", flags->shard_by, "source: split where source files end; without --shard-size at each")
      ->transform(OneOf({"size", "source"}))
      ->capture_default_str();
  // On many machines: docs/scale_out.md.
  CLI::Option* const part = app.add_option("--part", flags->part, "I/N, from 0: convert this part of the shards only");
  CLI::Option* const part_from_env =
      app.add_flag("--part-from-env", flags->part_from_env, "The same, I as the job's scheduler says")->excludes(part);
  CLI::Option* const merge = app.add_flag("--merge", flags->merge, "INPUT is the -o of parts: make the model of them");
  CLI::Option* const status =
      app.add_flag("--status", flags->status, "INPUT is the -o of parts: print which are missing");
  app.add_option("--parts", flags->parts, "N, with --part-from-env or --status")
      ->transform(Count(1, kMostParts))
      ->excludes(part)
      ->excludes(merge);
  for (CLI::Option* const one : {part, part_from_env}) one->excludes(merge)->excludes(status);
  merge->excludes(status);
  app.add_flag("--force", flags->force, "Replace an existing container, atomically");
  app.add_flag("--no-resume", flags->no_resume, "Ignore what an interrupted run left");
  app.add_option("--sync-every", flags->sync_every,
                 "Work that an interruption may cost, as bytes of output (default 256MiB)")
      ->transform(SizeText(0));
  CLI::Option* const dry_run =
      app.add_flag("--dry-run", flags->dry_run, "Print the plan and the exact output size; write nothing");
  CLI::Option* const compare = app.add_flag("--compare", flags->compare,
                                            "Print what each type, block size and encoder would make; write nothing");
  app.add_option("--source-digest", flags->source_digest, "What identifies each source file in the provenance")
      ->transform(OneOf({"sha256", "xxh3"}))
      ->capture_default_str();
  // What is held against the result, and what becomes of inputs that are out of the ordinary.
  app.add_option("--report", flags->report, "Write the conversion report (JSON) to this file")->excludes(dry_run);
  AddLimit(app, "--max-nmse", flags->max_nmse, 0, "Fail (6), leaving no output, when a tensor's NMSE exceeds this");
  app.add_option("--gate", flags->gate,
                 "Gate file (docs/gates.md), or 'default'; fail (6), leaving no output, on a breach");
  app.add_option("--on-nonfinite", flags->on_nonfinite, "A tensor with NaN or infinity: fail, or keep it unquantized")
      ->transform(OneOf({"error", "keep"}))
      ->capture_default_str();
  // They judge or choose a conversion, or are about its output. --type and the like restrict what is compared.
  for (const char* const other :
       {"--target-bpw", "--target-nmse", "--keep-most-sensitive", "--fused-alike", "--write-recipe", "--force",
        "--no-resume", "--sync-every", "--dry-run", "--report", "--max-nmse", "--gate"}) {
    compare->excludes(app.get_option(other));
  }
  app.add_flag("--follow-symlinks", flags->follow_symlinks, "Read shards and companion files through symbolic links");
  app.add_flag("--allow-empty", flags->allow_empty, "Accept a checkpoint without tensors");
  // A container as input.
  AddRoot(app, flags->root);
  app.add_option("--tensor", flags->tensor, "Of a .q4: only tensors whose name matches this regular expression");
  app.add_option("--add-file", flags->add_files, "Of a .q4: NAME=PATH, embed or replace this file; repeatable")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  app.add_option("--drop-file", flags->drop_files, "Of a .q4: leave this embedded file out; repeatable")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  app.final_callback([&app, flags] {
    // A comparison writes nothing.
    if (flags->output.empty() && !flags->compare) throw CLI::RequiredError("--output");
    for (const CLI::Option* option : app.get_options()) {
      if (option->count() != 0 && !option->get_lnames().empty()) {
        flags->given.push_back("--" + option->get_lnames().front());
      }
    }
    // Parts have their output for INPUT.
    if (flags->output.empty() && !flags->merge && !flags->status) throw CLI::RequiredError("--output");
  });
  AddProgress(app, flags->progress);
  AddCommon(app, flags->quiet, flags->json, flags->verbose);
  return "to name the output, put -o before it";
}

// One option for each thing to show; they combine, but for --diff and --lint (docs/q4inspect.md).
std::string_view Describe(CLI::App& app, InspectFlags* flags) {
  app.name("q4inspect");
  app.description("Says what is in a .q4 container or a checkpoint, reading its header and index only.");
  app.add_option("FILE", flags->file,
                 "A .q4 file, NAME.q4.index.json, .safetensors or PyTorch file, or a model or pipeline directory")
      ->required();
  app.add_flag("--tensors", flags->tensors, "A table of all tensors");
  app.add_flag("--tree", flags->tree, "The module tree, layers that are alike shown once");
  // needs(): CLI11 refuses --dump without --tensor, and --sample without --against below.
  auto* const tensor = app.add_option("--tensor", flags->tensor, "One tensor in depth");
  app.add_option("--dump", flags->dump, "START:COUNT, decoded values of --tensor")->needs(tensor);
  app.add_flag("--stats", flags->stats, "Error statistics per tensor");
  app.add_flag("--hist", flags->hist, "How often each code is used");
  app.add_flag("--scales", flags->scales, "Who chose the scales of each tensor, their signs and sizes; reads them all");
  app.add_flag("--files", flags->files, "The embedded files");
  CLI::Option* const card = app.add_flag("--card", flags->card, "A model card for the container, as README.md");
  AddBaseModel(app, flags->base_model)->needs(card);
  app.add_flag("--content", flags->content,
               "The content identity of a compressed container, too, which is read for it");
  app.add_option("--sort", flags->sort, "Sort tables by name, size, elems, nmse or sqnr")
      ->transform(OneOf({"name", "size", "elems", "nmse", "sqnr"}));
  app.add_option("--filter", flags->filter, "Only tensors whose name matches this regular expression");
  app.add_flag("--allow-unmatched", flags->allow_unmatched, "A --filter that matches no tensor is no error");
  auto* const diff = app.add_option("--diff", flags->diff, "Compare with another container, or with a checkpoint");
  AddRoot(app, flags->root);
  app.add_option("--color", flags->color, "auto: colour on a terminal, none in a pipe")
      ->transform(OneOf({"auto", "always", "never"}))
      ->capture_default_str();
  auto* const lint = app.add_flag("--lint", flags->lint, "Look for known faults of 4-bit checkpoints");
  app.add_flag("--follow-symlinks", flags->follow_symlinks, "Read shards through symbolic links");
  // A comparison and lint look at everything: a selection beside them would be left unheard.
  for (CLI::Option* const whole : {diff, lint, card}) {
    for (const char* const part : {"--tensors", "--tree", "--tensor", "--stats", "--hist", "--scales", "--files",
                                   "--content", "--sort", "--filter"}) {
      whole->excludes(app.get_option(part));
    }
  }
  diff->excludes(lint)->excludes(card);
  lint->excludes(card);
  tensor->excludes(app.get_option("--filter"));
  AddCommon(app, flags->quiet, flags->json, flags->verbose);
  return "to compare two, put --diff before the second";
}

// What to compare with, how much of it, and what to hold the outcome against; then the reports.
std::string_view Describe(CLI::App& app, VerifyFlags* flags) {
  app.name("q4verify");
  app.description("Checks every byte of a .q4 container and, with --against, every code against the original.");
  app.add_option("FILE", flags->file, "A .q4 file, NAME.q4.index.json, or a converted pipeline")->required();
  auto* against = app.add_option("--against", flags->against, "The original checkpoint: recompute everything from it");
  app.add_option("--adapter", flags->adapter, "The adapter that was merged into it: the folder that --adapter named")
      ->needs(against);
  app.add_option("--calibration", flags->calibration, "The calibration file that was used: recompute with it")
      ->needs(against);
  AddRoot(app, flags->root);
  app.add_option("--tensor", flags->tensor, "Compare only tensors whose name matches this regular expression")
      ->needs(against);
  app.add_option("--sample", flags->sample, "Compare this percentage of the data, chosen by a seed that is drawn anew")
      ->check(Number(0, 100))
      ->needs(against);
  app.add_option("--sample-seed", flags->sample_seed, "The seed that an earlier report with --sample names")
      ->transform(Count(0, std::numeric_limits<std::uint64_t>::max()))
      ->needs(against);
  app.add_flag("--require-proof", flags->require_proof,
               "Fail (6) on a tensor whose encoder leaves no unique answer, also within its bounds")
      ->needs(against);
  app.add_flag("--compare-absmax", flags->compare_absmax,
               "Say how large the error is beside what the encoder absmax makes of the same weights")
      ->needs(against);
  AddLimits(app, flags->threads, flags->max_memory);
  // Limits: each is exit code 6 where it is exceeded.
  AddLimit(app, "--max-nmse", flags->max_nmse, 0, "Fail (6) when a tensor's or the model's NMSE exceeds this");
  AddLimit(app, "--min-sqnr", flags->min_sqnr, -kNoLimit,
           "Fail (6) when a tensor's or the model's SQNR in dB is below this");
  AddLimit(app, "--max-abs-error", flags->max_abs_error, 0, "Fail (6) when an element's error exceeds this");
  app.add_option("--gate", flags->gate, "Gate file (docs/gates.md), or 'default'; fail (6) on each breach");
  CLI::Option* const baseline =
      app.add_option("--baseline", flags->baseline, "An earlier --json report; fail (6) where the error has grown");
  app.add_option("--baseline-slack", flags->baseline_slack, "By how much it may have grown")
      ->needs(baseline)
      ->capture_default_str();
  CLI::Option* const evaluation = app.add_option("--evaluation", flags->evaluation,
                                                 "What q4.evaluate() saved of this container (docs/evaluate.md)");
  app.add_option("--limit", flags->limits,
                 "Fail (6) where a number of the evaluation breaks this, such as 'kl_mean <= 0.02'; repeatable")
      ->needs(evaluation)
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  app.add_option("--junit", flags->junit, "Write a JUnit XML report");
  app.add_option("--markdown", flags->markdown, "Write a Markdown report");
  app.add_option("--html", flags->html, "Write an HTML report");
  app.add_flag("--follow-symlinks", flags->follow_symlinks, "Read the source's shards through symbolic links");
  AddProgress(app, flags->progress);
  AddCommon(app, flags->quiet, flags->json, flags->verbose);
  return "to compare with the original, put --against before it";
}

// The exporters come from their table, with their lines of help; options of one exporter say which.
std::string_view Describe(CLI::App& app, ExportFlags* flags) {
  app.name("q4export");
  app.description("Hands a .q4 container on to transformers, vLLM and other readers.");
  app.add_option("FILE", flags->file, "A .q4 file, NAME.q4.index.json, or a converted pipeline")->required();
  app.add_option("-o,--output", flags->output, "The directory (or .safetensors file) to write")->required();
  std::vector<std::string> exporters;
  std::string what;
  for (const ExporterRow& row : Exporters()) {
    exporters.emplace_back(row.name);
    what += fmt::format("{}{}: {}", what.empty() ? "" : "; ", row.name, row.what);
  }
  app.add_option("--to", flags->to, what)->required()->transform(OneOf(exporters));
  AddRoot(app, flags->root);
  app.add_option("--dtype", flags->dtype, "Type of dequantized tensors (--to safetensors)")
      ->transform(OneOf({"same", "bf16", "fp16", "fp32"}))
      ->capture_default_str();
  app.add_option("--tensor", flags->tensor, "Only tensors whose name matches this regular expression");
  app.add_option("--quant-storage", flags->quant_storage, "Type the packed codes are labelled with (--to bnb)")
      ->transform(OneOf({"uint8", "bfloat16", "float16", "float32"}))
      ->each([flags](const std::string&) { flags->quant_storage_asked = true; })
      ->capture_default_str();
  app.add_option("--compute-dtype", flags->compute_dtype, "bnb_4bit_compute_dtype in config.json (--to bnb)")
      ->transform(OneOf({"same", "float32", "float16", "bfloat16"}))
      ->capture_default_str();
  app.add_option("--experts", flags->experts, "Quantized experts of a mixture of experts (--to bnb)")
      ->check(CLI::IsMember({"error", "dequantize", "keep4bit"}))
      ->capture_default_str();
  app.add_option("--unloadable", flags->unloadable,
                 "Quantized weights that are no linear layer's, as of embeddings (--to bnb)")
      ->check(CLI::IsMember({"error", "dequantize", "keep4bit"}))
      ->capture_default_str();
  app.add_option("--shard-size", flags->shard_size, "Split the weights into files of at most this size")
      ->transform(SizeText(0));
  AddLimits(app, flags->threads, flags->max_memory);
  app.add_flag("--force", flags->force, "Replace what an earlier export wrote");
  // An option that the chosen exporter does not look at would be left unheard.
  app.final_callback([&app, flags] {
    constexpr std::pair<const char*, std::string_view> kOf[] = {
        {"--quant-storage", "bnb"}, {"--compute-dtype", "bnb"}, {"--experts", "bnb"}, {"--unloadable", "bnb"}};
    for (const auto& [name, exporter] : kOf) {
      if (app.count(name) != 0 && flags->to != exporter) {
        throw CLI::ValidationError(name, fmt::format("goes with --to {}, not with --to {}", exporter, flags->to));
      }
    }
    if (!flags->card && !flags->base_model.empty()) {
      throw CLI::ValidationError("--base-model", "stands in the card that --no-card leaves out");
    }
  });
  app.add_flag("--card,!--no-card", flags->card, "Write a model card, README.md (default: with --to bnb)")
      ->each([flags](const std::string&) { flags->card_asked = true; });
  AddBaseModel(app, flags->base_model);
  app.add_flag("--into", flags->into, "Write into a directory that holds other files, which stay");
  AddProgress(app, flags->progress);
  AddCommon(app, flags->quiet, flags->json, flags->verbose);
  return "to name the output, put -o before it";
}

template <typename Flags>
absl::StatusOr<std::optional<std::string>> ParseAs(int argc, char** argv, Flags* flags) {
  CLI::App app;
  const std::string_view second = Describe(app, flags);
  return ParseWords(app, argc, argv, second);
}

template <typename Flags>
std::vector<OptionInfo> List() {
  CLI::App app;
  Flags flags;
  Describe(app, &flags);
  return ListOptions(app);
}

}  // namespace

absl::StatusOr<std::optional<std::string>> ParseFlags(int argc, char** argv, ConvertFlags* flags) {
  return ParseAs(argc, argv, flags);
}
absl::StatusOr<std::optional<std::string>> ParseFlags(int argc, char** argv, InspectFlags* flags) {
  return ParseAs(argc, argv, flags);
}
absl::StatusOr<std::optional<std::string>> ParseFlags(int argc, char** argv, VerifyFlags* flags) {
  return ParseAs(argc, argv, flags);
}
absl::StatusOr<std::optional<std::string>> ParseFlags(int argc, char** argv, ExportFlags* flags) {
  return ParseAs(argc, argv, flags);
}

std::vector<OptionInfo> OptionsOf(const ConvertFlags&) { return List<ConvertFlags>(); }
std::vector<OptionInfo> OptionsOf(const InspectFlags&) { return List<InspectFlags>(); }
std::vector<OptionInfo> OptionsOf(const VerifyFlags&) { return List<VerifyFlags>(); }
std::vector<OptionInfo> OptionsOf(const ExportFlags&) { return List<ExportFlags>(); }

}  // namespace q4
