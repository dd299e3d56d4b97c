// What --help prints, for option_parser.cc: lines of at most 80 columns, options under the headings that options.cc
// gives them, examples and exit codes at the end.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

namespace q4 {

// Of an app that is described whole, the examples in its footer.
std::string HelpText(const CLI::App& app);

// All names of an option, as they are typed: long ones first, then short ones, then those that say no; of an argument
// its name in --help.
std::vector<std::string> NamesOf(const CLI::Option& option);

// Whether it takes no value.
bool IsFlag(const CLI::Option& option);

// What stands behind the name in --help: "nf4|fp4", "FILE"; "" of a flag.
std::string ValueOf(const CLI::Option& option);

}  // namespace q4
