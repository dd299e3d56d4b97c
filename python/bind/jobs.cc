// The jobs of q4convert, q4verify and q4export. Python hands over the words of a command line, so that what an option
// means, which values it has and which go together is decided in one place, tools/options.cc (docs/decisions/0032).
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "libconvert/judge/verify_report.h"
#include "libconvert/report/html.h"
#include "libconvert/report/json.h"
#include "libconvert/report/junit.h"
#include "libconvert/report/markdown.h"
#include "libconvert/report/text.h"
#include "libconvert/verify/verify.h"
#include "python/bind/module.h"
#include "python/bind/status_error.h"
#include "python/bind/text.h"
#include "python/bind/watched_run.h"
#include "tools/convert_job.h"
#include "tools/export_job.h"
#include "tools/options.h"
#include "tools/usage_issues.h"
#include "tools/verify_job.h"

namespace nb = nanobind;

namespace q4::python {
namespace {

// The words as bytes, for paths need not be UTF-8; the first is the tool's name.
template <typename Flags>
Flags FlagsOf(const nb::sequence& words) {
  std::vector<std::string> texts;
  for (const nb::handle word : words) texts.push_back(TextOf(nb::cast<nb::bytes>(word)));
  std::vector<char*> argv;
  for (std::string& text : texts) argv.push_back(text.data());
  Flags flags;
  const auto text = ValueOf(ParseFlags(static_cast<int>(argv.size()), argv.data(), &flags));
  // --help and --version: nothing to do here, and no caller's wish.
  if (text) throw StatusError(Fail(kBadFlag, {}, {}, "no option of a function"));
  flags.json = true;
  return flags;
}

// (the JSON document, notes, error lines, findings as (issue, tensor, message), exit code)
nb::tuple Convert(const nb::sequence& words, const nb::object& progress) {
  const auto flags = FlagsOf<ConvertFlags>(words);
  const auto result = RunWatched<ToolResult>(progress, [&](const ProgressCallback& callback, CancelFlag* cancel) {
    return ConvertJob(flags, {[&callback] { return callback; }, cancel});
  });
  nb::list findings;
  for (const VerifyFinding& finding : result.findings) {
    findings.append(nb::make_tuple(finding.issue, finding.tensor, finding.message));
  }
  return nb::make_tuple(result.output, result.notes, result.errors, findings, static_cast<int>(result.exit_code));
}

// The JSON document.
std::string Export(const nb::sequence& words, const nb::object& progress) {
  const auto flags = FlagsOf<ExportFlags>(words);
  ExportOptions options = ExportOptionsFrom(flags);
  const auto report = RunWatched<ExportReport>(progress, [&](const ProgressCallback& callback, CancelFlag* cancel) {
    options.progress = callback;
    options.cancel = cancel;
    return ExportModel(PosixFileSystem(), flags.file, flags.output, options);
  });
  return ExportReportJson(report);
}

VerifyReport Verify(const nb::sequence& words, const nb::object& progress) {
  const auto flags = FlagsOf<VerifyFlags>(words);
  return RunWatched<VerifyReport>(
      progress, [&](const ProgressCallback& callback, CancelFlag* cancel) -> absl::StatusOr<VerifyReport> {
        Q4_ASSIGN_OR_RETURN(const VerifyOptions options, VerifyOptionsFrom(flags, cancel));
        return VerifyModel(PosixFileSystem(), flags.file, options, callback);
      });
}

}  // namespace

void BindJobs(nb::module_& module) {
  module.def("convert", &Convert, nb::arg("words"), nb::arg("progress").none(),
             nb::sig("def convert(words: Sequence[bytes], progress: object | None) -> "
                     "tuple[str, list[str], list[str], list[tuple[int, str, str]], int]"),
             "The job of q4convert: (JSON, notes, error lines, findings, exit code).");
  module.def("export", &Export, nb::arg("words"), nb::arg("progress").none(),
             nb::sig("def export(words: Sequence[bytes], progress: object | None) -> str"),
             "The job of q4export: its JSON report.");
  nb::class_<VerifyReport>(module, "Verification", "What a verification found, to be rendered.")
      .def_prop_ro("passed", &VerifyReport::passed)
      .def("json", &VerifyReportJson)
      .def("html", &VerifyReportHtml)
      .def("junit", &VerifyReportJunit)
      .def("markdown", &VerifyReportMarkdown)
      .def("text", &VerifyReportText);
  module.def("verify", &Verify, nb::arg("words"), nb::arg("progress").none(),
             nb::sig("def verify(words: Sequence[bytes], progress: object | None) -> Verification"),
             "The job of q4verify.");
}

}  // namespace q4::python
