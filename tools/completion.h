// Completion of a tool's command line in shells, made of the options that its parser has.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "tools/options.h"

namespace q4 {

// The script that makes `shell` ("bash", "zsh" or "fish") complete the options of `tool`, their values where they are
// words of a list, and files where they may be files. kBadFlag for another shell.
absl::StatusOr<std::string> CompletionScript(std::string_view tool, const std::vector<OptionInfo>& options,
                                             std::string_view shell);

}  // namespace q4
