#include "libconvert/inspect/command.h"

#include <limits>
#include <string_view>
#include <vector>

#include "fmt/format.h"
#include "formats/base/digest.h"
#include "formats/base/file.h"
#include "formats/base/json_value.h"
#include "formats/base/status.h"
#include "formats/base/text.h"
#include "formats/q4/container.h"
#include "formats/q4/encoders.h"
#include "libconvert/base/shell_word.h"
#include "libconvert/base/text_table.h"
#include "libconvert/inspect/inspect_issues.h"
#include "libconvert/model/provenance_view.h"

namespace q4 {
namespace {

// Whether a terminal and an editor show it as it is.
bool IsPlain(const std::string& text) {
  return Printable(Shown{text}, std::numeric_limits<std::size_t>::max()) == text;
}

// The word for --keep-dtype.
std::string_view KeepDtype(DType dtype) {
  return dtype == DType::kBF16 ? "bf16" : dtype == DType::kF16 ? "fp16" : "fp32";
}

// A comment for each file, so that whoever has several can tell which one is meant.
std::string FilesText(std::string_view what, const std::vector<SourceFileRecord>& files) {
  std::string text;
  for (const SourceFileRecord& file : files) {
    text += fmt::format("#   {} {}, {} bytes, {}:{}\n", what, Printable(file.name, kWholeName), Grouped(file.size),
                        file.digest_kind, Printable(file.digest));
  }
  return text;
}

// "models/a.q4", "models/a.q4.index.json", "a-00001-of-00002.q4" -> "a-again.q4", for a place in the working directory.
std::string AgainName(const std::string& path) {
  std::string name = BaseNameOf(path);
  for (const std::string_view ending : {".index.json", ".q4"}) {
    if (name.ends_with(ending)) name.resize(name.size() - ending.size());
  }
  return name + "-again.q4";
}

// The options that differ from what q4convert does without them, and the recipe.
std::vector<std::string> OptionWords(const ProvenanceView& view) {
  const RecordedOptions& options = *view.options;
  std::vector<std::string> words;
  const auto add = [&words](std::string_view name, const std::string& value) {
    words.push_back(fmt::format("{} {}", name, value));
  };
  const QuantSettings& settings = options.defaults;
  // Of weights that were taken over with their codes the settings are the source's.
  if (settings.encoder != Q4Encoder::kNone) {
    const QuantSettings usual;
    if (settings.scheme != usual.scheme) add("--type", std::string(Q4SchemeName(settings.scheme)));
    if (settings.block_size != usual.block_size) add("--block-size", std::to_string(settings.block_size));
    if (!settings.nested) words.emplace_back("--no-double-quant");
    if (settings.encoder != usual.encoder) add("--encoder", std::string(Q4EncoderName(settings.encoder)));
  }
  if (options.effort != kDefaultEffort) add("--effort", std::to_string(options.effort));
  for (const RecordedOptions::Pattern& pattern : options.patterns) {
    // Joined by '=', for a pattern may begin with '-'.
    words.push_back(ShellWord(std::string(pattern.include ? "--include=" : "--exclude=") + pattern.regex));
  }
  if (options.recipe) add("--recipe", "\"$recipe\"");
  // Nobody records whether each of them had to match.
  if (!options.patterns.empty() || options.recipe) words.emplace_back("--allow-unmatched");
  if (options.keep_dtype) add("--keep-dtype", std::string(KeepDtype(*options.keep_dtype)));
  if (options.keep_nonfinite) add("--on-nonfinite", "keep");
  if (options.compressed) add("--compress", view.document["options"]["compress"].get<std::string>());
  if (options.shard_by_source) add("--shard-by", "source");
  if (options.shard_bytes != 0) add("--shard-size", std::to_string(options.shard_bytes));
  if (!view.sources.empty() && view.sources.front().digest_kind == "xxh3") add("--source-digest", "xxh3");
  if (FindMember(view.document.at("source"), "quantized") != nullptr) words.emplace_back("--from-quantized");
  if (!view.adapter.empty()) add("--adapter", "\"${ADAPTER:?the folder of the adapter}\"");
  if (!view.calibration.empty()) add("--calibration", "\"${CALIBRATION:?the calibration file}\"");
  return words;
}

}  // namespace

absl::StatusOr<std::string> RebuildCommand(const Q4Model& model, const std::string& path) {
  Q4_ASSIGN_OR_RETURN(const ProvenanceView view, ReadProvenance(model));
  const Json* const parent = FindMember(view.document, "parent");
  // Of what was quantized again the parent is the source.
  if (parent != nullptr && FindMember(*parent, "first") == nullptr) {
    return Fail(kNoCommand, path, "--command",
                fmt::format("it was packed anew from the container sha256:{}: ask that one, then pack what comes of it",
                            parent->at("root").get<std::string>()));
  }
  if (!view.options) return Fail(kNoCommand, path, "--command", "it records no options");
  const std::string recipe = view.options->recipe.value_or("");
  std::string command =
      "q4convert \"${SOURCE:?the checkpoint, or its folder}\" -o \"${OUTPUT:-" +
      (IsPlain(path) && ShellWord(AgainName(path)) == AgainName(path) ? AgainName(path) : "again.q4") + "}\"";
  bool plain = IsPlain(recipe);
  for (const std::string& word : OptionWords(view)) {
    plain = plain && IsPlain(word);
    command += " \\\n  " + word;
  }
  if (!plain) {
    return Fail(kNoCommand, path, "--command", "its patterns or its recipe have characters that a script cannot show");
  }
  std::string text = fmt::format("# Makes {} again, of\n", Printable(path, kWholeName));
  text += FilesText("source", view.sources) + FilesText("adapter", view.adapter) +
          FilesText("calibration", view.calibration);
  text += fmt::format("# with {}, arithmetic {}:\n#   SOURCE=model sh THIS_FILE\n", Printable(view.tool()),
                      Printable(view.numerics));
  if (!recipe.empty()) {
    text += "recipe=$(mktemp) && trap 'rm -f \"$recipe\"' EXIT\ncat > \"$recipe\" <<'Q4_RECIPE'\n" + recipe +
            "\nQ4_RECIPE\n";
  }
  return text + command + "\n";
}

}  // namespace q4
