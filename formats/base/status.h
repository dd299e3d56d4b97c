// Errors are values: every fallible function returns absl::Status or absl::StatusOr, never prints and never exits.
//
// A status made by Fail() carries a numbered Issue, from which the tools take the exit code and the one error line
//   <file>: <where>: <rule broken> (<detail>) [Q4-nnnn]
//
// A function that checks a rule calls Fail(); one that only passes errors on uses Q4_RETURN_IF_ERROR or
// Q4_ASSIGN_OR_RETURN. Exceptions are left to exhausted memory (std::bad_alloc), which the tools catch.
#pragma once

#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace q4 {

// The exit codes of all tools, documented in their --help and stable. A status that carries no Issue counts as
// kInternal.
enum class ExitCode : int {
  kOk = 0,            // done, and every gate held
  kUsage = 1,         // bad flag, bad combination, output equals input
  kIo = 2,            // cannot read or write, no space, output locked
  kInvalidInput = 3,  // malformed, hostile or inconsistent input file
  kInternal = 4,      // broken invariant or device failure
  kUnsupported = 5,   // well-formed but unsupported input
  kCheckFailed = 6,   // damaged container, threshold exceeded, difference found
  kInterrupted = 7,   // a rerun with the same command resumes
};

// One rule that can be broken. Issues are constants in the *_issues.h header of the folder that checks the rule, so
// that the number, the exit code and the wording of a rule stand in one place. scripts/gen_errors_md.py lists them all
// in docs/errors.md. A number is never given to another rule: users search for it.
//   1xxx usage   2xxx files and I/O   3xxx checkpoint readers   4xxx policy, plan and conversion
//   5xxx unsupported   6xxx verification   7xxx the .q4 container   8xxx export   9xxx internal
struct Issue {
  int number;  // shown as Q4-nnnn
  ExitCode exit_code;
  std::string_view rule;  // lower case, no full stop: "header length exceeds the file"
};

// A status for `issue`. `file` and `where` (a tensor, a field, a byte offset) may hold untrusted text: both, and
// `detail`, are escaped and capped as Printable() does. Empty parts are left out. Use GotExpected() for `detail`
// wherever two values were compared.
absl::Status Fail(const Issue& issue, std::string_view file, std::string_view where, std::string_view detail = {});

// "got X, expected Y". Not escaped: Fail() does that.
std::string GotExpected(std::string_view got, std::string_view expected);

// The exit code for a status: kOk for an OK status, kInternal for one that was not made by Fail().
ExitCode ExitCodeOf(const absl::Status& status);

// The issue number of a status made by Fail(), else 0. For callers that handle one error and pass on the others.
int IssueNumberOf(const absl::Status& status);

// The same status with the file named in front of its message, for layers that did not know the file. OK stays OK.
absl::Status InFile(const absl::Status& status, std::string_view file);

// The message of a status as std::string (absl::string_view is not always std::string_view).
std::string MessageOf(const absl::Status& status);

}  // namespace q4

// Evaluates an expression of type absl::Status; returns it from the enclosing function unless it is OK.
#define Q4_RETURN_IF_ERROR(expr)                              \
  do {                                                        \
    if (absl::Status q4_status_ = (expr); !q4_status_.ok()) { \
      return q4_status_;                                      \
    }                                                         \
  } while (false)

// Q4_ASSIGN_OR_RETURN(auto x, F()): x is F()'s value, or the enclosing function returns F()'s error.
#define Q4_ASSIGN_OR_RETURN(lhs, expr) Q4_ASSIGN_OR_RETURN_IMPL_(Q4_CONCAT_(q4_or_, __LINE__), lhs, expr)
#define Q4_ASSIGN_OR_RETURN_IMPL_(tmp, lhs, expr) \
  auto tmp = (expr);                              \
  if (!tmp.ok()) return std::move(tmp).status();  \
  lhs = *std::move(tmp)
#define Q4_CONCAT_(a, b) Q4_CONCAT_INNER_(a, b)
#define Q4_CONCAT_INNER_(a, b) a##b
