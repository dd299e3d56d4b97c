// CLI11 fills the structs; flags whose values it cannot check alone are strings that the tools parse. Help texts are
// kept to a line: the pages of docs/ say the rest.
//
// CLI11 throws and exits in its own ways. Parse() turns all of that into a status, so that every bad command line is
// one line of stderr and exit code 1.
#include "tools/options.h"

#include <CLI/CLI.hpp>
#include <array>
#include <charconv>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <utility>

#include "fmt/format.h"
#include "formats/base/text.h"
#include "formats/q4/shards.h"
#include "libconvert/base/nearest.h"
#include "libconvert/base/version.h"
#include "libconvert/encode/encoder.h"
#include "libconvert/export/export.h"
#include "libconvert/scheme/scheme.h"
#include "tools/usage_issues.h"

namespace q4 {
namespace {

// The footer of every --help; ExitCode in formats/base/status.h is what it describes.
constexpr char kExitCodes[] =
    "Exit codes: 0 done; 1 usage; 2 I/O; 3 invalid input; 4 internal or device; 5 unsupported; 6 a check failed;\n"
    "7 interrupted.\n";

char Lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

// Accepts a size with a unit and replaces it by plain bytes, which CLI11 then stores as a number.
CLI::Validator SizeText() {
  return CLI::Validator(
      [](std::string& text) -> std::string {
        const absl::StatusOr<std::uint64_t> bytes = ParseSize(text);
        if (!bytes.ok()) return "not a size: " + Printable(text) + " (such as 256MiB or 2GB)";
        text = std::to_string(*bytes);
        return {};
      },
      "SIZE");
}

// One of the words, in upper or lower case: nobody means anything else by NF4 than by nf4. CLI11 stores the word as it
// stands in the list.
CLI::Validator OneOf(const std::vector<std::string>& words) { return CLI::IsMember(words, CLI::ignore_case); }

// The flags that all tools have, with one meaning everywhere.
void AddCommon(CLI::App& app, bool& quiet, bool& json, int& verbose) {
  app.add_flag("-q,--quiet", quiet, "Print errors only");
  app.add_flag("-v,--verbose", verbose, "Say more on stderr");
  app.add_flag("--json", json, "Print one JSON document to stdout (docs/schema)");
}

// For the tools that work long.
CLI::Option* AddProgress(CLI::App& app, std::string& progress) {
  return app.add_option("--progress", progress, "auto|bar|plain|json|none; auto: a bar on a terminal, lines in a log")
      ->transform(OneOf({"auto", "bar", "plain", "json", "none"}));
}

// Of patterns and names: an empty one would select everything, as if the flag were not there. A shell variable that is
// not set gives one.
CLI::Validator NotEmpty() {
  return CLI::Validator(
      [](const std::string& text) { return text.empty() ? std::string("must not be empty") : std::string(); }, "");
}

// For tools that read a container: the model that it must be. An empty text is no root, so that a variable that is not
// set does not switch the check off.
void AddRoot(CLI::App& app, std::string& root) {
  app.add_option("--root", root,
                 "sha256:HEX, the root that the container must have (6); all that is read is checked by it")
      ->check(CLI::Validator(
          [](const std::string& text) {
            return ParseQ4Root(text) ? std::string()
                                     : "not a root: " + Printable(text) + " (sha256: and 64 hex digits)";
          },
          ""));
}

// All long and short names of the tool's options, as they are typed.
std::vector<std::string> OptionNames(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
    // The spellings that say no are not among them: --no-double-quant.
    for (const std::string& name : option->get_fnames()) names.push_back((name.size() == 1 ? "-" : "--") + name);
  }
  return names;
}

// The first word that no option and no argument took, and the way out; "" when there is none. CLI11 would list all of
// them, values before the flags that they belong to. `second`: what the tool takes a second name for, such as "-o".
std::string Unexpected(const CLI::App& app, std::string_view second) {
  const std::vector<std::string> left = app.remaining();
  for (const std::string& word : left) {
    if (word.size() < 2 || word.front() != '-') continue;
    const std::string name = word.substr(0, word.find('='));
    return fmt::format("there is no option '{}'{}", name, DidYouMean(name, OptionNames(app), 1));
  }
  return left.empty() ? std::string() : fmt::format("'{}' is one argument too many; {}", left.back(), second);
}

// Parses, and turns CLI11's exceptions and own exit codes (from 100) into our one usage error. `second`: as above.
absl::StatusOr<std::optional<std::string>> Parse(CLI::App& app, int argc, char** argv, std::string_view second) {
  app.footer(kExitCodes);
  app.set_version_flag("--version", std::string(app.get_name()) + " " + std::string(kQ4Version));
  app.option_defaults()->always_capture_default();
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    return app.help();
  } catch (const CLI::CallForAllHelp&) {
    return app.help("", CLI::AppFormatMode::All);
  } catch (const CLI::CallForVersion& version) {
    return std::string(version.what()) + "\n";
  } catch (const CLI::ParseError& error) {
    if (argc == 1) return Fail(kBadFlag, {}, {}, fmt::format("no arguments; {} --help lists them", app.get_name()));
    // A word that nothing took explains more than what is then missing: `q4convert model x.q4` lacks its -o.
    const bool left_over = dynamic_cast<const CLI::ExtrasError*>(&error) != nullptr ||
                           dynamic_cast<const CLI::RequiredError*>(&error) != nullptr;
    const std::string unexpected = left_over ? Unexpected(app, second) : std::string();
    // CLI11's message names the flag and what was expected; Fail() escapes what it quotes.
    return Fail(kBadFlag, {}, {}, unexpected.empty() ? std::string(error.what()) : unexpected);
  } catch (const std::out_of_range&) {
    // CLI11 lets this one through where a flag is given a number that no integer holds:
    // --double-quant=99999999999999999999.
    return Fail(kBadFlag, {}, {}, "a number is too large");
  }
  return std::nullopt;
}

}  // namespace

