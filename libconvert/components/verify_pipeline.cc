// Order: the seal, the files of the folder against it, the seal against model_index.json, the source's files, then the
// containers, which take longest.
#include "libconvert/components/verify_pipeline.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include "fmt/format.h"
#include "formats/base/limits.h"
#include "formats/base/status.h"
#include "formats/base/text.h"
#include "formats/folder/pipeline_index.h"
#include "libconvert/base/json_document.h"
#include "libconvert/base/machine.h"
#include "libconvert/base/parallel.h"
#include "libconvert/base/text_table.h"
#include "libconvert/components/components_issues.h"
#include "libconvert/components/pipeline_json.h"
#include "libconvert/components/pipeline_source.h"
#include "libconvert/components/place.h"
#include "libconvert/components/seal.h"
#include "libconvert/judge/verify_findings.h"
#include "libconvert/judge/verify_issues.h"
#include "libconvert/model/stats_json.h"
#include "libconvert/report/json.h"
#include "libconvert/report/text.h"
#include "libconvert/source/file_digest.h"

namespace q4 {
namespace {

class PipelineVerification {
 public:
  PipelineVerification(FileSystem& fs, const std::string& directory, const VerifyOptions& options,
                       const std::string& calibrations, const ProgressCallback& progress)
      : fs_(fs), directory_(directory), options_(options), calibrations_from_(calibrations), progress_(progress) {}

  absl::StatusOr<PipelineVerifyReport> Run() {
    Q4_ASSIGN_OR_RETURN(ReadSeal read, ReadPipelineSeal(fs_, directory_));
    seal_ = std::move(read.seal);
    if (options_.root && *options_.root != read.root) {
      return Fail(kPipelinePinned, directory_, {},
                  GotExpected("sha256:" + HexOf(read.root), "sha256:" + HexOf(*options_.root)));
    }
    if (!calibrations_from_.empty()) {
      std::vector<std::string> all;
      for (const SealedComponent& component : seal_.components) all.push_back(component.name);
      Q4_ASSIGN_OR_RETURN(calibrations_, OpenCalibrations(fs_, calibrations_from_, all, Converted()));
    }
    report_.path = directory_;
    report_.source = options_.against;
    report_.class_name = seal_.class_name;
    report_.root = read.root;
    Q4_RETURN_IF_ERROR(CheckFiles());
    Q4_RETURN_IF_ERROR(CheckIndex());
    if (!options_.against.empty()) Q4_RETURN_IF_ERROR(CheckSource());
    Q4_RETURN_IF_ERROR(CheckContainers());
    VerifyReport found;
    findings_.MoveTo(&found);
    report_.findings = std::move(found.findings);
    report_.finding_count = found.finding_count;
    return std::move(report_);
  }

 private:
  std::string PathOf(const std::string& name) const { return JoinPath(directory_, name); }

  absl::Status CheckFiles() {
    Q4_ASSIGN_OR_RETURN(const std::vector<std::string> listed, ListFiles(fs_, directory_));
    present_.insert(listed.begin(), listed.end());
    std::set<std::string> sealed;
    std::vector<const SealedFile*> files;
    for (const SealedFile& file : seal_.files) {
      sealed.insert(file.path);
      report_.file_bytes += file.bytes;
      ++report_.files;
      if (present_.contains(file.path)) {
        files.push_back(&file);
      } else {
        findings_.Add("", kPipelineFileMissing, directory_, file.path);
      }
    }
    for (const std::string& name : listed) {
      if (name != kPipelineSealName && !sealed.contains(name)) findings_.Add("", kPipelineFileExtra, directory_, name);
    }
    const auto work = [&](std::uint64_t i) {
      return DigestFiles(fs_, directory_, {files[i]->path}, 1, options_.cancel);
    };
    const auto commit = [&](std::uint64_t i, const absl::StatusOr<std::vector<SealedFile>>& got) -> absl::Status {
      if (ExitCodeOf(got.status()) == ExitCode::kInvalidInput) {
        // A link, or no regular file.
        findings_.Add("", kPipelineFileChanged, directory_, files[i]->path, MessageOf(got.status()));
        return absl::OkStatus();
      }
      Q4_RETURN_IF_ERROR(got.status());
      const SealedFile& file = got->front();
      if (file == *files[i]) return absl::OkStatus();
      findings_.Add("", kPipelineFileChanged, directory_, file.path,
                    file.bytes != files[i]->bytes
                        ? GotExpected(fmt::format("{} bytes", file.bytes), fmt::format("{} bytes", files[i]->bytes))
                        : GotExpected("sha256:" + file.sha256, "sha256:" + files[i]->sha256));
      return absl::OkStatus();
    };
    return ParallelInOrder(files.size(), ThreadsOrDefault(options_.threads), work, commit);
  }

