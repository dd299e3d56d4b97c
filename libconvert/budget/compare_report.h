// A comparison of settings for people and as JSON.
#pragma once

#include <string>
#include <vector>

#include "libconvert/base/text_style.h"
#include "libconvert/budget/compare.h"

namespace q4 {

// How the chosen row is carried out: the words of a command, and the same for a shell. Fit for a terminal.
struct ComparisonCommand {
  std::vector<std::string> words;
  std::string line;
};

// A table, a legend and the command, each line with its end. The command is never broken: it is copied.
std::string ComparisonText(const Comparison& comparison, const ComparisonCommand& command, const TextStyle& style = {});

// docs/schema/comparison.schema.json, with a final newline.
std::string ComparisonJson(const Comparison& comparison, const ComparisonCommand& command);

}  // namespace q4
