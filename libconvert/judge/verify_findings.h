// The list of what a verification found. Internal to libconvert.
#pragma once

#include <set>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "formats/base/status.h"
#include "formats/q4/reader.h"
#include "libconvert/judge/verify_report.h"

namespace q4 {

// Keeps the first kMaxFindings, counts all, and remembers which tensors failed. Not thread-safe.
class FindingList {
 public:
  // `tensor` is "" when the finding concerns none. `status` comes from Fail().
  void Add(std::string_view tensor, const absl::Status& status) {
    ++count_;
    if (!tensor.empty()) failed_.emplace(tensor);
    if (findings_.size() < kMaxFindings) {
      findings_.push_back({IssueNumberOf(status), std::string(tensor), MessageOf(status)});
    }
  }
  void Add(std::string_view tensor, const Issue& issue, std::string_view file, std::string_view where,
           std::string_view detail = {}) {
    Add(tensor, Fail(issue, file, where, detail));
  }

  // Adds what another list found, as if it had been found here.
  void Append(FindingList&& other) {
    count_ += other.count_;
    failed_.merge(other.failed_);
    for (VerifyFinding& finding : other.findings_) {
      if (findings_.size() < kMaxFindings) findings_.push_back(std::move(finding));
    }
  }

  bool Failed(const std::string& tensor) const { return failed_.contains(tensor); }
  void MoveTo(VerifyReport* report) {
    report->findings = std::move(findings_);
    report->finding_count = count_;
  }

 private:
  std::vector<VerifyFinding> findings_;
  std::uint64_t count_ = 0;
  std::set<std::string, std::less<>> failed_;
};

// Whether a failed read says that the file is bad, which is a finding, and not that it could not be read at all.
inline bool IsDamage(const absl::Status& status) {
  const ExitCode code = ExitCodeOf(status);
  return code == ExitCode::kCheckFailed || code == ExitCode::kInvalidInput;
}

// "tensor 'x'"
inline std::string TensorPlace(std::string_view name) { return "tensor '" + std::string(name) + "'"; }

}  // namespace q4
