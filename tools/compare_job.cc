// The command that carries a row out is made of what was typed: all that decides the bytes, with the row's settings in
// place of those that were left open. How the work was done here (threads, memory, device) is no part of it.
#include "tools/compare_job.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "formats/base/text.h"
#include "libconvert/base/machine.h"
#include "libconvert/base/shell_word.h"
#include "libconvert/budget/compare_report.h"
#include "tools/output_name.h"
#include "tools/terminal.h"

namespace q4 {
namespace {

// For a shell, and fit for a terminal: what may not be shown as it is needs the escapes of $'...', which bash, zsh and
// ksh know.
std::string ShownWord(const std::string& word) {
  if (Printable(Shown{word}, 4 * word.size() + 4) == word) return ShellWord(word);
  std::string quoted = "$'";
  for (const char c : word) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte >= 0x7f || c == '\'' || c == '\\') {
      quoted += fmt::format("\\x{:02x}", byte);
    } else {
      quoted += c;
    }
  }
  return quoted + "'";
}

// Beside what other rows would make.
std::string OutputOf(const ConvertFlags& flags, const QuantSettings& settings, bool pipeline) {
  if (!flags.output.empty()) return flags.output;
  // A pipeline becomes a folder.
  const std::string_view scheme = Q4SchemeName(settings.scheme);
  std::string name = NameOutput(flags.input, pipeline ? std::string(scheme) : fmt::format("{}.q4", scheme));
  return !name.empty() ? name : pipeline ? "pipeline" : "model.q4";
}

bool IsGiven(const ConvertFlags& flags, std::string_view option) {
  return std::find(flags.given.begin(), flags.given.end(), option) != flags.given.end();
}

ComparisonCommand CommandFor(const ConvertFlags& flags, const ConvertOptions& options, const QuantSettings& settings,
                             bool pipeline) {
  ConvertOptions own = options;
  own.policy.defaults = settings;
  const bool calibrated =
      FindQ4Encoder(settings.encoder)->calibrated ||
      (own.policy.recipe &&
       std::any_of(own.policy.recipe->rules.begin(), own.policy.recipe->rules.end(),
                   [](const RecipeRule& rule) { return rule.encoder && FindQ4Encoder(*rule.encoder)->calibrated; }));
  ComparisonCommand command;
  std::vector<std::string>& words = command.words;
  // "--name=value": a value may begin with a dash.
  const auto value = [&words](std::string_view name, const std::string& text) {
    words.push_back(fmt::format("{}={}", name, text));
  };
  words = {"q4convert", flags.input.starts_with('-') ? "./" + flags.input : flags.input, "-o",
           OutputOf(flags, settings, pipeline)};
  if (words[3].starts_with('-')) words[3].insert(0, "./");
  value("--type", std::string(Q4SchemeName(settings.scheme)));
  value("--block-size", std::to_string(settings.block_size));
  words.emplace_back(settings.nested ? "--double-quant" : "--no-double-quant");
  value("--encoder", std::string(Q4EncoderName(settings.encoder)));
  if (IsGiven(flags, "--effort") && UsesEffort(own)) value("--effort", std::to_string(flags.effort));
  if (calibrated && !flags.calibration.empty()) value("--calibration", flags.calibration);
  if (!flags.adapter.empty()) value("--adapter", flags.adapter);
  if (!flags.components.empty()) value("--components", flags.components);
  for (const PatternRule& rule : flags.patterns) value(rule.include ? "--include" : "--exclude", rule.regex);
  if (!flags.recipe.empty()) value("--recipe", flags.recipe);
  if (flags.keep_dtype != "same") value("--keep-dtype", flags.keep_dtype);
  if (flags.on_nonfinite != "error") value("--on-nonfinite", flags.on_nonfinite);
  if (flags.compress != "none") value("--compress", flags.compress);
  if (flags.shard_size != 0) value("--shard-size", std::to_string(flags.shard_size));
  if (flags.shard_by != "size") value("--shard-by", flags.shard_by);
  if (flags.source_digest != "sha256") value("--source-digest", flags.source_digest);
  if (!flags.root.empty()) value("--root", flags.root);
  if (flags.from_quantized) words.emplace_back("--from-quantized");
  if (flags.allow_unmatched) words.emplace_back("--allow-unmatched");
  if (flags.follow_symlinks) words.emplace_back("--follow-symlinks");
  for (const std::string& word : words) command.line += (command.line.empty() ? "" : " ") + ShownWord(word);
  return command;
}

}  // namespace

absl::StatusOr<ToolResult> CompareJob(const ConvertFlags& flags, const std::vector<BudgetSource>& sources,
                                      const ConvertOptions& options, const DeviceChoice& device,
                                      const BoundOf& bound_of, const JobHooks& hooks) {
  const RunLimits limits = LimitsOfRun(flags.threads, flags.max_memory);
  MeasureRun run;
  run.threads = limits.threads;
  run.max_memory = limits.max_memory;
  run.bound_of = bound_of;
  run.progress = hooks.Begin();
  run.cancel = hooks.cancel;
  Q4_ASSIGN_OR_RETURN(const Comparison comparison, CompareSettings(sources, run));
  ToolResult result;
  if (device.kind == DeviceChoice::Kind::kCuda) {
    result.notes.emplace_back("compared on this machine's cores (a GPU makes the same bytes, so the same figures)");
  }
  if (flags.verbose > 0) {
    for (std::string& reason : limits.Reasons()) result.notes.push_back(std::move(reason));
  }
  const ComparisonCommand command =
      CommandFor(flags, options, comparison.rows[comparison.chosen].settings, !sources.front().component.empty());
  if (flags.json) {
    result.output = ComparisonJson(comparison, command);
  } else if (!flags.quiet) {
    result.output = ComparisonText(comparison, command, StyleOfStdout("never"));
  }
  return result;
}

}  // namespace q4
