#include "libconvert/parts/part_number.h"

#include <map>
#include <string>

#include "formats/base/status.h"
#include "libconvert/parts/parts_issues.h"
#include "tests/support/catch.h"

namespace q4 {
namespace {

using Variables = std::map<std::string, std::string>;

absl::StatusOr<PartFound> Find(const Variables& variables, std::optional<std::uint64_t> parts) {
  return PartFromEnvironment(
      [&](const char* name) -> const char* {
        const auto found = variables.find(name);
        return found == variables.end() ? nullptr : found->second.c_str();
      },
      parts);
}

struct Case {
  Variables variables;
  std::optional<std::uint64_t> parts;
  std::uint64_t index, count;
};

TEST_CASE("each engine's environment names its part") {
  const Case cases[] = {
      {{{"Q4_PART", "3/64"}}, {}, 3, 64},
      {{{"Q4_PART", "3"}, {"SLURM_ARRAY_TASK_ID", "5"}}, 64, 3, 64},
      // sbatch sets a process number in every job, and the count of a resubmission is that of what is missing.
      {{{"SLURM_ARRAY_TASK_ID", "7"}, {"SLURM_ARRAY_TASK_COUNT", "2"}, {"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "1"}},
       64,
       7,
       64},
      {{{"SLURM_ARRAY_TASK_ID", "007"}}, 8, 7, 8},
      {{{"SLURM_PROCID", "3"}, {"SLURM_NTASKS", "8"}, {"SLURM_STEP_NUM_TASKS", "4"}}, {}, 3, 4},
      {{{"SLURM_PROCID", "3"}, {"SLURM_STEP_NUM_TASKS", "4"}}, 64, 3, 64},
      {{{"JOB_COMPLETION_INDEX", "0"}}, 2, 0, 2},
      {{{"AWS_BATCH_JOB_ARRAY_INDEX", "9"}, {"AWS_BATCH_JOB_ARRAY_SIZE", "10"}}, {}, 9, 10},
      {{{"AWS_BATCH_JOB_ARRAY_INDEX", "9"}}, 20, 9, 20},
      {{{"BATCH_TASK_INDEX", "1"}, {"BATCH_TASK_COUNT", "3"}}, {}, 1, 3},
      {{{"CLOUD_RUN_TASK_INDEX", "1"}, {"CLOUD_RUN_TASK_COUNT", "3"}}, {}, 1, 3},
      {{{"BATCH_JOB_ARRAY_INDEX_VAR_NAME", "MY_INDEX"}, {"MY_INDEX", "4"}}, 5, 4, 5},
      {{{"BATCH_JOB_ARRAY_INDEX_VAR_NAME", "MY_INDEX"}, {"MY_INDEX", "4"}, {"BATCH_JOB_ARRAY_INDEX_OFFSET", "10"}},
       20,
       14,
       20},
      {{{"BATCH_JOB_ARRAY_INDEX_VAR_NAME", "JOB_COMPLETION_INDEX"}, {"JOB_COMPLETION_INDEX", "2"}}, 5, 2, 5},
      {{{"SKYPILOT_JOB_RANK", "2"}, {"SKYPILOT_NUM_JOBS", "4"}}, 4, 2, 4},
      {{{"SKYPILOT_JOB_RANK", "2"}, {"SKYPILOT_NODE_RANK", "0"}, {"SKYPILOT_NUM_NODES", "1"}}, 4, 2, 4},
      {{{"SKYPILOT_NODE_RANK", "1"}, {"SKYPILOT_NUM_NODES", "2"}}, {}, 1, 2},
      {{{"PBS_ARRAY_INDEX", "6"}}, 8, 6, 8},
      {{{"SGE_TASK_ID", "1"}}, 8, 0, 8},
      {{{"SGE_TASK_ID", "undefined"}, {"HQ_TASK_ID", "3"}}, 8, 3, 8},
      {{{"LSB_JOBINDEX", "8"}}, 8, 7, 8},
      {{{"LSB_JOBINDEX", "0"}, {"OMPI_COMM_WORLD_RANK", "1"}, {"OMPI_COMM_WORLD_SIZE", "2"}}, {}, 1, 2},
      {{{"HQ_TASK_ID", "0"}}, 1, 0, 1},
      {{{"OMPI_COMM_WORLD_RANK", "1"}, {"OMPI_COMM_WORLD_SIZE", "4"}}, {}, 1, 4},
      {{{"PMI_RANK", "2"}, {"PMI_SIZE", "4"}}, {}, 2, 4},
      {{{"RANK", "5"}, {"WORLD_SIZE", "8"}}, {}, 5, 8},
      // torchrun under srun: a process of each node has started four.
      {{{"SLURM_PROCID", "1"}, {"SLURM_STEP_NUM_TASKS", "2"}, {"RANK", "5"}, {"WORLD_SIZE", "8"}}, {}, 5, 8},
      // An empty variable is none.
      {{{"SLURM_ARRAY_TASK_ID", ""}, {"JOB_COMPLETION_INDEX", "1"}}, 2, 1, 2},
      {{{"JOB_COMPLETION_INDEX", "1"}, {"SLURM_ARRAY_TASK_ID", "1"}}, 2, 1, 2},
  };
  for (const Case& c : cases) {
    CAPTURE(c.variables);
    const absl::StatusOr<PartFound> found = Find(c.variables, c.parts);
    REQUIRE(found.ok());
    CHECK(found->part.index == c.index);
    CHECK(found->part.count == c.count);
    // It says which variable it was.
    REQUIRE(!found->notes.empty());
    CHECK(found->notes.front().find(" by ") != std::string::npos);
  }
}

TEST_CASE("an environment that does not say which part it is, is refused by name") {
  const struct {
    Variables variables;
    std::optional<std::uint64_t> parts;
    int issue;
    const char* says;
  } cases[] = {
      {{}, 4, 1311, "SLURM_ARRAY_TASK_ID"},
      // How many there are is known of some only.
      {{{"SLURM_ARRAY_TASK_ID", "1"}, {"SLURM_ARRAY_TASK_COUNT", "4"}}, {}, 1311, "--parts N"},
      {{{"JOB_COMPLETION_INDEX", "1"}}, {}, 1311, "--parts N"},
      {{{"AWS_BATCH_JOB_ARRAY_INDEX", "1"}}, {}, 1311, "--parts N"},
      // An array that counts from 1 has a last task too many.
      {{{"SLURM_ARRAY_TASK_ID", "4"}}, 4, 1311, "expected 0 to 3"},
      {{{"AWS_BATCH_JOB_ARRAY_INDEX", "4"}, {"AWS_BATCH_JOB_ARRAY_SIZE", "4"}}, {}, 1311, "expected 0 to 3"},
      {{{"SLURM_ARRAY_TASK_ID", "1"}, {"JOB_COMPLETION_INDEX", "2"}}, 4, 1311, "JOB_COMPLETION_INDEX is 2 (part 2)"},
      {{{"SGE_TASK_ID", "2"}, {"PBS_ARRAY_INDEX", "2"}},
       4,
       1311,
       "PBS_ARRAY_INDEX is 2 (part 2) and SGE_TASK_ID is 2 (part 1)"},
      {{{"SLURM_ARRAY_TASK_ID", "one"}}, 4, 1311, "got one"},
      {{{"SLURM_ARRAY_TASK_ID", "-1"}}, 4, 1311, "got -1"},
      {{{"SLURM_ARRAY_TASK_ID", "1 "}}, 4, 1311, "expected a number"},
      {{{"SGE_TASK_ID", "0"}}, 4, 1311, "at least 1"},
      // As the variable has it, and not as parts are counted.
      {{{"LSB_JOBINDEX", "5"}}, 4, 1311, "got 5, expected 1 to 4"},
      {{{"SGE_TASK_ID", "9"}}, 4, 1311, "got 9"},
      {{{"BATCH_JOB_ARRAY_INDEX_VAR_NAME", "MY_INDEX"}}, 4, 1311, "MY_INDEX"},
      {{{"Q4_PART", "3"}}, {}, 1310, "3/64"},
      {{{"Q4_PART", "3/8"}}, 4, 1311, "of 4 parts"},
      {{{"Q4_PART", "4"}}, 4, 1310, "4/4"},
      // A single process is no gang: somebody started one on purpose, or a launcher within a task did.
      {{{"RANK", "0"}, {"WORLD_SIZE", "1"}}, 4, 1311, "none of these"},
      {{{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "4"}, {"SLURM_STEP_NUM_TASKS", "1"}}, 4, 1311, "none of these"},
      {{{"RANK", "3"}}, 4, 1311, "none of these"},
      {{{"LSB_JOBINDEX", "0"}}, 4, 1311, "none of these"},
  };
  for (const auto& c : cases) {
    CAPTURE(c.variables);
    const absl::StatusOr<PartFound> found = Find(c.variables, c.parts);
    CHECK(IssueNumberOf(found.status()) == c.issue);
    CHECK(MessageOf(found.status()).find(c.says) != std::string::npos);
  }
}

TEST_CASE("what looks like a mistake is said") {
  const auto warns = [](const Variables& variables, std::optional<std::uint64_t> parts) {
    const absl::StatusOr<PartFound> found = Find(variables, parts);
    REQUIRE(found.ok());
    return found->notes.size() == 2 && found->notes[1].starts_with("warning: ");
  };
  CHECK(warns({{"SLURM_ARRAY_TASK_ID", "1"}, {"SLURM_PROCID", "0"}, {"SLURM_STEP_NUM_TASKS", "4"}}, 8));
  CHECK(warns({{"RANK", "1"}, {"WORLD_SIZE", "4"}}, 8));
  CHECK(!warns({{"RANK", "1"}, {"WORLD_SIZE", "8"}}, 8));
}

TEST_CASE("a part is I/N, from 0") {
  for (const char* text :
       {"", "3", "3/", "/3", "3/3", "4/3", "-1/3", "1/0", "1/2/3", " 1/2", "1/2 ", "0x1/2", "1/1000001"}) {
    CAPTURE(text);
    CHECK(IssueNumberOf(ParsePart(text, "--part").status()) == kBadPart.number);
  }
  CHECK(ParsePart("0/1", "--part")->count == 1);
  CHECK(ParsePart("63/64", "--part")->index == 63);
}

}  // namespace
}  // namespace q4