// Disk makers' units and those of memory are both in use, so both are taken, in their exact senses; upper and lower
// case make no difference, since nobody asks for millibytes or bits.
absl::StatusOr<std::uint64_t> ParseSize(const std::string& text) {
  static constexpr std::array<std::pair<std::string_view, double>, 15> kUnits{{{"", 1},
                                                                               {"B", 1},
                                                                               {"K", 1e3},
                                                                               {"KB", 1e3},
                                                                               {"KiB", 1024.0},
                                                                               {"M", 1e6},
                                                                               {"MB", 1e6},
                                                                               {"MiB", 1048576.0},
                                                                               {"G", 1e9},
                                                                               {"GB", 1e9},
                                                                               {"GiB", 1073741824.0},
                                                                               {"T", 1e12},
                                                                               {"TB", 1e12},
                                                                               {"TiB", 1099511627776.0},
                                                                               {"EiB", 1152921504606846976.0}}};
  // from_chars ignores the locale, which might have a decimal comma. Fixed: 1e3 is no size.
  double number = 0;
  const char* const end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, number, std::chars_format::fixed);
  if (error == std::errc() && std::isfinite(number) && number >= 0) {
    const std::string_view unit(rest, static_cast<std::size_t>(end - rest));
    for (const auto& [name, factor] : kUnits) {
      const bool same = std::equal(unit.begin(), unit.end(), name.begin(), name.end(),
                                   [](char a, char b) { return Lower(a) == Lower(b); });
      // Below 2^63, so that sums of two sizes cannot wrap.
      if (same && number * factor < 9.2e18) return static_cast<std::uint64_t>(number * factor);
    }
  }
  return Fail(kBadFlag, {}, "size", GotExpected(text, "a number with KiB, MiB, GiB, KB, MB or GB"));
}

