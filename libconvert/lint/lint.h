// Known faults of published 4-bit checkpoints, found before a loader does: partners that are missing, scales that no
// encoder writes, codes that belong to another block size or code book, a config.json that tells of another model.
//
// Reads .q4 containers, safetensors files and directories, and bitsandbytes directories. A malformed file is a finding
// and the others are still examined; a .q4 that does not open is an error, because its own digests say what is wrong.
//
// Reading is bounded. Of every quantized weight the first kLintCodeBytes of its codes and the first kLintScaleBytes of
// each of its scale tensors are read, of every other float tensor the first kLintValueBytes. What lies behind that is
// not judged.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/base/digest.h"
#include "formats/base/file.h"
#include "formats/base/status.h"
#include "kernels/kernels.h"
#include "libconvert/base/text_style.h"

namespace q4 {

// How much of a weight is judged, in bytes as they lie in the file. One chunk of a container holds as much, so that
// linting a .q4 reads one chunk of each part. The statistics on codes would do with less; faults of single blocks, such
// as a zero scale or a NaN, are found more often the more is read.
inline constexpr std::uint64_t kLintCodeBytes = std::uint64_t{2} << 20;   // 4,194,304 elements
inline constexpr std::uint64_t kLintScaleBytes = std::uint64_t{8} << 20;  // 2,097,152 fp32 scales
inline constexpr std::uint64_t kLintValueBytes = std::uint64_t{2} << 20;  // of a kept tensor: 524,288 fp32 elements

// What a lint can find wrong. Each rule is a constant in the file that checks it; scripts/gen_lists.py makes the table
// of docs/lint.md from all of them. Number and name never change, because users filter by them.
//
// A rule is an error when loading fails, or gives a model that answers nonsense. It is a warning when a right
// checkpoint of some tool may look the same, when the usual loaders ignore the fault, or when the judgement is a
// statistical one. What is no fault and may surprise whoever looks at the tensors is told as info.
struct LintRule {
  Issue issue;            // 65xx; exit code 6: the checkpoint cannot be loaded, or loads as another model; 0: a warning
  std::string_view name;  // "scale-not-finite"
  std::string_view meaning;  // what it means for the model; one or two sentences
  std::string_view advice;   // what to do; one or two sentences
  bool is_info = false;      // no fault; exit code 0

  constexpr bool is_error() const { return issue.exit_code != ExitCode::kOk; }
  // "error", "warning", "info": in reports.
  constexpr std::string_view severity() const { return is_error() ? "error" : is_info ? "info" : "warning"; }
};

// One fault at one place.
struct LintFinding {
  const LintRule* rule = nullptr;  // never null in a report; lives as long as the program
  std::string where;               // name of the tensor, file or config key, not escaped; "" for the whole
  std::string detail;              // "got X, expected Y", or a reader's message; Shown (text.h); may be ""
};

// A detail has at most so many bytes.
inline constexpr std::size_t kMaxLintDetailBytes = 4096;

// How many findings of one rule are kept; the rest are counted. A fault of the tool that wrote the checkpoint shows in
// every weight, and the first hundred tell that as well as ten thousand.
inline constexpr std::size_t kMaxLintFindingsPerRule = 100;

// What LintModel() found. Plain data.
struct LintReport {
  std::string path;                        // as it was given
  std::string format;                      // "q4", "safetensors", "bitsandbytes"
  std::vector<LintFinding> findings;       // in the order of the rules' numbers, then as found
  std::uint64_t errors = 0, warnings = 0;  // all, listed or not
  std::uint64_t infos = 0;
  std::uint64_t tensors = 0, quantized = 0;  // examined; a quantized weight counts once
  std::uint64_t bytes_read = 0;              // of payload
  // Whether the exit code is 0; others than errors do not count.
  bool passed() const { return errors == 0; }
};

// How to read.
struct LintOptions {
  bool follow_symlinks = false;                    // as OpenOptions::follow_symlinks
  std::optional<Sha256> root;                      // of a container: it has this one (Q4Model::RequireRoot())
  const KernelTable* kernels = &BestCpuKernels();  // convert and decode; the report does not depend on it. Not null
};

// Examines what lies at `path`: a .q4 container or shard list, a .safetensors file, a shard index or a model directory.
// Never writes. Memory is bounded by one weight's share, see the constants above, and by headers.
//
// Faults of the model are findings, never errors. Errors: kCannotOpen and other I/O errors (exit code 2); those of
// OpenCheckpoint() if nothing there is a checkpoint (3, 5); those of Q4Reader for a .q4 that does not open or whose
// chunks do not have their digests (3, 5, 6).
absl::StatusOr<LintReport> LintModel(FileSystem& fs, const std::string& path, const LintOptions& options = {});

// The report for people: each rule once, with its advice, and the places below it; then a line of totals. Names are
// escaped.
std::string LintReportText(const LintReport& report, const TextStyle& style = {});
// The report for programs, as docs/schema/inspect.schema.json describes it, with a final line feed.
std::string LintReportJson(const LintReport& report);

}  // namespace q4
