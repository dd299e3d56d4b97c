// Which part of a conversion a process is to do, as it was typed or as the engine that started it says. Schedulers put
// the number into the environment, each under another name; docs/scale_out.md lists them. Pure: the environment is a
// function.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace q4 {

// Part `index` of `count`; from 0.
struct PartNumber {
  std::uint64_t index = 0, count = 1;
};

inline constexpr std::uint64_t kMostParts = 1'000'000;

// "3/64". kBadPart. `where` names the option or variable.
absl::StatusOr<PartNumber> ParsePart(std::string_view text, std::string_view where);

// The value of a variable, or nullptr where it is not set.
using Environment = std::function<const char*(const char* name)>;

// What was found, and how, for people.
struct PartFound {
  PartNumber part;
  std::vector<std::string> notes;  // which variable said so; what is odd about it
};

// Looks for the part in the variables of array jobs, then in those of processes that were started together. An array
// that two sets of variables number differently is an error, for nobody can tell which one was meant; processes started
// together are looked at only where there is no array, and there are several.
//
// `parts`: N of --parts; nullopt where it was not given, which only engines allow whose count is that of the whole
// array: on others it is that of the tasks that were submitted last. kPartFromEnvironment; kBadPart for Q4_PART.
absl::StatusOr<PartFound> PartFromEnvironment(const Environment& environment, std::optional<std::uint64_t> parts);

// The variables that are looked at, in order, for messages and tests.
std::vector<std::string> PartVariables();

}  // namespace q4