// The order here is the order in --help: input and output, the treatment of tensors, how the work is done, what is done
// with the result.
absl::StatusOr<std::optional<std::string>> ParseFlags(int argc, char** argv, ConvertFlags* flags) {
  CLI::App app("Quantizes a checkpoint to 4 bits, once, into one sealed .q4 file.", "q4convert");
  app.add_option("INPUT", flags->input, "A .safetensors file, a *.safetensors.index.json or a model directory")
      ->required();
  app.add_option("-o,--output", flags->output, "The container to write, NAME.q4")->required();
  // The treatment of tensors. The schemes come from their table, so that a new one is offered here at once.
  app.add_option("--type", flags->type, "Code book")->transform(OneOf(SchemeNames()))->capture_default_str();
  app.add_option("--block-size", flags->block_size, "Elements per scale")
      ->check(CLI::IsMember({32u, 64u, 128u, 256u, 512u, 1024u, 2048u, 4096u}))
      ->capture_default_str();
  app.add_flag("--double-quant,!--no-double-quant", flags->double_quant, "Quantize the scales to 8 bits (default: on)");
  app.add_option("--encoder", flags->encoder, "How scales and codes are chosen")
      ->transform(OneOf(EncoderNames()))
      ->capture_default_str();
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
  app.add_flag("--allow-unmatched", flags->allow_unmatched,
               "A pattern or recipe rule that matches no tensor is a note, no error");
  app.add_option("--recipe", flags->recipe, "JSON file with ordered rules (docs/policy.md)");
  app.add_option("--keep-dtype", flags->keep_dtype, "Type of float tensors that stay unquantized")
      ->transform(OneOf({"same", "bf16", "fp16", "fp32"}))
      ->capture_default_str();
  // How the work is done. Of these only --compress, --shard-size and --source-digest change the bytes that are written.
  app.add_option("--device", flags->device, "auto|cpu|cuda|cuda:N[,M...]; never changes the bytes written")
      ->capture_default_str();
  app.add_option("--threads", flags->threads, "Worker threads (default: all cores that this process may use)")
      ->check(CLI::Range(1u, 1024u));
  app.add_option("--max-memory", flags->max_memory,
                 "Bound on host memory (default: 2GiB, or less where the machine has less)")
      ->transform(SizeText())
      ->check(CLI::PositiveNumber);
  app.add_option("--compress", flags->compress, "none|zstd[:LEVEL], lossless, per chunk")->capture_default_str();
  app.add_option("--shard-size", flags->shard_size, "Split the output into parts of about this size")
      ->transform(SizeText());
  app.add_flag("--force", flags->force, "Replace an existing container, atomically");
  app.add_flag("--no-resume", flags->no_resume, "Ignore what an interrupted run left");
  app.add_option("--sync-every", flags->sync_every,
                 "Work that an interruption may cost, as bytes of output (default 256MiB)")
      ->transform(SizeText());
  app.add_flag("--dry-run", flags->dry_run, "Print the plan and the exact output size; write nothing");
  app.add_option("--source-digest", flags->source_digest, "What identifies each source file in the provenance")
      ->transform(OneOf({"sha256", "xxh3"}))
      ->capture_default_str();
  // What is held against the result, and what becomes of inputs that are out of the ordinary.
  app.add_option("--report", flags->report, "Write the conversion report (JSON) to this file");
  app.add_option("--max-nmse", flags->max_nmse, "Fail (6), leaving no output, when a tensor's NMSE exceeds this");
  app.add_option("--gate", flags->gate,
                 "Gate file (docs/gates.md), or 'default'; fail (6), leaving no output, on a breach");
  app.add_option("--on-nonfinite", flags->on_nonfinite, "A tensor with NaN or infinity: fail, or keep it unquantized")
      ->transform(OneOf({"error", "keep"}))
      ->capture_default_str();
  app.add_flag("--follow-symlinks", flags->follow_symlinks, "Read shards and companion files through symbolic links");
  app.add_flag("--allow-empty", flags->allow_empty, "Accept a checkpoint without tensors");
  AddProgress(app, flags->progress);
  AddCommon(app, flags->quiet, flags->json, flags->verbose);
  return Parse(app, argc, argv, "to name the output, put -o before it");
}

// One option for each thing to show; they combine, but for --diff and --lint (docs/q4inspect.md).
absl::StatusOr<std::optional<std::string>> ParseFlags(int argc, char** argv, InspectFlags* flags) {
  CLI::App app("Says what is in a .q4 container or a safetensors checkpoint, reading its header and index only.",
               "q4inspect");
  app.add_option("FILE", flags->file, "A .q4 file, NAME.q4.index.json, .safetensors file or model directory")
      ->required();
  app.add_flag("--tensors", flags->tensors, "A table of all tensors");
  app.add_flag("--tree", flags->tree, "The module tree, layers that are alike shown once");
  // needs(): CLI11 refuses --dump without --tensor, and --sample without --against below.
  auto* tensor = app.add_option("--tensor", flags->tensor, "One tensor in depth")->check(NotEmpty());
  app.add_option("--dump", flags->dump, "START:COUNT, decoded values of --tensor")->needs(tensor);
  app.add_flag("--stats", flags->stats, "Error statistics per tensor");
  app.add_flag("--hist", flags->hist, "How often each code is used");
  app.add_flag("--files", flags->files, "The embedded files");
  app.add_flag("--content", flags->content,
               "The content identity of a compressed container, too, which is read for it");
  app.add_option("--sort", flags->sort, "Sort tables by name, size, elems, nmse or sqnr")
      ->transform(OneOf({"name", "size", "elems", "nmse", "sqnr"}));
  app.add_option("--filter", flags->filter, "Only tensors whose name matches this regular expression")
      ->check(NotEmpty());
  app.add_flag("--allow-unmatched", flags->allow_unmatched, "A --filter that matches no tensor is no error");
  app.add_option("--diff", flags->diff, "Compare with another container, or with a checkpoint");
  AddRoot(app, flags->root);
  app.add_option("--color", flags->color, "auto: colour on a terminal, none in a pipe")
      ->transform(OneOf({"auto", "always", "never"}))
      ->capture_default_str();
  app.add_flag("--lint", flags->lint, "Look for known faults of 4-bit checkpoints");
  app.add_flag("--follow-symlinks", flags->follow_symlinks, "Read shards through symbolic links");
  AddCommon(app, flags->quiet, flags->json, flags->verbose);
  return Parse(app, argc, argv, "to compare two, put --diff before the second");
}

