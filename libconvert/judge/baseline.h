// An earlier report as a gate: nothing may have become worse (docs/gates.md, "A baseline").
//
// Load or parse one before the verification, so that a bad file ends the run early; judge after the statistics are
// complete. Verdicts stand beside those of gates, in VerifyReport::gates.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/base/file.h"
#include "libconvert/judge/gate_issues.h"
#include "libconvert/judge/verify_findings.h"
#include "libconvert/judge/verify_report.h"

namespace q4 {

// The NMSE of one subject in the earlier report. 0 for an unquantized tensor; nullopt where none was recorded, or where
// it was infinite: then nothing is demanded.
struct BaselineEntry {
  GateVerdict::Scope scope = GateVerdict::Scope::kTensor;
  std::string name;  // "" for the model
  std::optional<double> nmse;
  std::string encoder;  // of a quantized tensor, as the report names it; "" where it does not
};

struct Baseline {
  // For messages and the report.
  std::string path;
  // In the order of the earlier report: tensors, groups, model.
  std::vector<BaselineEntry> entries;
  double slack = 0;  // relative: the NMSE may be (1 + slack) times what it was
};

// Parses what q4verify --json wrote, of any version with tensors and statistics. `path` is named in errors:
// kNoBaseline, or whatever makes it no JSON. kNoBaseline also for a report without any NMSE: it would demand nothing.
// `slack` is not negative.
absl::StatusOr<Baseline> ParseBaseline(std::string_view json, const std::string& path, double slack);

// Reads and parses one. An earlier report of 64 MiB, which is more than 20,000 tensors, is the largest that is read.
// Fails as ParseBaseline and ReadWholeFile do.
absl::StatusOr<Baseline> LoadBaseline(FileSystem& fs, const std::string& path, double slack);

// Appends a verdict named "baseline" for every entry, and a finding for every breach: NMSE that rose by more than the
// slack, a tensor that is gone, or that has no statistics any more. Tensors and groups that the baseline lacks are not
// judged. Layers and roles that are gone are not missed, since their tensors are. REQUIRES: `report` has tensors,
// groups and model. Sets report->baseline and, of tensors that are quantized in both, report->baseline_encoders; a
// breach of such a tensor names both encoders.
void JudgeBaseline(const Baseline& baseline, FindingList* findings, VerifyReport* report);

}  // namespace q4
