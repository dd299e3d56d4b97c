#include "libconvert/components/inspect_pipeline.h"

#include <algorithm>
#include <utility>

#include "fmt/format.h"
#include "formats/base/status.h"
#include "formats/base/text.h"
#include "formats/source/checkpoint.h"
#include "libconvert/base/json_document.h"
#include "libconvert/base/pattern_issues.h"
#include "libconvert/base/text_table.h"
#include "libconvert/components/pipeline_json.h"
#include "libconvert/components/pipeline_source.h"
#include "libconvert/components/seal.h"
#include "libconvert/inspect/json.h"
#include "libconvert/inspect/text.h"
#include "libconvert/model/stats_json.h"

namespace q4 {
namespace {

using Kind = PipelineInspectReport::Component::Kind;

constexpr std::string_view NameOfKind(Kind kind) {
  switch (kind) {
    case Kind::kContainer:
      return "container";
    case Kind::kWeights:
      return "weights";
    default:
      return "files";
  }
}

bool LiesIn(const std::string& path, const std::string& component) {
  return path.size() > component.size() && path.starts_with(component) && path[component.size()] == '/';
}

// The files of each component that are listed.
void CountFilesOf(PipelineInspectReport* report) {
  for (PipelineInspectReport::Component& component : report->components) {
    for (const InspectFile& file : report->files) {
      if (!LiesIn(file.name, component.name)) continue;
      ++component.files;
      component.bytes += file.bytes;
    }
  }
}

// Whether weights lie beside the configuration of a component that is carried.
bool HasWeightsIn(const std::vector<SealedFile>& files, const std::string& component) {
  return std::any_of(files.begin(), files.end(), [&](const SealedFile& file) {
    return LiesIn(file.path, component) && IsCheckpointName(file.path);
  });
}

absl::Status AddModel(FileSystem& fs, const std::string& path, const OpenOptions& options, InspectScope scope,
                      PipelineInspectReport::Component* component) {
  absl::StatusOr<InspectReport> model = InspectModel(fs, path, options, scope);
  if (!model.ok()) return InFile(model.status(), component->name);
  component->model = *std::move(model);
  return absl::OkStatus();
}

absl::Status InspectSealed(FileSystem& fs, const std::string& directory, const OpenOptions& options, InspectScope scope,
                           PipelineInspectReport* report) {
  Q4_ASSIGN_OR_RETURN(const ReadSeal read, ReadPipelineSeal(fs, directory));
  report->class_name = read.seal.class_name;
  report->root = read.root;
  for (const SealedComponent& sealed : read.seal.components) {
    PipelineInspectReport::Component& component = report->components.emplace_back();
    static_cast<PipelineMember&>(component) = {sealed.name, sealed.library, sealed.class_name};
    if (!sealed.container.empty()) {
      component.kind = Kind::kContainer;
      Q4_RETURN_IF_ERROR(AddModel(fs, JoinPath(directory, sealed.container), options, scope, &component));
    } else if (HasWeightsIn(read.seal.files, sealed.name)) {
      component.kind = Kind::kWeights;
      Q4_RETURN_IF_ERROR(AddModel(fs, JoinPath(directory, sealed.name), options, scope, &component));
    }
  }
  for (const SealedFile& file : read.seal.files) report->files.push_back({file.path, file.bytes});
  for (const SealedLeftOut& file : read.seal.left_out) {
    // As it was shown when it was written, and yet it comes from a file.
    report->left_out.push_back({Printable(Shown{file.name}), Printable(Shown{file.reason}), false});
  }
  return absl::OkStatus();
}

absl::Status InspectSource(FileSystem& fs, const std::string& directory, const OpenOptions& options, InspectScope scope,
                           PipelineInspectReport* report) {
  Q4_ASSIGN_OR_RETURN(const PipelineSource source,
                      OpenPipeline(fs, directory, options, std::nullopt, /*inspecting=*/true));
  report->class_name = source.class_name;
  for (const PipelineComponent& opened : source.components) {
    PipelineInspectReport::Component& component = report->components.emplace_back();
    static_cast<PipelineMember&>(component) = opened;
    if (opened.checkpoint == nullptr) continue;
    component.kind = Kind::kWeights;
    component.quantized_by_default = opened.quantized && !opened.checkpoint->foreign();
    Q4_RETURN_IF_ERROR(AddModel(fs, JoinPath(directory, opened.name), options, scope, &component));
  }
  for (const CompanionFile& file : source.files) report->files.push_back({file.name, file.size});
  report->left_out = source.left_out;
  return absl::OkStatus();
}

// The tensors of each component that the selection asks for, in the order of report.components.
absl::StatusOr<std::vector<InspectDetail>> DetailsOf(const PipelineInspectReport& report,
                                                     const PipelineDetail& detail) {
  TensorSelection each = detail.selection;
  each.allow_unmatched = true;
  std::vector<InspectDetail> details;
  const InspectReport* first = nullptr;
  bool any = false;
  for (const PipelineInspectReport::Component& component : report.components) {
    details.push_back(detail.each);
    if (!component.model) continue;
    if (first == nullptr) first = &*component.model;
    Q4_ASSIGN_OR_RETURN(details.back().tensors, SelectTensors(*component.model, each));
    any |= !details.back().tensors.empty();
  }
  if (!any && first != nullptr && !detail.selection.allow_unmatched) {
    // Its error names what is nearest.
    Q4_RETURN_IF_ERROR(SelectTensors(*first, detail.selection).status());
  }
  return details;
}

}  // namespace

absl::StatusOr<PipelineInspectReport> InspectPipeline(FileSystem& fs, const std::string& directory,
                                                      const OpenOptions& options, InspectScope scope) {
  PipelineInspectReport report;
  report.path = directory;
  Q4_ASSIGN_OR_RETURN(const std::string sealed, SealedPipelineFolder(fs, directory));
  Q4_RETURN_IF_ERROR(sealed.empty() ? InspectSource(fs, directory, options, scope, &report)
                                    : InspectSealed(fs, directory, options, scope, &report));
  CountFilesOf(&report);
  return report;
}

absl::StatusOr<std::string> PipelineInspectText(const PipelineInspectReport& report, const PipelineDetail& detail,
                                                const TextStyle& style) {
  std::string text;
  if (detail.components) {
    Q4_ASSIGN_OR_RETURN(const std::vector<InspectDetail> details, DetailsOf(report, detail));
    for (std::size_t i = 0; i < report.components.size(); ++i) {
      const PipelineInspectReport::Component& component = report.components[i];
      if (!component.model || (details[i].tensors.empty() && !details[i].files)) continue;
      text += fmt::format("component {}\n{}\n", component.name, InspectReportText(*component.model, details[i], style));
    }
  }
  text +=
      Printable(report.path, kWholeName) + (report.root ? ": a converted pipeline\n" : ": a pipeline of diffusers\n");
  text += Field("class", Printable(report.class_name));
  if (report.root) text += Field("root", "sha256:" + HexOf(*report.root));
  std::uint64_t bytes = 0;
  for (const InspectFile& file : report.files) bytes += file.bytes;
  Table table({"<component", "<class", "<stored as", "tensors", "elements", "bytes", "bits/element"});
  for (const PipelineInspectReport::Component& component : report.components) {
    std::string stored(NameOfKind(component.kind));
    if (component.model && component.kind == Kind::kWeights) stored = component.model->format;
    if (component.quantized_by_default) stored += ", to be quantized";
    const InspectReport* const model = component.model ? &*component.model : nullptr;
    table.Add({component.name, Printable(component.class_name), Printable(stored),
               model == nullptr ? "-" : Grouped(model->tensor_count), model == nullptr ? "-" : Grouped(model->elems),
               Grouped(model == nullptr ? component.bytes : model->file_bytes),
               model == nullptr ? "-" : fmt::format("{:.3f}", model->BitsPerElement())});
  }
  text += table.Text(style);
  if (report.root) text += Field("files", fmt::format("{}, {} bytes", Grouped(report.files.size()), Grouped(bytes)));
  for (const LeftOutFile& file : report.left_out) {
    if (file.recorded) text += Field("left out", fmt::format("{} ({})", file.name, file.reason));
  }
  return text;
}

absl::StatusOr<std::string> PipelineInspectJson(const PipelineInspectReport& report, const PipelineDetail& detail) {
  Q4_ASSIGN_OR_RETURN(const std::vector<InspectDetail> details, DetailsOf(report, detail));
  Json json = NewDocument("q4inspect-pipeline");
  json["path"] = report.path;
  json["class"] = TextOrNull(report.class_name);
  json["root_sha256"] = report.root ? Json(HexOf(*report.root)) : Json(nullptr);
  Json components = Json::array();
  for (std::size_t i = 0; i < report.components.size(); ++i) {
    const PipelineInspectReport::Component& component = report.components[i];
    components.push_back(
        {{"name", component.name},
         {"library", component.library},
         {"class", component.class_name},
         {"stored_as", NameOfKind(component.kind)},
         {"quantized_by_default", component.quantized_by_default},
         {"files", component.files},
         {"bytes", component.bytes},
         {"report", component.model ? DocumentOf(InspectReportJson(*component.model, details[i])) : Json(nullptr)}});
  }
  json["components"] = std::move(components);
  Json files = Json::array();
  for (const InspectFile& file : report.files) files.push_back({{"path", file.name}, {"bytes", file.bytes}});
  json["files"] = std::move(files);
  Json left_out = Json::array();
  for (const LeftOutFile& file : report.left_out) left_out.push_back({{"name", file.name}, {"reason", file.reason}});
  json["left_out"] = std::move(left_out);
  return JsonReportText(json);
}

}  // namespace q4
