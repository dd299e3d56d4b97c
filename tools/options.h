// The command lines of the four tools: one struct each, filled by ParseFlags(). The structs hold what was typed,
// checked as far as a flag can be checked alone; what the words mean is decided where the tools turn flags into the
// library's options. Sizes are in bytes. Defaults here are the documented ones (docs/q4convert.md and the like).
// Only options.cc and option_parser.h include CLI11.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/base/status.h"
#include "libconvert/policy/policy.h"

namespace q4 {

// q4convert INPUT -o OUTPUT.
struct ConvertFlags {
  // A .safetensors file, a *.safetensors.index.json, a model directory or a container; the container to write, "" for
  // the name of NameOutput() (output_name.h).
  std::string input, output;
  // The long names of all options that were given, in the order of --help: a container takes other ones than a
  // checkpoint.
  std::vector<std::string> given;
  // Of a container: the root that it must have, a regular expression on the names of its tensors, files that are
  // embedded (NAME=PATH) and names of embedded files that are left out. "" for none.
  std::string root, tensor;
  std::vector<std::string> add_files, drop_files;
  // Name of a quantized scheme (SchemeNames()).
  std::string type = "nf4";
  // Elements per scale: a power of two, 32 to 4096.
  std::uint32_t block_size = 64;
  // Whether scales are nested.
  bool double_quant = true;
  std::string encoder = "absmax";     // one of EncoderNames()
  int effort = kDefaultEffort;        // of an encoder that searches: 1 to 3
  AskedSettings asked;                // which of these four were typed
  std::vector<PatternRule> patterns;  // --include and --exclude in command-line order
  std::string components;             // of a pipeline, separated by commas; "" for those of OpenPipeline()
  std::string recipe;                 // path of a JSON file; "" for none
  bool allow_unmatched = false;       // of these patterns and the recipe's
  std::string calibration;            // a calibration file, for an encoder that uses it; "" for none
  // Types and block sizes by a budget (libconvert/budget): bits per weight or an error, percent of the weights that are
  // kept, layers that are joined alike; where the recipe that comes of it is written, "" for nowhere.
  std::optional<double> target_bpw, target_nmse, keep_most_sensitive;
  bool fused_alike = false;
  std::string write_recipe;
  std::string adapter;          // folder of a LoRA of PEFT that is merged; "" for none
  bool from_quantized = false;  // leave to quantize what has 4 bits already
  // Dtype of kept float tensors: same, bf16, fp16 or fp32.
  std::string keep_dtype = "same";
  std::string device = "auto";  // auto, cpu, cuda or cuda:N[,M...]
  unsigned threads = 0;         // 0: what the machine allows
  // Bound on host memory (docs/safety.md, promise 6). 0: 2 GiB, or less where the machine has less.
  std::uint64_t max_memory = 0;
  std::string compress = "none";  // none, zstd or zstd:LEVEL
  // About the size of a shard; 0: one file. Whether shards end where tensors do or where source files do: size, source.
  std::uint64_t shard_size = 0;
  std::string shard_by = "size";
  // One part of a conversion on many machines: "3/64", "" for all; N; whether the environment says which one it is.
  std::string part;
  std::uint64_t parts = 0;
  bool part_from_env = false;
  // INPUT is the OUTPUT of parts: make the model of them; say what is missing.
  bool merge = false, status = false;
  // Replace an existing output; ignore what an interrupted run left; print the plan and write nothing.
  bool force = false, no_resume = false, dry_run = false;
  bool compare = false;  // print what each setting would make, and write nothing
  // Bytes of output that an interruption may cost: after each so many the output is synced and the journal extended.
  std::uint64_t sync_every = std::uint64_t{256} << 20;
  // What identifies source files in the provenance: sha256 or xxh3.
  std::string source_digest = "sha256";
  // Where to write the report; "" for nowhere.
  std::string report;
  // Limits on the error: of a tensor's NMSE, and a gate file or "default". Exceeding them leaves no output (exit code
  // 6).
  std::optional<double> max_nmse;
  std::string gate;
  // A tensor with NaN or infinity: error, or keep it unquantized.
  std::string on_nonfinite = "error";
  // auto, bar, plain, json or none (progress_printer.h).
  std::string progress = "auto";
  // Read shards and companions through symbolic links; accept a checkpoint without tensors.
  bool follow_symlinks = false, allow_empty = false;
  // Print errors only; print one JSON document. `verbose` counts the -v. The same for all tools.
  bool quiet = false, json = false;
  int verbose = 0;
};

// q4inspect FILE. Without a selection it prints a summary.
struct InspectFlags {
  // A container, a list of shards, a .safetensors file or a model directory.
  std::string file;
  // What to print; see docs/q4inspect.md for how they combine.
  bool tensors = false, stats = false, hist = false, files = false, lint = false, tree = false, content = false;
  bool scales = false, command = false;
  bool card = false;  // a model card instead, which names this model, "" for none
  std::string base_model;
  std::string tensor;  // --tensor NAME, in depth; "" for all
  std::string dump;    // --dump START:COUNT, with --tensor
  // Of tables: name, size, elems, nmse or sqnr; a regular expression on names; what to compare with. "" for none.
  std::string sort, filter, diff;
  std::uint32_t top = 0;         // of tables the first so many rows; 0 for all
  bool all = false;              // of --diff: every tensor that differs
  std::string root;              // of the container FILE, as ParseQ4Root() takes it; "" for any
  bool allow_unmatched = false;  // of --filter
  std::string color = "auto";    // auto, always or never (terminal.h)
  bool follow_symlinks = false;
  bool quiet = false, json = false;
  int verbose = 0;
};

// q4verify FILE.
struct VerifyFlags {
  // A container or a list of shards.
  std::string file;
  // The checkpoint that the container was made of; "" checks the container alone.
  std::string against;
  std::string adapter;      // folder of the adapter that was merged; "" for none
  std::string calibration;  // the calibration file that was used; "" for none
  std::string root;         // as for q4inspect
  // Workers and the bound on host memory; 0: what the machine allows.
  unsigned threads = 0;
  std::uint64_t max_memory = 0;
  // Limits on the error; no value: no limit. NMSE and SQNR (in dB) of a tensor or the model, absolute error of an
  // element.
  std::optional<double> max_nmse, min_sqnr, max_abs_error;
  // --tensor RE, with --against: only tensors whose name matches. "" for all.
  std::string tensor;
  // Percent of the data to compare with --against: more than 0, at most 100.
  double sample = 100;
  // Which slabs those are; no value: drawn anew.
  std::optional<std::uint64_t> sample_seed;
  // With --against: fail also where the source allows more than one answer.
  bool require_proof = false;
  // With --against: measure the error beside that of absmax too.
  bool compare_absmax = false;
  std::string gate;  // a gate file or "default"; "" for none
  // An earlier report, and by how much the error may have grown since, as "0.5%" or "0.005".
  std::string baseline, baseline_slack = "0.5%";
  // A document of q4.evaluate, and limits on its numbers as they are typed.
  std::string evaluation;
  std::vector<std::string> limits;
  // As for q4convert: one part of the shards. The folder of the reports of all parts; "" for none.
  std::string part, merge;
  std::uint64_t parts = 0;
  bool part_from_env = false;
  // Reports to write besides; "" for none.
  std::string junit, markdown, html;
  std::string progress = "auto";
  bool follow_symlinks = false;
  bool quiet = false, json = false;
  int verbose = 0;
};

// q4export FILE -o OUTPUT --to FORMAT.
struct ExportFlags {
  // A container or a list of shards; a directory or .safetensors file to write, "" for the name of NameOutput().
  std::string file, output;
  std::string to;    // the name of one of Exporters()
  std::string root;  // as for q4inspect
  // Of --to safetensors: same, bf16, fp16 or fp32.
  std::string dtype = "same";
  // --tensor RE: only tensors whose name matches. "" for all.
  std::string tensor;
  // Of --to bnb: the dtype that packed codes are labelled with, and bnb_4bit_compute_dtype of config.json; "same" is
  // that of the quantized weights.
  std::string quant_storage = "uint8";
  bool quant_storage_asked = false;  // whether it was typed
  std::string compute_dtype = "same";
  // Of --to bnb: error, dequantize or keep4bit.
  std::string experts = "error";
  std::string unloadable = "error";
  // The largest size of a file of weights; 0: one file.
  std::uint64_t shard_size = 0;
  unsigned threads = 0;
  std::uint64_t max_memory = 0;
  // Replace an existing output (docs/q4export.md says which).
  bool force = false, into = false;
  // The model card: as usual, asked for, or asked not to be; the model that it names, "" for none.
  bool card = true, card_asked = false;
  std::string base_model;
  std::string progress = "auto";
  bool quiet = false, json = false;
  int verbose = 0;
};

// Fills `flags`, whose members must have their defaults. Returns text to print instead of running (--help, --version),
// or nothing. kBadFlag (exit code 1) for a flag that does not exist, a value that is empty, no number where one is
// asked for, or outside of its range or list, a missing argument, a flag of one value that is given twice, or flags
// that need or contradict each other.
absl::StatusOr<std::optional<std::string>> ParseFlags(int argc, char** argv, ConvertFlags* flags);
absl::StatusOr<std::optional<std::string>> ParseFlags(int argc, char** argv, InspectFlags* flags);
absl::StatusOr<std::optional<std::string>> ParseFlags(int argc, char** argv, VerifyFlags* flags);
absl::StatusOr<std::optional<std::string>> ParseFlags(int argc, char** argv, ExportFlags* flags);

// One option or argument of a tool, as its parser has it. For completion.h and tests.
struct OptionInfo {
  std::vector<std::string> names;  // as they are typed: "--output", "-o"; of an argument its name in --help: "INPUT"
  bool is_argument, takes_value, is_repeatable;
  std::string kind;          // what the value is: begins with or contains COUNT, SIZE or NUMBER for these
  std::string group, about;  // the heading above it in --help, and what stands beside it
};
// All of a tool, --help and --version among them. The argument only chooses the tool.
std::vector<OptionInfo> OptionsOf(const ConvertFlags&);
std::vector<OptionInfo> OptionsOf(const InspectFlags&);
std::vector<OptionInfo> OptionsOf(const VerifyFlags&);
std::vector<OptionInfo> OptionsOf(const ExportFlags&);

// "256MiB", "2G", "1.5GB", "4096": KiB/MiB/GiB/TiB are powers of 1024, KB/MB/GB/TB and K/M/G/T powers of 1000. Bytes,
// rounded down. kBadFlag for anything else, a size of 2^63 or more included.
absl::StatusOr<std::uint64_t> ParseSize(const std::string& text);

// What is wrong with a number that was typed, in words; "" if nothing is. A count is decimal digits and nothing else,
// and is left in its plain form; a number is decimal and finite, and a bound that is infinite is none.
std::string ProblemOfCount(std::uint64_t least, std::uint64_t most, std::string* text);
std::string ProblemOfNumber(double least, double most, const std::string& text);

}  // namespace q4