  // What diffusers would load must be what the seal lists as components.
  absl::Status CheckIndex() {
    if (!present_.contains(kPipelineIndexName)) {
      // Missing, which was found if it is sealed.
      findings_.Add("", kPipelineUnsealed, directory_, kPipelineIndexName, "not there");
      return absl::OkStatus();
    }
    const std::string path = PathOf(kPipelineIndexName);
    absl::StatusOr<std::string> text = ReadWholeFile(fs_, path, limits::kConfigJsonBytes, SymbolicLinks::kRefuse);
    if (ExitCodeOf(text.status()) == ExitCode::kIo) return text.status();
    absl::StatusOr<PipelineIndex> index = text.ok() ? ParsePipelineIndex(*text, path) : text.status();
    if (!index.ok()) {
      findings_.Add("", kPipelineUnsealed, directory_, kPipelineIndexName, MessageOf(index.status()));
      return absl::OkStatus();
    }
    bool same = index->members.size() == seal_.components.size() && index->class_name == seal_.class_name;
    for (std::size_t i = 0; same && i < seal_.components.size(); ++i) {
      const PipelineMember& member = index->members[i];
      const SealedComponent& sealed = seal_.components[i];
      same = member.name == sealed.name && member.library == sealed.library && member.class_name == sealed.class_name;
    }
    if (!same) findings_.Add("", kPipelineUnsealed, directory_, kPipelineIndexName);
    return absl::OkStatus();
  }

  std::vector<std::string> Converted() const {
    std::vector<std::string> names;
    for (const SealedComponent& component : seal_.components) {
      if (!component.container.empty()) names.push_back(component.name);
    }
    return names;
  }

  // What is carried is what the source has now, byte for byte, all of it and nothing else.
  absl::Status CheckSource() {
    OpenOptions open = options_.source_options;
    open.take_over = true;
    absl::StatusOr<PipelineSource> source = OpenPipeline(fs_, options_.against, open, Converted(), /*inspecting=*/true);
    if (IssueNumberOf(source.status()) == kNoSuchComponent.number) {
      findings_.Add("", kPipelineSourceDiffers, options_.against, "components", MessageOf(source.status()));
      return absl::OkStatus();
    }
    Q4_RETURN_IF_ERROR(source.status());
    if (source->class_name != seal_.class_name) {
      findings_.Add("", kPipelineSourceDiffers, options_.against, "class",
                    GotExpected(seal_.class_name, source->class_name));
    }
    std::map<std::string, const SealedFile*> carried;
    for (const SealedFile& file : seal_.files) {
      if (!IsContainerFile(file.path)) carried.emplace(file.path, &file);
    }
    for (const CompanionFile& file : source->files) {
      const auto sealed = carried.find(file.name);
      if (sealed == carried.end()) {
        findings_.Add("", kPipelineSourceDiffers, options_.against, file.name,
                      "the source has it, the pipeline has not");
        continue;
      }
      Q4_ASSIGN_OR_RETURN(const auto content, OpenCarried(fs_, file));
      Q4_ASSIGN_OR_RETURN(const std::string digest,
                          FileDigest(*content, "sha256", options_.cancel, kPipelineInterrupted));
      if (digest != sealed->second->sha256) {
        findings_.Add("", kPipelineSourceDiffers, options_.against, file.name,
                      GotExpected("sha256:" + sealed->second->sha256, "sha256:" + digest));
      }
      carried.erase(sealed);
    }
    for (const auto& [name, file] : carried) {
      findings_.Add("", kPipelineSourceDiffers, options_.against, name, "the pipeline has it, the source has not");
    }
    return absl::OkStatus();
  }

  // Whether the file is one of a component's container, by the names that a conversion gives them.
  bool IsContainerFile(const std::string& path) const {
    return std::any_of(seal_.components.begin(), seal_.components.end(), [&](const SealedComponent& component) {
      return !component.container.empty() && path.starts_with(component.name + "/model") &&
             (path.ends_with(".q4") || path == component.container);
    });
  }

