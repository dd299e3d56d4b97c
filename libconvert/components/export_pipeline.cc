// A component is exported into the partial folder, where ExportModel() publishes it as it would anywhere; the whole
// gets its name at the end.
#include "libconvert/components/export_pipeline.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "fmt/format.h"
#include "formats/base/counted.h"
#include "formats/base/status.h"
#include "formats/base/text.h"
#include "formats/folder/pipeline_index.h"
#include "formats/publish/atomic_directory.h"
#include "formats/publish/input_files.h"
#include "formats/q4/shards.h"
#include "libconvert/base/json_document.h"
#include "libconvert/base/text_table.h"
#include "libconvert/components/components_issues.h"
#include "libconvert/components/pipeline_json.h"
#include "libconvert/components/place.h"
#include "libconvert/export/record.h"
#include "libconvert/model/open_model.h"
#include "libconvert/model/provenance_view.h"
#include "libconvert/model/stats_json.h"
#include "libconvert/source/file_digest.h"

namespace q4 {
namespace {

class PipelineExport {
 public:
  PipelineExport(FileSystem& fs, const std::string& directory, const std::string& output, const ExportOptions& options)
      : fs_(fs), from_(directory), to_(output), options_(options) {
    while (to_.size() > 1 && to_.back() == '/') to_.pop_back();
  }

  absl::StatusOr<PipelineExportReport> Run() {
    if (!options_.tensor_pattern.empty()) return Fail(kNotOfPipeline, from_, "--tensor");
    if (options_.into) return Fail(kNotOfPipeline, from_, "--into");
    Q4_ASSIGN_OR_RETURN(read_, ReadPipelineSeal(fs_, from_));
    if (options_.root && *options_.root != read_.root) {
      return Fail(kPipelinePinned, from_, {},
                  GotExpected("sha256:" + HexOf(read_.root), "sha256:" + HexOf(*options_.root)));
    }
    Q4_ASSIGN_OR_RETURN(const DirectoryUse found, Place());
    Q4_ASSIGN_OR_RETURN(directory_, AtomicDirectory::Create(fs_, to_, found));
    report_.input = from_;
    report_.output = to_;
    report_.to = options_.to;
    report_.class_name = read_.seal.class_name;
    for (const SealedComponent& component : read_.seal.components) {
      if (!component.container.empty()) Q4_RETURN_IF_ERROR(Export(component));
    }
    for (const SealedFile& file : read_.seal.files) {
      if (!IsOfContainer(file.path)) Q4_RETURN_IF_ERROR(Carry(file));
    }
    Q4_RETURN_IF_ERROR(directory_->WriteFile(
        kExportRecordName, ExportRecordText(options_.to, read_.root, /*encoders=*/std::nullopt, recorded_)));
    // It may be another folder by now.
    Q4_ASSIGN_OR_RETURN(const DirectoryUse use, Place());
    Q4_RETURN_IF_ERROR(directory_->Publish(use, {kPipelineIndexName, kExportRecordName}));
    return std::move(report_);
  }

 private:
  absl::StatusOr<DirectoryUse> Place() {
    InputFiles inputs;
    inputs.Add(fs_, JoinPath(from_, kPipelineSealName));
    for (const SealedFile& file : read_.seal.files) inputs.Add(fs_, JoinPath(from_, file.path));
    Q4_ASSIGN_OR_RETURN(const PathInfo from, fs_.Stat(from_));
    Q4_ASSIGN_OR_RETURN(const PathInfo to, fs_.Stat(to_));
    if (to.exists && to.identity == from.identity) return Fail(kPipelineIsInput, to_, {});
    // Inside the pipeline it would be what the seal does not list.
    Q4_ASSIGN_OR_RETURN(const bool inside, LiesBelow(fs_, to_, from_));
    if (inside) return Fail(kPipelineIsInput, to_, {}, "it lies in the pipeline, whose seal lists every file");
    Q4_ASSIGN_OR_RETURN(DirectoryUse use,
                        CheckPipelinePlace(fs_, to_, ExportRecord(), inputs, options_.force, options_.cancel));
    if (!use.ours.empty()) Q4_RETURN_IF_ERROR(CheckHoldsNoSource());
    return use;
  }

  // An earlier export may be what the pipeline was made from. Its record was held against its files.
  absl::Status CheckHoldsNoSource() {
    const std::vector<SealedFile> files = ExportRecord().read(fs_, to_);
    for (const SealedComponent& component : read_.seal.components) {
      if (component.container.empty()) continue;
      Q4_ASSIGN_OR_RETURN(const auto model, OpenContainer(fs_, JoinPath(from_, component.container)));
      Q4_ASSIGN_OR_RETURN(const ProvenanceView provenance, ReadProvenance(*model));
      for (const SourceFileRecord& source : provenance.sources) {
        for (const SealedFile& file : files) {
          if (file.bytes != source.size) continue;
          std::string digest = file.sha256;
          if (source.digest_kind != "sha256") {
            Q4_ASSIGN_OR_RETURN(const auto opened, fs_.OpenForRead(JoinPath(to_, file.path), SymbolicLinks::kNever));
            Q4_ASSIGN_OR_RETURN(digest, FileDigest(*opened, source.digest_kind, options_.cancel, kPipelineInterrupted));
          }
          if (digest == source.digest) return Fail(kPipelineIsInput, to_, file.path, "a source of the pipeline");
        }
      }
    }
    return absl::OkStatus();
  }