// What to compare with, how much of it, and what to hold the outcome against; then the reports.
absl::StatusOr<std::optional<std::string>> ParseFlags(int argc, char** argv, VerifyFlags* flags) {
  CLI::App app("Checks every byte of a .q4 container and, with --against, every code against the original.",
               "q4verify");
  app.add_option("FILE", flags->file, "A .q4 file or NAME.q4.index.json")->required();
  auto* against = app.add_option("--against", flags->against, "The original checkpoint: recompute everything from it");
  AddRoot(app, flags->root);
  app.add_option("--tensor", flags->tensor, "Compare only tensors whose name matches this regular expression")
      ->check(NotEmpty())
      ->needs(against);
  app.add_option("--sample", flags->sample, "Compare this percentage of the data, chosen by a seed that is drawn anew")
      ->needs(against);
  app.add_option("--sample-seed", flags->sample_seed, "The seed that an earlier report with --sample names")
      ->needs(against);
  app.add_flag("--require-proof", flags->require_proof,
               "Fail (6) on a tensor whose encoder leaves no unique answer, also within its bounds")
      ->needs(against);
  app.add_option("--threads", flags->threads, "Worker threads (default: all cores that this process may use)")
      ->check(CLI::Range(1u, 1024u));
  app.add_option("--max-memory", flags->max_memory,
                 "Bound on host memory (default: 2GiB, or less where the machine has less)")
      ->transform(SizeText())
      ->check(CLI::PositiveNumber);
  // Limits: each is exit code 6 where it is exceeded.
  app.add_option("--max-nmse", flags->max_nmse, "Fail (6) when a tensor's or the model's NMSE exceeds this");
  app.add_option("--min-sqnr", flags->min_sqnr, "Fail (6) when a tensor's or the model's SQNR in dB is below this");
  app.add_option("--max-abs-error", flags->max_abs_error, "Fail (6) when an element's error exceeds this");
  app.add_option("--gate", flags->gate, "Gate file (docs/gates.md), or 'default'; fail (6) on each breach");
  CLI::Option* const baseline =
      app.add_option("--baseline", flags->baseline, "An earlier --json report; fail (6) where the error has grown");
  app.add_option("--baseline-slack", flags->baseline_slack, "By how much it may have grown")
      ->needs(baseline)
      ->capture_default_str();
  app.add_option("--junit", flags->junit, "Write a JUnit XML report");
  app.add_option("--markdown", flags->markdown, "Write a Markdown report");
  app.add_option("--html", flags->html, "Write an HTML report");
  app.add_flag("--follow-symlinks", flags->follow_symlinks, "Read the source's shards through symbolic links");
  AddProgress(app, flags->progress);
  AddCommon(app, flags->quiet, flags->json, flags->verbose);
  return Parse(app, argc, argv, "to compare with the original, put --against before it");
}

// The exporters come from their table, with their lines of help; options of one exporter say which.
absl::StatusOr<std::optional<std::string>> ParseFlags(int argc, char** argv, ExportFlags* flags) {
  CLI::App app("Hands a .q4 container on to transformers, vLLM and other readers.", "q4export");
  app.add_option("FILE", flags->file, "A .q4 file or NAME.q4.index.json")->required();
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
  app.add_option("--tensor", flags->tensor, "Only tensors whose name matches this regular expression")
      ->check(NotEmpty());
  app.add_option("--quant-storage", flags->quant_storage, "Type the packed codes are labelled with (--to bnb)")
      ->transform(OneOf({"uint8", "bfloat16", "float16", "float32"}))
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
      ->transform(SizeText());
  app.add_option("--threads", flags->threads, "Worker threads (default: all cores that this process may use)")
      ->check(CLI::Range(1u, 1024u));
  app.add_option("--max-memory", flags->max_memory,
                 "Bound on host memory (default: 2GiB, or less where the machine has less)")
      ->transform(SizeText())
      ->check(CLI::PositiveNumber);
  app.add_flag("--force", flags->force, "Replace what an earlier export wrote");
  app.add_flag("--into", flags->into, "Write into a directory that holds other files, which stay");
  AddProgress(app, flags->progress);
  AddCommon(app, flags->quiet, flags->json, flags->verbose);
  return Parse(app, argc, argv, "to name the output, put -o before it");
}

}  // namespace q4