  absl::Status CheckContainers() {
    std::uint64_t before = 0;
    std::optional<absl::Status> nothing_selected;
    for (const SealedComponent& component : seal_.components) {
      if (component.container.empty() || !present_.contains(component.container)) continue;
      VerifyOptions options = options_;
      options.root = std::nullopt;  // compared below, so that the others are verified as well
      if (const auto found = calibrations_.find(component.name); found != calibrations_.end()) {
        options.calibration = found->second;
      }
      if (!options_.against.empty()) options.against = JoinPath(options_.against, component.name);
      std::uint64_t own = 0;
      const auto progress = [&](const Progress& done) {
        Progress whole = done;
        own = done.total_bytes;
        whole.done_bytes += before;
        whole.total_bytes = std::max(whole.total_bytes + before, report_.file_bytes);
        progress_(whole);
      };
      absl::StatusOr<VerifyReport> verified =
          VerifyModel(fs_, PathOf(component.container), options, progress_ ? ProgressCallback(progress) : nullptr);
      before += own;
      if (IssueNumberOf(verified.status()) == kNothingSelected.number) {
        nothing_selected = verified.status();
        continue;
      }
      const ExitCode code = ExitCodeOf(verified.status());
      // Damage that does not let it be opened.
      if (code == ExitCode::kCheckFailed || (code == ExitCode::kInvalidInput && options_.against.empty())) {
        findings_.Add("", verified.status());
        continue;
      }
      Q4_RETURN_IF_ERROR(verified.status());
      if (HexOf(verified->root) != component.root) {
        findings_.Add("", kPipelineRootDiffers, PathOf(component.container), {},
                      GotExpected("sha256:" + HexOf(verified->root), "sha256:" + component.root));
      }
      report_.components.push_back({component.name, *std::move(verified)});
    }
    if (report_.components.empty() && nothing_selected) return *nothing_selected;
    return absl::OkStatus();
  }

  FileSystem& fs_;
  const std::string directory_;
  const VerifyOptions& options_;
  const std::string& calibrations_from_;
  const ProgressCallback& progress_;
  PipelineCalibrations calibrations_;
  PipelineSeal seal_;
  std::set<std::string> present_;
  FindingList findings_;
  PipelineVerifyReport report_;
};

}  // namespace

bool PipelineVerifyReport::passed() const {
  return finding_count == 0 && std::all_of(components.begin(), components.end(),
                                           [](const Component& component) { return component.report.passed(); });
}

absl::StatusOr<PipelineVerifyReport> VerifyPipeline(FileSystem& fs, const std::string& directory,
                                                    const VerifyOptions& options, const std::string& calibrations,
                                                    const ProgressCallback& progress) {
  return PipelineVerification(fs, directory, options, calibrations, progress).Run();
}

std::string PipelineVerifyText(const PipelineVerifyReport& report) {
  std::string text;
  for (const PipelineVerifyReport::Component& component : report.components) {
    text += fmt::format("component {}\n{}\n", component.name, VerifyReportText(component.report));
  }
  text += fmt::format("{}: {}\n", Printable(report.path, kWholeName), report.passed() ? "passed" : "failed");
  text += Field("pipeline", Printable(report.class_name));
  text += Field("files", fmt::format("{}, {} bytes", Grouped(report.files), Grouped(report.file_bytes)));
  text += Field("root", "sha256:" + HexOf(report.root));
  if (!report.source.empty()) text += Field("against", Printable(report.source, kWholeName));
  for (const PipelineVerifyReport::Component& component : report.components) {
    text += Field(component.name, component.report.passed() ? "passed" : "failed");
  }
  return text;
}

std::string PipelineVerifyJson(const PipelineVerifyReport& report) {
  Json json = NewDocument("q4verify-pipeline-report");
  json["path"] = report.path;
  json["source"] = TextOrNull(report.source);
  json["class"] = TextOrNull(report.class_name);
  json["root_sha256"] = HexOf(report.root);
  json["passed"] = report.passed();
  json["files"] = report.files;
  json["file_bytes"] = report.file_bytes;
  json["finding_count"] = report.finding_count;
  Json findings = Json::array();
  for (const VerifyFinding& finding : report.findings) {
    findings.push_back({{"issue", finding.issue}, {"message", finding.message}});
  }
  json["findings"] = std::move(findings);
  Json components = Json::array();
  for (const PipelineVerifyReport::Component& component : report.components) {
    components.push_back({{"name", component.name}, {"report", DocumentOf(VerifyReportJson(component.report))}});
  }
  json["components"] = std::move(components);
  return JsonReportText(json);
}

}  // namespace q4
