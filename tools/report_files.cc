#include "tools/report_files.h"

#include <algorithm>
#include <cstdint>

#include "formats/base/status.h"
#include "formats/q4/reader.h"
#include "formats/source/checkpoint.h"
#include "libconvert/report/html.h"
#include "libconvert/report/junit.h"
#include "libconvert/report/markdown.h"
#include "tools/usage_issues.h"

namespace q4 {
namespace {

// Every file that the verification reads. What cannot be opened is left out here, because the verification itself says
// so.
std::vector<FileIdentity> Inputs(FileSystem& fs, const VerifyFlags& flags) {
  std::vector<FileIdentity> inputs;
  const auto add = [&](const std::string& path) {
    if (path.empty()) return;
    const absl::StatusOr<PathInfo> info = fs.Stat(path);
    if (info.ok() && info->exists) inputs.push_back(info->identity);
  };
  add(flags.file);
  add(flags.against);
  add(flags.gate);
  add(flags.baseline);
  if (const auto model = Q4Model::Open(fs, flags.file); model.ok()) {
    for (const auto& shard : (*model)->shards()) inputs.push_back(shard->file().identity());
  }
  if (!flags.against.empty()) {
    if (const auto source = OpenCheckpoint(fs, flags.against, {.follow_symlinks = flags.follow_symlinks});
        source.ok()) {
      for (const CheckpointFile& file : (*source)->files()) inputs.push_back(file.file->identity());
      for (const CompanionFile& companion : (*source)->companions()) add(companion.path);
    }
  }
  return inputs;
}

// Two names of one file that need not exist yet: its directory, and its name there.
absl::StatusOr<bool> SamePlace(FileSystem& fs, const std::string& a, const std::string& b) {
  if (BaseNameOf(a) != BaseNameOf(b)) return false;
  Q4_ASSIGN_OR_RETURN(const PathInfo directory_a, fs.Stat(DirectoryOf(a)));
  Q4_ASSIGN_OR_RETURN(const PathInfo directory_b, fs.Stat(DirectoryOf(b)));
  return directory_a.exists && directory_b.exists && directory_a.identity == directory_b.identity;
}

}  // namespace

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
  // Only what exists can be an input; the inputs are looked up, which reads their headers, only then.
  std::vector<FileIdentity> inputs;
  for (const std::string& path : paths) {
    Q4_ASSIGN_OR_RETURN(const PathInfo info, fs.Stat(path));
    if (!info.exists) continue;
    if (inputs.empty()) inputs = Inputs(fs, flags);
    if (std::find(inputs.begin(), inputs.end(), info.identity) != inputs.end()) return Fail(kReportIsInput, path, {});
  }
  for (const auto& [path, renderer] : wanted) {
    if (path.empty()) continue;
    Q4_ASSIGN_OR_RETURN(std::unique_ptr<AtomicFile> file, AtomicFile::Create(fs, path, /*replace=*/true));
    files_.emplace_back(std::move(file), renderer);
  }
  return absl::OkStatus();
}

std::vector<absl::Status> ReportFiles::Write(const VerifyReport& report) {
  std::vector<absl::Status> failed;
  for (auto& [file, renderer] : files_) {
    const std::string text = renderer(report);
    absl::Status status = file->file().WriteAt(0, {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()});
    if (status.ok()) status = file->Publish();
    if (!status.ok()) failed.push_back(std::move(status));
  }
  files_.clear();
  return failed;
}

}  // namespace q4
