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
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/base/file.h"
#include "formats/base/status.h"
#include "kernels/kernels.h"
#include "libconvert/base/text_style.h"

namespace q4 {

inline constexpr std::uint64_t kLintCodeBytes = std::uint64_t{2} << 20;   // 4,194,304 elements
inline constexpr std::uint64_t kLintScaleBytes = std::uint64_t{8} << 20;  // 2,097,152 fp32 scales
inline constexpr std::uint64_t kLintValueBytes = std::uint64_t{2} << 20;

// What a lint can find wrong. Each rule is a constant in the file that checks it; scripts/gen_lists.py makes the table
// of docs/lint.md from all of them. Number and name never change.
struct LintRule {
  Issue issue;            // 65xx; exit code 6: the checkpoint cannot be loaded, or loads as another model; 0: a warning
  std::string_view name;  // "scale-not-finite"
  std::string_view meaning;  // what it means for the model
  std::string_view advice;   // what to do

  constexpr bool is_error() const { return issue.exit_code != ExitCode::kOk; }
};

struct LintFinding {
  const LintRule* rule = nullptr;
  std::string where;   // tensor, file or config key; "" for the whole
  std::string detail;  // "got X, expected Y"; may be ""
};

// How many findings of one rule are kept; the rest are counted.
inline constexpr std::size_t kMaxLintFindingsPerRule = 100;

struct LintReport {
  std::string path;
  std::string format;                 // "q4", "safetensors", "bitsandbytes"
  std::vector<LintFinding> findings;  // in the order of the rules' numbers, then as found
  std::uint64_t errors = 0, warnings = 0;
  std::uint64_t tensors = 0, quantized = 0;  // examined; a quantized weight counts once
  std::uint64_t bytes_read = 0;              // of payload
  bool passed() const { return errors == 0; }
};

struct LintOptions {
  bool follow_symlinks = false;  // as OpenOptions::follow_symlinks
  const KernelTable* kernels = &BestCpuKernels();
};

absl::StatusOr<LintReport> LintModel(FileSystem& fs, const std::string& path, const LintOptions& options = {});

// The report for people, and as docs/schema/inspect.schema.json describes it.
std::string LintReportText(const LintReport& report, const TextStyle& style = {});
std::string LintReportJson(const LintReport& report);

}  // namespace q4