  // What lies in the folder of a container is what the container embeds, which its export writes.
  bool IsOfContainer(const std::string& path) const {
    return std::any_of(read_.seal.components.begin(), read_.seal.components.end(),
                       [&](const SealedComponent& component) {
                         return !component.container.empty() && path.starts_with(component.name + "/");
                       });
  }

  absl::Status Export(const SealedComponent& component) {
    ExportOptions options = options_;
    options.root = ParseQ4Root(component.root);
    options.force = false;  // it is a new folder
    if (options_.progress) {
      options.progress = [this, before = done_bytes_](const Progress& progress) {
        Progress whole = progress;
        whole.done_bytes += before;
        whole.total_bytes += before;
        options_.progress(whole);
      };
    }
    Q4_ASSIGN_OR_RETURN(const std::string folder, directory_->PathFor(component.name));
    absl::StatusOr<ExportReport> exported = ExportModel(fs_, JoinPath(from_, component.container), folder, options);
    if (!exported.ok()) return InFile(exported.status(), component.name);
    done_bytes_ += exported->tensor_bytes;
    const std::string prefix = component.name + "/";
    Q4_ASSIGN_OR_RETURN(const std::vector<ExportRecordFile> files, ReadExportRecord(fs_, folder));
    for (const ExportRecordFile& file : files) recorded_.push_back({prefix + file.name, file.bytes, file.sha256});
    Q4_ASSIGN_OR_RETURN(const auto record, DigestFiles(fs_, folder, {kExportRecordName}, 1, options_.cancel));
    recorded_.push_back({prefix + kExportRecordName, record.front().bytes, record.front().sha256});
    for (const ExportedFile& file : exported->files) Q4_RETURN_IF_ERROR(directory_->Adopt(prefix + file.name));
    for (const std::string& warning : exported->warnings) {
      report_.warnings.push_back(component.name + ": " + warning);
    }
    exported->output = JoinPath(to_, component.name);
    report_.components.push_back({component.name, *std::move(exported)});
    return absl::OkStatus();
  }

  absl::Status Carry(const SealedFile& file) {
    const std::string path = JoinPath(from_, file.path);
    Q4_ASSIGN_OR_RETURN(const PathInfo info, fs_.Stat(path));
    if (!info.exists) return Fail(kPipelineFileMissing, from_, file.path);
    const CompanionFile source{file.path, path, info.size, info.identity, info.version};
    Q4_ASSIGN_OR_RETURN(SealedFile copied, CopyCarried(fs_, source, file.path, directory_.get(), options_.cancel));
    if (!(copied == file)) {
      return Fail(kPipelineFileChanged, from_, file.path,
                  GotExpected("sha256:" + copied.sha256, "sha256:" + file.sha256));
    }
    recorded_.push_back({copied.path, copied.bytes, copied.sha256});
    report_.carried.push_back(std::move(copied));
    return absl::OkStatus();
  }

  FileSystem& fs_;
  const std::string from_;
  std::string to_;
  const ExportOptions& options_;
  ReadSeal read_;
  std::unique_ptr<AtomicDirectory> directory_;
  std::vector<ExportRecordFile> recorded_;
  std::uint64_t done_bytes_ = 0;
  PipelineExportReport report_;
};

}  // namespace

absl::StatusOr<PipelineExportReport> ExportPipeline(FileSystem& fs, const std::string& directory,
                                                    const std::string& output, const ExportOptions& options) {
  return PipelineExport(fs, directory, output, options).Run();
}

std::string PipelineExportText(const PipelineExportReport& report) {
  std::string text;
  for (const PipelineExportReport::Component& component : report.components) {
    text += ExportReportText(component.report);
  }
  std::uint64_t bytes = 0;
  for (const SealedFile& file : report.carried) bytes += file.bytes;
  text += fmt::format("pipeline {} to {}: {} exported, {} ({}) carried\n", Printable(report.class_name),
                      Printable(report.output, kWholeName), Counted(report.components.size(), "component"),
                      Counted(report.carried.size(), "file"), HumanBytes(bytes));
  return text;
}

std::string PipelineExportJson(const PipelineExportReport& report) {
  Json json = NewDocument("q4export-pipeline-report");
  json["input"] = report.input;
  json["output"] = report.output;
  json["to"] = report.to;
  json["class"] = TextOrNull(report.class_name);
  Json components = Json::array();
  for (const PipelineExportReport::Component& component : report.components) {
    components.push_back({{"name", component.name}, {"report", DocumentOf(ExportReportJson(component.report))}});
  }
  json["components"] = std::move(components);
  Json carried = Json::array();
  for (const SealedFile& file : report.carried) carried.push_back({{"path", file.path}, {"bytes", file.bytes}});
  json["carried"] = std::move(carried);
  json["warnings"] = report.warnings;
  return JsonReportText(json);
}

}  // namespace q4
