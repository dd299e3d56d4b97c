// The list of what a verification found. Internal to libconvert. A finding is a failed status (Fail() of
// formats/base/status.h) and the tensor that it concerns; the run goes on after it, unlike after an error, and ends
// with exit code 6.
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

// Keeps the first kMaxFindings, counts all, and remembers which tensors failed. Not thread-safe. Listing is capped so
// that a container with every tensor damaged gives a readable report; counting is not.
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
  // The same, made of the parts of a message as Fail() takes them.
  void Add(std::string_view tensor, const Issue& issue, std::string_view file, std::string_view where,
           std::string_view detail = {}) {
    Add(tensor, Fail(issue, file, where, detail));
  }

  // Adds what another list found, as if it had been found here. For workers, which fill lists of their own: appended in
  // index order, the report does not depend on the threads.
  void Append(FindingList&& other) {
    count_ += other.count_;
    failed_.merge(other.failed_);
    for (VerifyFinding& finding : other.findings_) {
      if (findings_.size() < kMaxFindings) findings_.push_back(std::move(finding));
    }
  }

  // Adds what another list found before everything that was found here: the cause of what follows must not be what the
  // cap cuts off.
  void Prepend(FindingList&& causes) {
    causes.Append(std::move(*this));
    *this = std::move(causes);
  }

  // Whether any finding, listed or not, concerns the tensor.
  bool Failed(const std::string& tensor) const { return failed_.contains(tensor); }
  // Hands the findings over; this list is empty of them afterwards.
  void MoveTo(VerifyReport* report) {
    report->findings = std::move(findings_);
    report->finding_count = count_;
  }

 private:
  // The first kMaxFindings in the order of Add.
  std::vector<VerifyFinding> findings_;
  // Not findings_.size(): what lies beyond the cap counts too.
  std::uint64_t count_ = 0;  // all of them
  // Names of tensors, as they stand in the container.
  std::set<std::string, std::less<>> failed_;
};

// Whether a failed read says that the file is bad, which is a finding, and not that it could not be read at all. An
// input/output error or an interruption ends the verification instead.
inline bool IsDamage(const absl::Status& status) {
  const ExitCode code = ExitCodeOf(status);
  return code == ExitCode::kCheckFailed || code == ExitCode::kInvalidInput;
}

// "tensor 'x'" Where in a message: the place of a finding about a tensor.
inline std::string TensorPlace(std::string_view name) { return "tensor '" + std::string(name) + "'"; }

}  // namespace q4
