// CLI11 fills the structs; flags whose values it cannot check alone are strings that the tools parse. Help texts are
// kept to a line: the pages of docs/ say the rest.
#include "tools/options.h"

#include <CLI/CLI.hpp>
#include <limits>
#include <utility>

#include "fmt/format.h"
#include "libconvert/encode/encoder.h"
#include "libconvert/export/export.h"
#include "libconvert/parts/part_number.h"
#include "libconvert/scheme/scheme.h"
#include "tools/option_parser.h"
#include "tools/option_parts.h"

namespace q4 {
namespace {

// The functions below describe the command line of a tool, and return what it takes a second name for, for messages.
// The order is the order in --help: input and output, the treatment of tensors, how the work is done, what is done
// with the result.
std::string_view Describe(CLI::App& app, ConvertFlags* flags) {
  app.name("q4convert");
  app.description("Quantizes a checkpoint to 4 bits, once, into one sealed .q4 file.");
  app.add_option("INPUT", flags->input,
                 "A .safetensors, PyTorch or GGUF file, an index (*.index.json), a model or pipeline directory, or a "
                 ".q4 to repack")
      ->required();
  Group(app, "Input and output");
  app.add_option(
         "-o,--output", flags->output,
         "The container to write, NAME.q4; of a pipeline a directory (default: INPUT's name and the type, here)")
      ->type_name("OUTPUT");
  app.add_option("--adapter", flags->adapter, "Folder of a PEFT LoRA to merge, as merge_and_unload() would")
      ->type_name("DIR");
  app.add_option("--components", flags->components, "Of a diffusers pipeline: which components are quantized")
      ->type_name("NAME,...");
  app.add_flag("--follow-symlinks", flags->follow_symlinks, "Read shards and companion files through symbolic links");
  app.add_flag("--allow-empty", flags->allow_empty, "Accept a checkpoint without tensors");
  app.add_option("--compress", flags->compress, "Lossless, per chunk")
      ->type_name("none|zstd[:LEVEL]")
      ->capture_default_str();
  app.add_option("--shard-size", flags->shard_size, "Split the output into parts of about this size")
      ->type_name("SIZE")
      ->transform(SizeText(0));
  app.add_option("--shard-by", flags->shard_by, "source: split where source files end; without --shard-size at each")
      ->transform(OneOf({"size", "source"}))
      ->capture_default_str();
  app.add_flag("--force", flags->force, "Replace an existing container, atomically");
  app.add_flag("--dry-run", flags->dry_run, "Print the plan and the exact output size; write nothing");
  CLI::Option* const compare = app.add_flag("--compare", flags->compare,
                                            "Print what each type, block size and encoder would make; write nothing");
  const auto notes = [](bool* asked) { return [asked](const std::string&) { *asked = true; }; };
  Group(app, "How tensors are treated");
  // The schemes come from their table, so that a new one is offered here at once.
  app.add_option("--type", flags->type, "Code book")
      ->transform(OneOf(SchemeNames()))
      ->each(notes(&flags->asked.scheme))
      ->capture_default_str();
  app.add_option("--block-size", flags->block_size, "Elements per scale: 32, 64, 128, ... 4096")
      ->type_name("N")
      ->check(OneOf({"32", "64", "128", "256", "512", "1024", "2048", "4096"}))
      ->each(notes(&flags->asked.block_size))
      ->capture_default_str();
  app.add_flag("--double-quant,!--no-double-quant", flags->double_quant,
               "Quantize the scales to 8 bits, or not (default: on)")
      ->each(notes(&flags->asked.nested));
  app.add_option("--encoder", flags->encoder, "How scales and codes are chosen")
      ->transform(OneOf(EncoderNames()))
      ->each(notes(&flags->asked.encoder))
      ->capture_default_str();
  app.add_option("--effort", flags->effort,
                 "How hard mse, weighted and feedback search: 1, 2 or 3 (a few scales, thirty-two, all)")
      ->type_name("N")
      ->transform(Count(kLeastEffort, kMostEffort))
      ->capture_default_str();
  app.add_option("--calibration", flags->calibration,
                 "What the inputs of layers look like (q4calibrate), for --encoder weighted or feedback; of a pipeline "
                 "a folder with COMPONENT.safetensors")
      ->type_name("FILE");
  // --include and --exclude share one list: their order among each other decides. trigger_on_parse() calls the function
  // as each flag is met.
  Repeatable(app.add_option_function<std::vector<std::string>>(
                    "--include",
                    [flags](const std::vector<std::string>& values) {
                      for (const std::string& value : values) flags->patterns.push_back({true, value});
                    },
                    "Quantize tensors whose name matches; repeatable, the last match of --include and --exclude wins")
                 ->type_name("RE"))
      ->trigger_on_parse();
  Repeatable(app.add_option_function<std::vector<std::string>>(
                    "--exclude",
                    [flags](const std::vector<std::string>& values) {
                      for (const std::string& value : values) flags->patterns.push_back({false, value});
                    },
                    "Keep tensors whose name matches as they are; repeatable")
                 ->type_name("RE"))
      ->trigger_on_parse();
  app.add_flag("--allow-unmatched", flags->allow_unmatched,
               "A pattern or recipe rule that matches no tensor is a note, no error");
  app.add_option("--recipe", flags->recipe, "JSON file with ordered rules")->type_name("FILE");
  app.add_flag("--from-quantized", flags->from_quantized,
               "Quantize again what has 4 bits already (MXFP4, NVFP4, .q4): its error comes on top");
  app.add_option("--keep-dtype", flags->keep_dtype, "Type of float tensors that stay unquantized")
      ->transform(OneOf({"same", "bf16", "fp16", "fp32"}))
      ->capture_default_str();
  app.add_option("--on-nonfinite", flags->on_nonfinite, "A tensor with NaN or infinity: fail, or keep it unquantized")
      ->transform(OneOf({"error", "keep"}))
      ->capture_default_str();
  Group(app, "Choosing types and block sizes by a budget");
  // What --type, --block-size and --double-quant leave open is chosen.
  AddLimit(app, "--target-bpw", flags->target_bpw, 0,
           "Choose for least error within these bits per weight; --type, --block-size, --double-quant restrict");
  AddLimit(app, "--target-nmse", flags->target_nmse, 0, "Choose for fewest bits within this error of all tensors")
      ->excludes(app.get_option("--target-bpw"));
  app.add_option("--keep-most-sensitive", flags->keep_most_sensitive,
                 "Keep tensors that lose most by weight, so many percent of the weights at most")
      ->type_name("PERCENT")
      ->check(Number(0, 100));
  app.add_flag("--fused-alike", flags->fused_alike, "Choose alike what vLLM joins: q, k, v; gate, up");
  app.add_option("--write-recipe", flags->write_recipe, "Write what was chosen to this file, for --recipe")
      ->type_name("FILE");
  // What is held against the result.
  Group(app, "Limits on the error");
  AddLimit(app, "--max-nmse", flags->max_nmse, 0, "Fail (6), leaving no output, when a tensor's NMSE exceeds this");
  app.add_option("--gate", flags->gate, "Gate file, or 'default'; fail (6), leaving no output, on a breach")
      ->type_name("FILE|default");
  Group(app, kWork);
  // Of these only --source-digest changes the bytes that are written.
  app.add_option("--device", flags->device, "auto: every GPU that works, else the CPU; never changes the bytes written")
      ->type_name("auto|cpu|cuda|cuda:N[,M...]")
      ->capture_default_str();
  AddLimits(app, flags->threads, flags->max_memory);
  app.add_flag("--no-resume", flags->no_resume, "Ignore what an interrupted run left");
  app.add_option("--sync-every", flags->sync_every,
                 "Work that an interruption may cost, as bytes of output (default: 256MiB)")
      ->type_name("SIZE")
      ->transform(SizeText(0));
  app.add_option("--source-digest", flags->source_digest, "What identifies each source file in the provenance")
      ->transform(OneOf({"sha256", "xxh3"}))
      ->capture_default_str();
  // docs/scale_out.md
  Group(app, kMachines);
  CLI::Option* const part =
      app.add_option("--part", flags->part, "From 0: convert this part of the shards only")->type_name("I/N");
  CLI::Option* const part_from_env =
      app.add_flag("--part-from-env", flags->part_from_env, "The same, I as the job's scheduler says")->excludes(part);
  CLI::Option* const merge = app.add_flag("--merge", flags->merge, "INPUT is the -o of parts: make the model of them");
  CLI::Option* const status =
      app.add_flag("--status", flags->status, "INPUT is the -o of parts: print which are missing");
  app.add_option("--parts", flags->parts, "How many, with --part-from-env or --status")
      ->type_name("N")
      ->transform(Count(1, kMostParts))
      ->excludes(part)
      ->excludes(merge);
  for (CLI::Option* const one : {part, part_from_env}) one->excludes(merge)->excludes(status);
  merge->excludes(status);
  Group(app, "A .q4 as input");
  AddRoot(app, flags->root);
  app.add_option("--tensor", flags->tensor, "Only tensors whose name matches this regular expression")->type_name("RE");
  Repeatable(
      app.add_option("--add-file", flags->add_files, "Embed or replace this file; repeatable")->type_name("NAME=PATH"));
  Repeatable(
      app.add_option("--drop-file", flags->drop_files, "Leave this embedded file out; repeatable")->type_name("NAME"));
  app.final_callback([&app, flags] {
    for (const CLI::Option* option : app.get_options()) {
      if (option->count() != 0 && !option->get_lnames().empty()) {
        flags->given.push_back("--" + option->get_lnames().front());
      }
    }
  });
  Group(app, kMessages);
  app.add_option("--report", flags->report, "Write the report (JSON) to this file, also of a dry run or a broken gate")
      ->type_name("FILE");
  // They judge or choose a conversion, or are about its output. --type and the like restrict what is compared.
  for (const char* const other :
       {"--target-bpw", "--target-nmse", "--keep-most-sensitive", "--fused-alike", "--write-recipe", "--force",
        "--no-resume", "--sync-every", "--dry-run", "--report", "--max-nmse", "--gate", "--part", "--part-from-env",
        "--parts", "--merge", "--status"}) {
    compare->excludes(app.get_option(other));
  }
  AddProgress(app, flags->progress);
  AddCommon(app, flags->quiet, flags->json, flags->verbose);
  app.footer(
      "Examples:\n"
      "  q4convert model --compare\n"
      "  q4convert model -o model.q4\n"
      "  q4convert model --dry-run\n"
      "  q4convert model -o model.q4 --gate default --report convert.json\n"
      "  q4convert model -o small.q4 --block-size 128 --exclude '^lm_head'\n"
      "  q4convert model.q4 -o smaller.q4 --compress zstd\n");
  return "to name the output, put -o before it";
}

// One option for each thing to show; they combine, but for --diff and --lint (docs/q4inspect.md).
std::string_view Describe(CLI::App& app, InspectFlags* flags) {
  app.name("q4inspect");
  app.description("Says what is in a .q4 container or a checkpoint; reads header and index only.");
  app.add_option("FILE", flags->file,
                 "A .q4 file, NAME.q4.index.json, .safetensors or PyTorch file, or a model or pipeline directory")
      ->required();
  Group(app, "What to show (default: one screen)");
  app.add_flag("--tensors", flags->tensors, "A table of all tensors");
  app.add_flag("--tree", flags->tree, "The module tree, layers that are alike shown once");
  // needs(): CLI11 refuses --dump without --tensor, and --sample without --against below.
  auto* const tensor = app.add_option("--tensor", flags->tensor, "One tensor in depth")->type_name("NAME");
  app.add_option("--dump", flags->dump, "START:COUNT, decoded values of --tensor")->type_name("RANGE")->needs(tensor);
  app.add_flag("--stats", flags->stats, "Error statistics per tensor");
  app.add_flag("--hist", flags->hist, "How often each code is used");
  app.add_flag("--scales", flags->scales, "Who chose the scales of each tensor, their signs and sizes; reads them all");
  app.add_flag("--files", flags->files, "The embedded files");
  app.add_flag("--content", flags->content,
               "The content identity of a compressed container, too, which is read for it");
  auto* const diff =
      app.add_option("--diff", flags->diff, "Compare with another container, or with a checkpoint")->type_name("OTHER");
  auto* const all = app.add_flag("--all", flags->all, "Of --diff: every tensor that differs, not the worst five");
  auto* const lint = app.add_flag("--lint", flags->lint, "Look for known faults of 4-bit checkpoints");
  auto* const card = app.add_flag("--card", flags->card, "A model card for the container, as README.md");
  AddBaseModel(app, flags->base_model)->needs(card);
  auto* const command =
      app.add_flag("--command", flags->command, "The command that makes this container again, recipe included");
  Group(app, "Which tensors");
  app.add_option("--sort", flags->sort, "Sort tables by this: size, elems, nmse largest first, sqnr smallest first")
      ->transform(OneOf({"name", "size", "elems", "nmse", "sqnr"}));
  app.add_option("--filter", flags->filter, "Only tensors whose name matches this regular expression")->type_name("RE");
  app.add_option("--top", flags->top, "Of tables only so many rows, the first by --sort")
      ->type_name("N")
      ->transform(Count(1, std::numeric_limits<std::uint32_t>::max()));
  app.add_flag("--allow-unmatched", flags->allow_unmatched, "A --filter that matches no tensor is no error");
  Group(app, "Input");
  AddRoot(app, flags->root);
  app.add_flag("--follow-symlinks", flags->follow_symlinks, "Read shards through symbolic links");
  Group(app, kMessages);
  app.add_option("--color", flags->color, "auto: colour on a terminal, none in a pipe")
      ->transform(OneOf({"auto", "always", "never"}))
      ->capture_default_str();
  // A comparison and lint look at everything: a selection beside them would be left unheard.
  for (CLI::Option* const whole : {diff, lint, card, command}) {
    for (const char* const part : {"--tensors", "--tree", "--tensor", "--stats", "--hist", "--scales", "--files",
                                   "--content", "--sort", "--filter", "--top"}) {
      whole->excludes(app.get_option(part));
    }
  }
  diff->excludes(lint)->excludes(card);
  lint->excludes(card);
  command->excludes(diff)->excludes(lint)->excludes(card);
  all->needs(diff);
  // One tensor is all of its table, and in depth it has its statistics and code usage.
  for (const char* const other :
       {"--tensors", "--tree", "--files", "--content", "--sort", "--filter", "--top", "--allow-unmatched"}) {
    tensor->excludes(app.get_option(other));
  }
  AddCommon(app, flags->quiet, flags->json, flags->verbose);
  command->excludes(app.get_option("--json"));
  app.footer(
      "Examples:\n"
      "  q4inspect model.q4\n"
      "  q4inspect model.q4 --stats --sort nmse --top 10\n"
      "  q4inspect model.q4 --tensor lm_head.weight --dump 0:64\n"
      "  q4inspect old.q4 --diff new.q4\n"
      "  q4inspect model.q4 --command > again.sh\n");
  return "to compare two, put --diff before the second";
}

// What to compare with, how much of it, and what to hold the outcome against; then the reports.
std::string_view Describe(CLI::App& app, VerifyFlags* flags) {
  app.name("q4verify");
  app.description("Checks every byte of a .q4 and, with --against, every code against its original.");
  app.add_option("FILE", flags->file, "A .q4 file, NAME.q4.index.json, or a converted pipeline")->required();
  Group(app, "Comparing with the original");
  auto* against = app.add_option("--against", flags->against, "The original checkpoint: recompute everything from it")
                      ->type_name("SOURCE");
  app.add_option("--adapter", flags->adapter, "The adapter that was merged into it: the folder that --adapter named")
      ->type_name("DIR")
      ->needs(against);
  app.add_option("--calibration", flags->calibration,
                 "The calibration file that was used: recompute with it; of a pipeline the folder of them")
      ->type_name("FILE")
      ->needs(against);
  app.add_option("--tensor", flags->tensor, "Compare only tensors whose name matches this regular expression")
      ->type_name("RE")
      ->needs(against);
  app.add_option("--sample", flags->sample, "Compare this percentage of the data, chosen by a seed that is drawn anew")
      ->type_name("PERCENT")
      ->check(Number(0, 100))
      ->needs(against);
  app.add_option("--sample-seed", flags->sample_seed, "The seed that an earlier report with --sample names")
      ->type_name("N")
      ->transform(Count(0, std::numeric_limits<std::uint64_t>::max()))
      ->needs(app.get_option("--sample"));
  app.add_flag("--require-proof", flags->require_proof,
               "Fail (6) on a tensor whose encoder leaves no unique answer, also within its bounds")
      ->needs(against);
  app.add_flag("--compare-absmax", flags->compare_absmax,
               "Say how large the error is beside what the encoder absmax makes of the same weights")
      ->needs(against);
  app.add_flag("--follow-symlinks", flags->follow_symlinks, "Read the source's shards through symbolic links");
  Group(app, "Limits");
  AddRoot(app, flags->root);
  // Each is exit code 6 where it is exceeded.
  AddLimit(app, "--max-nmse", flags->max_nmse, 0, "Fail (6) when a tensor's or the model's NMSE exceeds this");
  AddLimit(app, "--min-sqnr", flags->min_sqnr, -kNoLimit,
           "Fail (6) when a tensor's or the model's SQNR in dB is below this");
  AddLimit(app, "--max-abs-error", flags->max_abs_error, 0, "Fail (6) when an element's error exceeds this");
  app.add_option("--gate", flags->gate, "Gate file, or 'default'; fail (6) on each breach")->type_name("FILE|default");
  CLI::Option* const baseline =
      app.add_option("--baseline", flags->baseline, "An earlier --json report; fail (6) where the error has grown")
          ->type_name("FILE");
  app.add_option("--baseline-slack", flags->baseline_slack, "By how much it may have grown, as 0.5% or 0.005")
      ->type_name("SHARE")
      ->needs(baseline)
      ->capture_default_str();
  CLI::Option* const evaluation =
      app.add_option("--evaluation", flags->evaluation, "What q4.evaluate() saved of this container")
          ->type_name("FILE");
  Repeatable(
      app.add_option("--limit", flags->limits,
                     "Fail (6) where a number of the evaluation breaks this, such as 'kl_mean <= 0.02'; repeatable")
          ->type_name("RULE")
          ->needs(evaluation));
  Group(app, kWork);
  AddLimits(app, flags->threads, flags->max_memory);
  Group(app, kMessages);
  app.add_option("--junit", flags->junit, "Write a JUnit XML report")->type_name("FILE");
  app.add_option("--markdown", flags->markdown, "Write a Markdown report")->type_name("FILE");
  app.add_option("--html", flags->html, "Write an HTML report")->type_name("FILE");
  Group(app, kMachines);
  // On many machines: docs/scale_out.md. What is said of the whole model goes with the reports of all parts.
  CLI::Option* const part =
      app.add_option("--part", flags->part, "From 0: verify this part of the shards only")->type_name("I/N");
  CLI::Option* const part_from_env =
      app.add_flag("--part-from-env", flags->part_from_env, "The same, I as the job's scheduler says")->excludes(part);
  app.add_option("--parts", flags->parts, "How many, with --part-from-env")
      ->type_name("N")
      ->transform(Count(1, kMostParts))
      ->needs(part_from_env);
  CLI::Option* const merge =
      app.add_option("--merge", flags->merge, "The --json reports of all parts: judge the model by them")
          ->type_name("FOLDER");
  for (CLI::Option* const one : {part, part_from_env, merge}) {
    for (const char* const whole : {"--tensor", "--compare-absmax", "--baseline", "--evaluation"}) {
      one->excludes(app.get_option(whole));
    }
    for (const char* const of_all :
         {"--max-nmse", "--min-sqnr", "--max-abs-error", "--gate", "--junit", "--markdown", "--html"}) {
      if (one != merge) one->excludes(app.get_option(of_all));
    }
  }
  merge->excludes(part)->excludes(part_from_env)->excludes(against);
  Group(app, kMessages);
  AddProgress(app, flags->progress);
  AddCommon(app, flags->quiet, flags->json, flags->verbose);
  app.footer(
      "Examples:\n"
      "  q4verify model.q4\n"
      "  q4verify model.q4 --against model --gate default --html report.html\n"
      "  q4verify model.q4 --against model --sample 5\n"
      "  q4verify model.q4 --against model --json > verify.json\n");
  return "to compare with the original, put --against before it";
}

// The exporters come from their table, with their lines of help; options of one exporter say which.
std::string_view Describe(CLI::App& app, ExportFlags* flags) {
  app.name("q4export");
  app.description("Hands a .q4 container on to transformers, vLLM and other readers.");
  app.add_option("FILE", flags->file, "A .q4 file, NAME.q4.index.json, or a converted pipeline")->required();
  Group(app, "Output");
  app.add_option("-o,--output", flags->output,
                 "The directory (or .safetensors file) to write (default: FILE's name and the format, here)")
      ->type_name("OUTPUT");
  std::vector<std::string> exporters;
  std::string what;
  for (const ExporterRow& row : Exporters()) {
    exporters.emplace_back(row.name);
    what += fmt::format("{}{}: {}", what.empty() ? "" : "; ", row.name, row.what);
  }
  app.add_option("--to", flags->to, what)->required()->transform(OneOf(exporters));
  app.add_option("--tensor", flags->tensor, "Only tensors whose name matches this regular expression")->type_name("RE");
  app.add_option("--shard-size", flags->shard_size, "Split the weights into files of at most this size")
      ->type_name("SIZE")
      ->transform(SizeText(0));
  app.add_flag("--force", flags->force, "Replace what an earlier export wrote");
  app.add_flag("--into", flags->into, "Write into a directory that holds other files, which stay");
  app.add_flag("--card,!--no-card", flags->card, "Write a model card, README.md, or none (default: with --to bnb)")
      ->each([flags](const std::string&) { flags->card_asked = true; });
  AddBaseModel(app, flags->base_model);
  AddRoot(app, flags->root);
  Group(app, "Of one format");
  app.add_option("--dtype", flags->dtype, "Type of dequantized tensors (--to safetensors)")
      ->transform(OneOf({"same", "bf16", "fp16", "fp32"}))
      ->capture_default_str();
  app.add_option("--quant-storage", flags->quant_storage, "Type the packed codes are labelled with (--to bnb)")
      ->transform(OneOf({"uint8", "bfloat16", "float16", "float32"}))
      ->each([flags](const std::string&) { flags->quant_storage_asked = true; })
      ->capture_default_str();
  app.add_option("--compute-dtype", flags->compute_dtype, "bnb_4bit_compute_dtype in config.json (--to bnb)")
      ->transform(OneOf({"same", "float32", "float16", "bfloat16"}))
      ->capture_default_str();
  app.add_option("--experts", flags->experts, "Quantized experts of a mixture of experts (--to bnb)")
      ->transform(OneOf({"error", "dequantize", "keep4bit"}))
      ->capture_default_str();
  app.add_option("--unloadable", flags->unloadable,
                 "Quantized weights that are no linear layer's, as of embeddings (--to bnb)")
      ->transform(OneOf({"error", "dequantize", "keep4bit"}))
      ->capture_default_str();
  Group(app, kWork);
  AddLimits(app, flags->threads, flags->max_memory);
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
  Group(app, kMessages);
  AddProgress(app, flags->progress);
  AddCommon(app, flags->quiet, flags->json, flags->verbose);
  app.footer(
      "Examples:\n"
      "  q4export model.q4 --to bnb -o model-bnb\n"
      "  q4export model.q4 --to safetensors --dtype bf16 -o plain.safetensors\n"
      "  q4export model.q4 --to safetensors --tensor 'layers\\.0\\.' -o layer0\n");
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
