// The jobs of q4convert, q4verify and q4export. Python hands over the words of a command line, so that what an option
// means, which values it has and which go together is decided in one place, tools/options.cc (docs/decisions/0032).
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "libconvert/components/components_issues.h"
#include "libconvert/components/seal.h"
#include "libconvert/judge/verify_report.h"
#include "libconvert/parts/merge_verified.h"
#include "libconvert/parts/verify_part.h"
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
#include "tools/job_files.h"
#include "tools/options.h"
#include "tools/parts_job.h"
#include "tools/pipeline.h"
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

// Notes come with the result.
JobHooks HooksOf(const ProgressCallback& callback, CancelFlag* cancel) {
  JobHooks hooks;
  hooks.progress = [&callback] { return callback; };
  hooks.cancel = cancel;
  return hooks;
}

// (the JSON document, notes, error lines, findings as (issue, tensor, message), exit code)
nb::tuple Convert(const nb::sequence& words, const nb::object& progress) {
  const auto flags = FlagsOf<ConvertFlags>(words);
  const auto result = RunWatched<ToolResult>(progress, [&](const ProgressCallback& callback, CancelFlag* cancel) {
    return ConvertJob(flags, HooksOf(callback, cancel));
  });
  nb::list findings;
  for (const VerifyFinding& finding : result.findings) {
    findings.append(nb::make_tuple(finding.issue, finding.tensor, finding.message));
  }
  return nb::make_tuple(result.output, result.notes, result.errors, findings, static_cast<int>(result.exit_code));
}

// (the JSON document, notes)
nb::tuple Export(const nb::sequence& words, const nb::object& progress) {
  const auto flags = FlagsOf<ExportFlags>(words);
  const auto result = RunWatched<ToolResult>(progress, [&](const ProgressCallback& callback, CancelFlag* cancel) {
    return ExportJob(flags, HooksOf(callback, cancel));
  });
  return nb::make_tuple(result.output, result.notes);
}

// What a verification found: of a container, to be rendered, or of a converted pipeline, its document.
struct Verification {
  VerifyReport report;
  // Of a pipeline; else "".
  std::string folder, json;
  std::vector<std::string> notes;
  bool is_part = false;
  bool passed = false;

  // A rendering that pipelines and parts do not have.
  std::string Rendered(std::string (*render)(const VerifyReport&)) const {
    constexpr const char* kWhat = "a report as text, HTML, Markdown or JUnit";
    if (!folder.empty()) throw StatusError(Fail(kNotOfPipeline, folder, kWhat));
    if (is_part) throw StatusError(Fail(kNotOfPart, report.path, kWhat, "the merge of all parts has them"));
    return render(report);
  }
};

Verification Verify(const nb::sequence& words, const nb::object& progress) {
  auto flags = FlagsOf<VerifyFlags>(words);
  return RunWatched<Verification>(
      progress, [&](const ProgressCallback& callback, CancelFlag* cancel) -> absl::StatusOr<Verification> {
        Verification out;
        JobFiles files(flags.max_memory, cancel);
        Q4_RETURN_IF_ERROR(files.Adopt(&flags.file));
        Q4_RETURN_IF_ERROR(files.Adopt(&flags.against));
        Q4_RETURN_IF_ERROR(files.Adopt(&flags.merge));
        flags.max_memory = files.MemoryForWork();
        Q4_ASSIGN_OR_RETURN(out.folder, SealedPipelineFolder(files.fs(), flags.file));
        Q4_ASSIGN_OR_RETURN(const VerifyOptions options, VerifyOptionsFrom(flags, !out.folder.empty(), cancel));
        Q4_ASSIGN_OR_RETURN(const std::optional<PartFound> part, PartBy(flags.part, flags.parts, flags.part_from_env));
        if (!out.folder.empty()) {
          if (part || !flags.merge.empty()) return NoPartsOfPipeline(out.folder, part ? "--part" : "--merge");
          Q4_ASSIGN_OR_RETURN(const ToolResult result,
                              VerifyPipelineFolder(files.fs(), flags, out.folder, options, HooksOf(callback, cancel)));
          out.json = result.output;
          out.passed = result.exit_code == ExitCode::kOk;
          return out;
        }
        if (part) {
          Q4_ASSIGN_OR_RETURN(const VerifyPartReport found,
                              VerifyPart(files.fs(), flags.file, options, part->part, callback));
          out.is_part = true;
          out.report.path = found.path;
          out.json = VerifyPartJson(found);
          out.passed = found.finding_count == 0;
          return out;
        }
        if (!flags.merge.empty()) {
          Q4_ASSIGN_OR_RETURN(VerifiedModel merged,
                              MergeVerifiedParts(files.fs(), flags.file, options.root, flags.merge, GatesOf(options)));
          out.json = VerifiedModelJson(merged);
          out.report = std::move(merged.report);
          out.notes = std::move(merged.notes);
          out.passed = out.report.passed();
          return out;
        }
        Q4_ASSIGN_OR_RETURN(out.report, VerifyModel(files.fs(), flags.file, options, callback));
        out.json = VerifyReportJson(out.report);
        out.passed = out.report.passed();
        return out;
      });
}

}  // namespace

void BindJobs(nb::module_& module) {
  module.def("convert", &Convert, nb::arg("words"), nb::arg("progress").none(),
             nb::sig("def convert(words: Sequence[bytes], progress: object | None) -> "
                     "tuple[str, list[str], list[str], list[tuple[int, str, str]], int]"),
             "The job of q4convert: (JSON, notes, error lines, findings, exit code).");
  module.def("export", &Export, nb::arg("words"), nb::arg("progress").none(),
             nb::sig("def export(words: Sequence[bytes], progress: object | None) -> tuple[str, list[str]]"),
             "The job of q4export: (JSON, notes).");
  nb::class_<Verification>(module, "Verification", "What a verification found, to be rendered.")
      .def_ro("passed", &Verification::passed)
      .def_ro("notes", &Verification::notes)
      .def("json", [](const Verification& found) { return found.json; })
      .def("html", [](const Verification& found) { return found.Rendered(VerifyReportHtml); })
      .def("junit", [](const Verification& found) { return found.Rendered(VerifyReportJunit); })
      .def("markdown", [](const Verification& found) { return found.Rendered(VerifyReportMarkdown); })
      .def("text", [](const Verification& found) {
        return found.Rendered([](const VerifyReport& report) { return VerifyReportText(report); });
      });
  module.def("verify", &Verify, nb::arg("words"), nb::arg("progress").none(),
             nb::sig("def verify(words: Sequence[bytes], progress: object | None) -> Verification"),
             "The job of q4verify.");
}

}  // namespace q4::python
