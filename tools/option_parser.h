// The way from the words of a command line to a tool's options, for options.cc, which describes these. Here is what
// CLI11 lets pass and q4 does not (docs/decisions/0016-no-switch-fails-open.md), and how its errors become ours.
#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "tools/options.h"

namespace q4 {

// As ParseFlags() of options.h, for the options that `app` has. `second`: what the tool takes a second name for, such
// as "to name the output, put -o before it".
absl::StatusOr<std::optional<std::string>> ParseWords(CLI::App& app, int argc, char** argv, std::string_view second);

// As OptionsOf(), for the options that `app` has; --version is added.
std::vector<OptionInfo> ListOptions(CLI::App& app);

}  // namespace q4
