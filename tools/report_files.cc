// Two questions for every report: would it overwrite something (by inode, or by name where nothing exists yet), and
// would it be mistaken for a part of a model later. The first look is cheap; only where it finds something are
// container and source opened to learn what is read.
#include "tools/report_files.h"

#include <cstdint>

#include "formats/base/status.h"
#include "formats/q4/reader.h"
#include "formats/source/checkpoint.h"
#include "formats/source/companions.h"
#include "libconvert/adapter/merge_adapter.h"
#include "libconvert/components/components_issues.h"
#include "libconvert/convert_report/convert_report.h"
#include "libconvert/output/output_issues.h"
#include "libconvert/parts/merge_verified.h"
#include "libconvert/report/html.h"
#include "libconvert/report/junit.h"
#include "libconvert/report/markdown.h"
#include "tools/usage_issues.h"

namespace q4 {
namespace {

// Whether nothing lies at the reports' names and none could be a companion: then there is no need to look up what the
// tool reads, which reads the headers of container and source.
absl::StatusOr<bool> AreFree(FileSystem& fs, const std::vector<std::string>& paths) {
  for (const std::string& path : paths) {
    if (MayBelongToModel(BaseNameOf(path))) return false;
    for (const std::string& name : AtomicFile::Names(path)) {
      Q4_ASSIGN_OR_RETURN(const PathInfo info, fs.Stat(name));
      if (info.exists) return false;
    }
  }
  return true;
}

// Whether `path` may be replaced: it is absent, empty, or begins as a report of any of the tools does. A directory or
// device is left to the one who opens it, who says so.
absl::Status CheckIsReport(FileSystem& fs, const std::string& path) {
  constexpr std::string_view kBeginnings[] = {
      "{\n  \"document\": \"q4",                                                   // JSON (json_document.h)
      "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"q4verify ",  // junit.cc
      "## \u2705 q4verify: ",
      "## \u274c q4verify: ",                                                                         // markdown.cc
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta name=\"generator\" content=\"q4verify\">",  // html.cc
  };
  constexpr std::size_t kLongest = 128;
  Q4_ASSIGN_OR_RETURN(const PathInfo info, fs.Stat(path));
  if (!info.exists || !info.is_regular || info.size == 0) return absl::OkStatus();
  Q4_ASSIGN_OR_RETURN(const auto file, fs.OpenForRead(path));
  std::string head(static_cast<std::size_t>(std::min<std::uint64_t>(kLongest, info.size)), '\0');
  Q4_RETURN_IF_ERROR(file->ReadAt(0, {reinterpret_cast<std::uint8_t*>(head.data()), head.size()}));
  for (const std::string_view beginning : kBeginnings) {
    if (head.starts_with(beginning)) return absl::OkStatus();
  }
  return Fail(kReportNotOurs, path, {});
}

// Every file that the verification reads. What cannot be opened adds no rule: the verification will fail on it and say
// why.
ReportRules RulesOf(FileSystem& fs, const VerifyFlags& flags) {
  ReportRules rules(fs);
  rules.AddInput(flags.file);
  rules.AddInput(flags.against);
  rules.AddInput(flags.gate);
  rules.AddInput(flags.baseline);
  rules.AddInput(flags.evaluation);
  rules.AddInput(flags.calibration);
  if (!flags.merge.empty()) {
    // The reports of parts. A folder that cannot be read is the merge's error.
    if (const auto parts = VerifiedPartFiles(fs, flags.merge); parts.ok()) {
      for (const std::string& part : *parts) rules.AddInput(part);
    }
  }
  // Opening reads every shard's index, since a list of shards names files that no flag does.
  if (const auto model = Q4Model::Open(fs, flags.file); model.ok()) {
    for (const auto& shard : (*model)->shards()) rules.AddInput(shard->path(), shard->file().identity());
  }
  if (!flags.against.empty()) {
    const auto source = OpenCheckpoint(fs, flags.against, {.follow_symlinks = flags.follow_symlinks});
    if (source.ok()) rules.AddSource(**source);
    if (source.ok() && !flags.adapter.empty()) {
      const auto merged = MergeAdapter(fs, **source, flags.adapter, {.follow_symlinks = flags.follow_symlinks});
      if (merged.ok()) rules.AddSource(**merged);
    }
  }
  return rules;
}

}  // namespace

void ReportRules::AddSource(const Checkpoint& source) {
  for (const InputFile& input : source.inputs()) inputs_.Add(input.path, input.identity);
  source_ = source.main_file();
}

// The partial file is written first and must be none of these either.
absl::Status ReportRules::Check(const std::string& path) const {
  Q4_RETURN_IF_ERROR(CheckNames(path));
  Q4_RETURN_IF_ERROR(CheckIsReport(fs_, path));
  return CheckNoCompanion(path);
}

absl::Status ReportRules::CheckPlace(const std::string& path) const {
  Q4_RETURN_IF_ERROR(CheckNames(path));
  return CheckNoCompanion(path);
}

absl::Status ReportRules::CheckNames(const std::string& path) const {
  Q4_RETURN_IF_ERROR(inputs_.CheckNames(fs_, AtomicFile::Names(path), kReportIsInput));
  for (const std::string& name : AtomicFile::Names(path)) {
    Q4_ASSIGN_OR_RETURN(const PathInfo info, fs_.Stat(name));
    for (const std::string& output : outputs_) {
      Q4_ASSIGN_OR_RETURN(const bool same, SamePlace(fs_, name, output));
      // By place, for the output does not exist yet; below by inode, for it may exist and be linked.
      if (same) return Fail(kReportIsOutput, path, {}, output);
      Q4_ASSIGN_OR_RETURN(const PathInfo written, fs_.Stat(output));
      if (info.exists && written.exists && info.identity == written.identity) {
        return Fail(kReportIsOutput, path, {}, output);
      }
    }
  }
  return absl::OkStatus();
}

absl::Status ReportRules::CheckNoCompanion(const std::string& path) const {
  // A new file config.json beside the source would be embedded by the next conversion, so not even a free name is
  // allowed.
  if (!source_) return absl::OkStatus();
  Q4_ASSIGN_OR_RETURN(const bool companion, WouldBeCompanion(fs_, *source_, path));
  return companion ? Fail(kReportIsCompanion, path, {}) : absl::OkStatus();
}

absl::Status TryReport(FileSystem& fs, const std::string& path) {
  Q4_ASSIGN_OR_RETURN(const auto file, AtomicFile::Create(fs, path, /*replace=*/true));
  return file->TryPublishing();
}

bool IsInTheWay(const absl::Status& status) {
  const int issue = IssueNumberOf(status);
  return issue == kWouldReplace.number || issue == kNotOurs.number || issue == kPipelineExists.number ||
         issue == kPipelineNotOurs.number;
}

Note WouldFail(const absl::Status& in_the_way) { return {true, "a run would fail: " + MessageOf(in_the_way)}; }

std::vector<Note> LimitsLeftOpen(const std::vector<Gate>& gates) {
  if (gates.empty()) return {};
  return {{false,
           "--gate, --max-nmse: a plan has no errors yet; it was looked whether each rule has tensors, the limits are "
           "judged by the run"}};
}

std::vector<std::string> LinesOf(const std::vector<Note>& notes) {
  std::vector<std::string> lines;
  for (const Note& note : notes) lines.push_back(note.warning ? "warning: " + note.text : note.text);
  return lines;
}

absl::Status GiveConvertReport(FileSystem& fs, const ConvertFlags& flags, const ConvertReport& report, double seconds,
                               std::string* output) {
  if (!flags.report.empty()) {
    Q4_RETURN_IF_ERROR(WriteFileAtomically(fs, flags.report, ConvertReportJson(report, seconds), /*replace=*/true));
  }
  if (flags.json) {
    *output = ConvertReportJson(report, seconds);
  } else if (!flags.quiet && report.gate_findings.empty()) {
    *output = ConvertReportText(report, seconds);
  }
  return absl::OkStatus();
}

// Names are compared with each other first, then with what is read, and only then is anything created.
absl::Status ReportFiles::Open(FileSystem& fs, const VerifyFlags& flags) {
  const std::vector<std::pair<std::string, Renderer>> wanted = {
      {flags.junit, VerifyReportJunit}, {flags.markdown, VerifyReportMarkdown}, {flags.html, VerifyReportHtml}};
  std::vector<std::string> paths;
  for (const auto& [path, renderer] : wanted) {
    if (path.empty()) continue;
    for (const std::string& other : paths) {
      Q4_ASSIGN_OR_RETURN(const bool same, SamePlace(fs, path, other));
      if (same) return Fail(kReportTwice, path, {});
    }
    paths.push_back(path);
  }
  Q4_ASSIGN_OR_RETURN(const bool free, AreFree(fs, paths));
  if (!free) {
    const ReportRules rules = RulesOf(fs, flags);
    for (const std::string& path : paths) Q4_RETURN_IF_ERROR(rules.Check(path));
  }
  // Replacing without --force is safe here: the rules have shown that it is no file of the model.
  for (const auto& [path, renderer] : wanted) {
    if (path.empty()) continue;
    Q4_ASSIGN_OR_RETURN(std::unique_ptr<AtomicFile> file, AtomicFile::Create(fs, path, /*replace=*/true));
    Q4_RETURN_IF_ERROR(file->TryPublishing());
    files_.emplace_back(std::move(file), renderer);
  }
  return absl::OkStatus();
}

// A full disk under one report must not cost the others.
std::vector<absl::Status> ReportFiles::Write(const VerifyReport& report) {
  std::vector<absl::Status> failed;
  for (auto& [file, renderer] : files_) {
    const std::string text = renderer(report);
    absl::Status status = file->file().WriteAt(0, {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()});
    if (status.ok()) status = file->Publish();
    if (!status.ok()) failed.push_back(std::move(status));
  }
  // Removes the partial files of those that failed.
  files_.clear();
  return failed;
}

}  // namespace q4
