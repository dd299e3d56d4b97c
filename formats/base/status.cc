// An Issue travels inside absl::Status as a payload, which survives every layer that passes the status on. The message
// is complete when the status is made; nothing is looked up later.
#include "formats/base/status.h"

#include <charconv>

#include "absl/strings/cord.h"
#include "formats/base/shown_url.h"
#include "formats/base/status_parts.h"
#include "formats/base/text.h"

namespace q4 {
namespace {

// The payload under which a status carries "<issue number> <exit code>".
constexpr char kIssuePayload[] = "q4/issue";
// What Fail() was told, where it was told it.
constexpr char kFilePayload[] = "q4/file";
constexpr char kPlacePayload[] = "q4/place";

// The absl code is informative only; the tools decide by the exit code.
absl::StatusCode CodeFor(ExitCode exit_code) {
  switch (exit_code) {
    case ExitCode::kOk:
      return absl::StatusCode::kOk;
    case ExitCode::kUsage:
    case ExitCode::kInvalidInput:
      return absl::StatusCode::kInvalidArgument;
    case ExitCode::kIo:
      return absl::StatusCode::kUnavailable;
    case ExitCode::kUnsupported:
      return absl::StatusCode::kUnimplemented;
    case ExitCode::kCheckFailed:
      return absl::StatusCode::kDataLoss;
    case ExitCode::kInterrupted:
      return absl::StatusCode::kCancelled;
    case ExitCode::kInternal:
      break;
  }
  return absl::StatusCode::kInternal;
}

struct Payload {
  int number = 0;
  ExitCode exit_code = ExitCode::kInternal;
};

// A status without the payload was made by Abseil or by a bug; it counts as an internal error.
Payload PayloadOf(const absl::Status& status) {
  Payload payload;
  const auto cord = status.GetPayload(kIssuePayload);
  if (!cord) return payload;
  const std::string text(*cord);
  const std::size_t space = text.find(' ');
  int exit_code = 0;
  // The text is our own, from Fail(), so its form is not checked.
  std::from_chars(text.data(), text.data() + space, payload.number);
  std::from_chars(text.data() + space + 1, text.data() + text.size(), exit_code);
  payload.exit_code = static_cast<ExitCode>(exit_code);
  return payload;
}

// As messages show it: all of what is said comes by here, so that no password of a URL is in any of it.
std::string ShownPart(std::string_view text, std::string_view file, std::size_t max_bytes) {
  return Printable(WithoutUrlSecrets(text, file), max_bytes);
}

absl::Cord FileToKeep(std::string_view file) { return absl::Cord(WithoutUrlSecrets(file)); }

}  // namespace

// The error line of the tools without the tool's name; docs/errors.md and tests/hostile know its grammar.
absl::Status Fail(const Issue& issue, std::string_view file, std::string_view where, std::string_view detail) {
  std::string message;
  // Paths come from the command line and may be long; they are escaped but hardly cut. 4096 is PATH_MAX. The caps of
  // the others keep a line readable when a file claims a name of a megabyte.
  if (!file.empty()) message += ShownPart(file, {}, 4096) + ": ";
  if (!where.empty()) message += ShownPart(where, file, 320) + ": ";
  message += issue.rule;
  if (!detail.empty()) message += " (" + ShownPart(detail, file, 480) + ")";
  message += " [Q4-" + std::to_string(issue.number) + "]";
  absl::Status status(CodeFor(issue.exit_code), message);
  // Numbers as text: payloads are bytes, and a debugger shows these.
  status.SetPayload(kIssuePayload,
                    absl::Cord(std::to_string(issue.number) + " " + std::to_string(static_cast<int>(issue.exit_code))));
  if (!file.empty()) status.SetPayload(kFilePayload, FileToKeep(file));
  if (!where.empty()) status.SetPayload(kPlacePayload, absl::Cord(absl::string_view(where.data(), where.size())));
  return status;
}

std::string GotExpected(std::string_view got, std::string_view expected) {
  return "got " + std::string(got) + ", expected " + std::string(expected);
}

ExitCode ExitCodeOf(const absl::Status& status) { return status.ok() ? ExitCode::kOk : PayloadOf(status).exit_code; }

int IssueNumberOf(const absl::Status& status) { return PayloadOf(status).number; }

absl::Status InFile(const absl::Status& status, std::string_view file) {
  if (status.ok()) return status;
  absl::Status named(status.code(), ShownPart(file, {}, 4096) + ": " + MessageOf(status));
  // A new status has no payloads: without this the issue number and exit code would be lost.
  status.ForEachPayload([&named](absl::string_view url, const absl::Cord& payload) { named.SetPayload(url, payload); });
  named.SetPayload(kFilePayload, FileToKeep(file));
  return named;
}

std::string MessageOf(const absl::Status& status) { return {status.message().data(), status.message().size()}; }

std::string FileOf(const absl::Status& status) {
  const auto file = status.GetPayload(kFilePayload);
  return file ? std::string(*file) : std::string();
}

std::string TensorOf(const absl::Status& status) {
  const auto payload = status.GetPayload(kPlacePayload);
  const std::string place = payload ? std::string(*payload) : std::string();
  constexpr std::string_view kBegin = "tensor '";
  // The last quote: what stands behind a name has none, and names may.
  const std::size_t end = place.rfind('\'');
  if (!place.starts_with(kBegin) || end < kBegin.size()) return {};
  return place.substr(kBegin.size(), end - kBegin.size());
}

}  // namespace q4
