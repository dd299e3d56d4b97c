// The files that the tools write beside their result: --report of q4convert; --junit, --markdown and --html of
// q4verify. A report is written without --force, so it must never be a file that somebody needs (docs/safety.md, "What
// is never replaced"): it replaces nothing but an earlier report, which is known by how it begins, or an empty file.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "formats/base/file.h"
#include "formats/base/note.h"
#include "formats/publish/atomic_file.h"
#include "formats/publish/input_files.h"
#include "formats/source/checkpoint.h"
#include "libconvert/convert/convert.h"
#include "libconvert/judge/gate.h"
#include "libconvert/judge/verify_report.h"
#include "tools/options.h"

namespace q4 {

// What no report may be: a file that the tool reads, one that it writes, and one that the next conversion would take
// for a companion of the source. Files are compared by inode, names that need not exist yet by directory and name.
class ReportRules {
 public:
  // `fs` must outlive this object.
  explicit ReportRules(FileSystem& fs) : fs_(fs) {}

  // What cannot be looked at is passed over: the work itself will say so. "" is no file.
  void AddInput(const std::string& path) { inputs_.Add(fs_, path); }
  void AddInput(const std::string& path, const FileIdentity& identity) { inputs_.Add(path, identity); }
  // A source: all that was read to open it, and the place that its companions come from. One source at most.
  void AddSource(const Checkpoint& source);
  // A file that the tool writes or a name that it keeps to itself, such as a partial file.
  void AddOutput(std::string path) { outputs_.push_back(std::move(path)); }

  // Whether `path`, or the partial file that it is written to first, is one of these: kReportIsInput, kReportIsOutput
  // or kReportIsCompanion; or whether `path` is a file that is no report: kReportNotOurs (exit code 1); errors of the
  // file system (2).
  absl::Status Check(const std::string& path) const;
  // All of it but kReportNotOurs: for a file that is no report, of which the caller knows what it may replace.
  absl::Status CheckPlace(const std::string& path) const;

 private:
  absl::Status CheckNames(const std::string& path) const;
  absl::Status CheckNoCompanion(const std::string& path) const;

  FileSystem& fs_;
  InputFiles inputs_;
  // Names, for outputs need not exist yet.
  std::vector<std::string> outputs_;
  std::optional<MainFile> source_;  // decides what would be a companion
};

// Whether a report can be written to `path`: creates its partial file, tries to rename an empty one, and removes both.
// Errors as AtomicFile::Create() and TryPublishing().
absl::Status TryReport(FileSystem& fs, const std::string& path);

// Whether `status` says that something lies where the output is to go, which a run would replace with --force, or not
// at all: for a dry run a remark. See CheckOutput().
bool IsInTheWay(const absl::Status& status);
// That remark, a warning.
Note WouldFail(const absl::Status& in_the_way);
// What a dry run leaves open of the limits on the error, where there are any.
std::vector<Note> LimitsLeftOpen(const std::vector<Gate>& gates);
// Notes as lines for stderr.
std::vector<std::string> LinesOf(const std::vector<Note>& notes);

// What q4convert says of a container that it has published, or of one that broke a gate: writes --report and sets
// *output to what goes to stdout: JSON with --json, nothing with -q, else text, which a broken gate has none of. The
// container stays, even if the report cannot be written. REQUIRES: ReportRules::Check() of --report, which makes
// replacing it safe. Errors of the file system (exit code 2).
absl::Status GiveConvertReport(FileSystem& fs, const ConvertFlags& flags, const ConvertReport& report, double seconds,
                               std::string* output);

// The reports of q4verify. Opened before the work begins, so that a directory that cannot be written is noticed at
// once; written when it has ended, each on its own. An older report is replaced atomically. What is not written leaves
// nothing behind.
class ReportFiles {
 public:
  // Opens the reports that the flags ask for. An error if one is an input (the container, the source, a gate file) by
  // path, link or inode, if it would become a companion of the source (exit code 1), if two are one file
  // (kReportTwice), or if one cannot be created (2). `fs` must outlive this object. Call once.
  absl::Status Open(FileSystem& fs, const VerifyFlags& flags);

  // Writes them all, also after one has failed. Returns the errors of those that failed. Nothing can be written
  // afterwards.
  std::vector<absl::Status> Write(const VerifyReport& report);

 private:
  using Renderer = std::string (*)(const VerifyReport&);
  // Partial files, open and locked, each with what makes its text.
  std::vector<std::pair<std::unique_ptr<AtomicFile>, Renderer>> files_;
};

}  // namespace q4
