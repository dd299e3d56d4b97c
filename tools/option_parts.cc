#include "tools/option_parts.h"

#include <algorithm>

#include "fmt/format.h"
#include "formats/q4/shards.h"
#include "libconvert/base/nearest.h"
#include "libconvert/card/card.h"
#include "tools/options.h"

namespace q4 {

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

CLI::Validator OneOf(const std::vector<std::string>& words) {
  return CLI::Validator(
      [words](std::string& text) -> std::string {
        for (const std::string& word : words) {
          if (CLI::detail::to_lower(word) != CLI::detail::to_lower(text)) continue;
          text = word;
          return {};
        }
        return fmt::format("'{}' is none of {}{}", text, fmt::join(words, ", "), DidYouMean(text, words));
      },
      "{" + CLI::detail::join(words, ",") + "}");
}

CLI::Option* Repeatable(CLI::Option* option) {
  return option->expected(1)->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)->allow_extra_args(false);
}

void Group(CLI::App& app, const std::string& heading) { app.option_defaults()->group(heading); }

void AddCommon(CLI::App& app, bool& quiet, bool& json, int& verbose) {
  Group(app, kMessages);
  auto* const silent = app.add_flag("-q,--quiet", quiet, "Print errors only");
  app.add_flag("-v,--verbose", verbose, "Say more on stderr")->excludes(silent);
  app.add_flag("--json", json, "Print one JSON document to stdout");
}

CLI::Option* AddProgress(CLI::App& app, std::string& progress) {
  return app.add_option("--progress", progress, "auto: a bar on a terminal, lines in a log")
      ->transform(OneOf({"auto", "bar", "plain", "json", "none"}));
}

void AddLimits(CLI::App& app, unsigned& threads, std::uint64_t& max_memory) {
  app.add_option("--threads", threads, "Worker threads (default: all cores that this process may use)")
      ->type_name("N")
      ->transform(Count(1, 1024));
  app.add_option("--max-memory", max_memory, "Bound on host memory (default: 2GiB, or less where the machine has less)")
      ->type_name("SIZE")
      ->transform(SizeText(1));
}

CLI::Option* AddLimit(CLI::App& app, const std::string& name, std::optional<double>& limit, double least,
                      const std::string& about) {
  return app.add_option(name, limit, about)->type_name("X")->check(Number(least, kNoLimit));
}

void AddRoot(CLI::App& app, std::string& root) {
  const auto problem = [](const std::string& text) {
    return ParseQ4Root(text) ? std::string() : "not a root: " + text + " (sha256: and 64 hex digits)";
  };
  app.add_option("--root", root, "The root that the container must have (else 6), by which all that is read is checked")
      ->type_name("sha256:HEX")
      ->check(CLI::Validator(problem, ""));
}

CLI::Option* AddBaseModel(CLI::App& app, std::string& name) {
  const auto problem = [](const std::string& text) {
    return IsModelName(text) ? std::string() : "no name of a model: " + text + " (OWNER/NAME)";
  };
  return app.add_option("--base-model", name, "The original, for the model card")
      ->type_name("OWNER/NAME")
      ->check(CLI::Validator(problem, ""));
}

}  // namespace q4
