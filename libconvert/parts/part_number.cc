// Two tables: engines that run arrays of tasks, and those that start processes together. What is odd about one stands
// in its row.
#include "libconvert/parts/part_number.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>

#include "formats/base/status.h"
#include "libconvert/parts/parts_issues.h"

namespace q4 {
namespace {

// An engine that gives each task of an array its number.
struct ArrayEngine {
  const char* index;
  const char* size;    // of the whole array; nullptr where there is none, or one that lies
  std::uint64_t base;  // the first number
  const char* none;    // the value of a task that is none of an array; nullptr: the variable is absent then
};

// In the order in which they are believed. Slurm counts the tasks of the submission: of `--array=3,7` there are two.
constexpr std::array<ArrayEngine, 10> kArrays{{
    {"SLURM_ARRAY_TASK_ID", nullptr, 0, nullptr},
    {"JOB_COMPLETION_INDEX", nullptr, 0, nullptr},  // Kubernetes
    {"AWS_BATCH_JOB_ARRAY_INDEX", "AWS_BATCH_JOB_ARRAY_SIZE", 0, nullptr},
    {"BATCH_TASK_INDEX", "BATCH_TASK_COUNT", 0, nullptr},  // Google Batch
    {"CLOUD_RUN_TASK_INDEX", "CLOUD_RUN_TASK_COUNT", 0, nullptr},
    {"SKYPILOT_JOB_RANK", nullptr, 0, nullptr},
    {"PBS_ARRAY_INDEX", nullptr, 0, nullptr},
    {"SGE_TASK_ID", nullptr, 1, "undefined"},
    {"LSB_JOBINDEX", nullptr, 1, "0"},  // LSF
    {"HQ_TASK_ID", nullptr, 0, nullptr},
}};
// Flyte says which variable has the number, and what is added to it.
constexpr const char* kFlyteName = "BATCH_JOB_ARRAY_INDEX_VAR_NAME";
constexpr const char* kFlyteOffset = "BATCH_JOB_ARRAY_INDEX_OFFSET";
constexpr std::size_t kFlytePlace = 5;  // before SkyPilot

// An engine that starts `size` processes at once. Of one process alone it says nothing: it may be a launcher within a
// task of an array.
struct GangEngine {
  const char* rank;
  const char* size;
};
// SLURM_NTASKS is the allocation's, SLURM_STEP_NUM_TASKS that of srun; sbatch alone sets SLURM_PROCID too.
constexpr std::array<GangEngine, 5> kGangs{{
    {"SKYPILOT_NODE_RANK", "SKYPILOT_NUM_NODES"},
    {"SLURM_PROCID", "SLURM_STEP_NUM_TASKS"},
    {"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"},
    {"PMI_RANK", "PMI_SIZE"},
    {"RANK", "WORLD_SIZE"},
}};

bool ParseCount(std::string_view text, std::uint64_t* value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *value);
  return error == std::errc() && end == text.data() + text.size();
}

// What a variable says; nullopt where it is not set, or empty.
absl::StatusOr<std::optional<std::uint64_t>> ValueOf(const Environment& environment, const char* name) {
  const char* const text = environment(name);
  if (text == nullptr || *text == '\0') return std::nullopt;
  std::uint64_t value = 0;
  if (!ParseCount(text, &value)) {
    return Fail(kPartFromEnvironment, {}, name, GotExpected(text, "a number"));
  }
  return std::optional(value);
}

struct Source {
  std::string variable;
  std::uint64_t index = 0;
  std::optional<std::uint64_t> size;
  std::string size_variable;
  std::uint64_t base = 0;  // what was taken from the variable's value

  // As the variable has it.
  std::string Said() const { return std::to_string(index + base); }
};

absl::StatusOr<std::optional<Source>> FromFlyte(const Environment& environment) {
  const char* const name = environment(kFlyteName);
  if (name == nullptr || *name == '\0') return std::nullopt;
  Q4_ASSIGN_OR_RETURN(const std::optional<std::uint64_t> index, ValueOf(environment, name));
  if (!index) {
    return Fail(kPartFromEnvironment, {}, kFlyteName, fmt::format("it names {}, which is not set", name));
  }
  Q4_ASSIGN_OR_RETURN(const std::optional<std::uint64_t> offset, ValueOf(environment, kFlyteOffset));
  return std::optional(Source{name, *index + offset.value_or(0), std::nullopt, {}, 0});
}

absl::StatusOr<std::optional<Source>> FromArray(const Environment& environment, const ArrayEngine& engine) {
  const char* const text = environment(engine.index);
  if (text != nullptr && engine.none != nullptr && std::string_view(text) == engine.none) return std::nullopt;
  Q4_ASSIGN_OR_RETURN(const std::optional<std::uint64_t> index, ValueOf(environment, engine.index));
  if (!index) return std::nullopt;
  if (*index < engine.base) {
    return Fail(kPartFromEnvironment, {}, engine.index,
                GotExpected(std::to_string(*index), fmt::format("at least {}: it counts from there", engine.base)));
  }
  Source source{engine.index, *index - engine.base, std::nullopt, {}, engine.base};
  if (engine.size != nullptr) {
    Q4_ASSIGN_OR_RETURN(source.size, ValueOf(environment, engine.size));
    source.size_variable = engine.size;
  }
  return std::optional(std::move(source));
}

absl::StatusOr<std::vector<Source>> Arrays(const Environment& environment) {
  std::vector<Source> found;
  for (std::size_t i = 0; i <= kArrays.size(); ++i) {
    if (i == kFlytePlace) {
      Q4_ASSIGN_OR_RETURN(std::optional<Source> flyte, FromFlyte(environment));
      if (flyte) found.push_back(*std::move(flyte));
    }
    if (i == kArrays.size()) break;
    Q4_ASSIGN_OR_RETURN(std::optional<Source> source, FromArray(environment, kArrays[i]));
    if (source) found.push_back(*std::move(source));
  }
  return found;
}

absl::StatusOr<std::vector<Source>> Gangs(const Environment& environment) {
  std::vector<Source> found;
  for (const GangEngine& engine : kGangs) {
    Q4_ASSIGN_OR_RETURN(const std::optional<std::uint64_t> size, ValueOf(environment, engine.size));
    if (!size || *size < 2) continue;
    Q4_ASSIGN_OR_RETURN(const std::optional<std::uint64_t> rank, ValueOf(environment, engine.rank));
    if (rank) found.push_back({engine.rank, *rank, *size, engine.size, 0});
  }
  return found;
}

// Q4_PART is "3/64", or "3" beside --parts.
absl::StatusOr<PartFound> FromOwnVariable(const char* text, std::optional<std::uint64_t> parts) {
  constexpr const char* kName = "Q4_PART";
  std::string whole = text;
  if (whole.find('/') == std::string::npos && parts) whole += "/" + std::to_string(*parts);
  Q4_ASSIGN_OR_RETURN(const PartNumber part, ParsePart(whole, kName));
  if (parts && part.count != *parts) {
    return Fail(kPartFromEnvironment, {}, kName, GotExpected(text, fmt::format("of {} parts", *parts)));
  }
  return PartFound{part, {fmt::format("part {} of {} by {}", part.index, part.count, kName)}};
}

}  // namespace

absl::StatusOr<PartNumber> ParsePart(std::string_view text, std::string_view where) {
  const std::size_t slash = text.find('/');
  PartNumber part;
  if (slash == std::string_view::npos || !ParseCount(text.substr(0, slash), &part.index) ||
      !ParseCount(text.substr(slash + 1), &part.count) || part.count == 0 || part.count > kMostParts ||
      part.index >= part.count) {
    return Fail(kBadPart, {}, where, GotExpected(text, "such as 3/64, and 63/64 for the last"));
  }
  return part;
}

std::vector<std::string> PartVariables() {
  std::vector<std::string> names{"Q4_PART"};
  for (std::size_t i = 0; i < kArrays.size(); ++i) {
    if (i == kFlytePlace) names.emplace_back(kFlyteName);
    names.emplace_back(kArrays[i].index);
  }
  for (const GangEngine& engine : kGangs) names.emplace_back(engine.rank);
  return names;
}

absl::StatusOr<PartFound> PartFromEnvironment(const Environment& environment, std::optional<std::uint64_t> parts) {
  if (const char* const own = environment("Q4_PART"); own != nullptr && *own != '\0') {
    return FromOwnVariable(own, parts);
  }
  Q4_ASSIGN_OR_RETURN(std::vector<Source> found, Arrays(environment));
  Q4_ASSIGN_OR_RETURN(std::vector<Source> gangs, Gangs(environment));
  PartFound result;
  if (found.empty()) {
    found = std::move(gangs);
    // One launcher may have been started by another, such as torchrun by srun: the one that counts most processes is
    // the innermost.
    const auto most = std::max_element(found.begin(), found.end(),
                                       [](const Source& a, const Source& b) { return *a.size < *b.size; });
    if (most != found.end()) found = {*most};
  } else if (!gangs.empty()) {
    result.notes.push_back(fmt::format(
        "warning: {} is {}: {} processes of this task of the array do the same part; start one, or give --part",
        gangs.front().size_variable, *gangs.front().size, *gangs.front().size));
  }
  if (found.empty()) {
    std::string names;
    for (const std::string& name : PartVariables()) names += (names.empty() ? "" : ", ") + name;
    return Fail(kPartFromEnvironment, {}, "--part-from-env", "none of these is set: " + names);
  }
  const Source& first = found.front();
  for (const Source& other : found) {
    if (other.index != first.index) {
      return Fail(kPartFromEnvironment, {}, "--part-from-env",
                  fmt::format("{} is {} (part {}) and {} is {} (part {}); give --part", first.variable, first.Said(),
                              first.index, other.variable, other.Said(), other.index));
    }
  }
  if (!parts && !first.size) {
    return Fail(kPartFromEnvironment, {}, first.variable, "how many parts there are it does not say; give --parts N");
  }
  result.part.index = first.index;
  result.part.count = parts ? *parts : *first.size;
  if (result.part.count == 0 || result.part.count > kMostParts || result.part.index >= result.part.count) {
    return Fail(kPartFromEnvironment, {}, first.variable,
                GotExpected(first.Said(), fmt::format("{} to {}, for there are {} parts", first.base,
                                                      first.base + result.part.count - 1, result.part.count)));
  }
  result.notes.insert(result.notes.begin(), fmt::format("part {} of {} by {}{}", result.part.index, result.part.count,
                                                        first.variable, parts ? "" : " and " + first.size_variable));
  if (parts && first.size && *first.size != *parts) {
    result.notes.push_back(
        fmt::format("warning: {} is {}, not {}: {}", first.size_variable, *first.size, *parts,
                    *first.size < *parts ? "nobody here does the other parts" : "some have no part"));
  }
  return result;
}

}  // namespace q4
