// The plan of an export, whose targets and pieces say it all.
#include "libconvert/export/outline.h"

#include <set>
#include <utility>

#include "formats/base/limits.h"
#include "formats/base/status.h"
#include "formats/source/modules.h"
#include "libconvert/export/embedded.h"
#include "libconvert/export/export_issues.h"
#include "libconvert/export/exporter.h"
#include "libconvert/export/planning.h"

namespace q4 {
namespace {

OutlinedTensor::Made MadeOf(PieceKind kind) {
  switch (kind) {
    case PieceKind::kStored:
      return OutlinedTensor::Made::kStored;
    case PieceKind::kConverted:
    case PieceKind::kDecoded:
      return OutlinedTensor::Made::kDecoded;
    case PieceKind::kBytes:
      break;
  }
  return OutlinedTensor::Made::kGiven;
}

// Those that have pieces; a target without elements is what it is, in a part of no bytes.
std::vector<OutlinedTensor> TensorsOf(const ExportPlan& plan, const ModelConfigs& configs) {
  std::vector<OutlinedTensor> tensors;
  tensors.reserve(plan.targets.size());
  for (const ExportTensor& target : plan.targets) {
    const ExportSource& source = plan.sources[target.group];
    OutlinedTensor& tensor = tensors.emplace_back();
    tensor.name = target.name;
    tensor.source = source.tensor->name;
    tensor.folder = ModuleFolderOf(configs.folders, source.tensor->name);
    tensor.dtype = target.dtype;
    tensor.shape = target.shape;
    tensor.in_4bit = source.stays_quantized;
    tensor.expert = source.fused_expert;
  }
  for (const ExportPiece& piece : plan.pieces) {
    OutlinedTensor& tensor = tensors[piece.target];
    tensor.made = MadeOf(piece.kind);
    tensor.part = piece.part;
    if (piece.kind == PieceKind::kBytes) {
      tensor.bytes = piece.make_bytes(*plan.sources[piece.source].tensor, plan.bnb);
    }
  }
  return tensors;
}

}  // namespace

absl::StatusOr<ExportOutline> OutlineExport(const Q4Model& model, const ExportOptions& options) {
  const ExporterRow* const row = FindExporter(options.to);
  if (row == nullptr) return Fail(kExportUnknown, {}, options.to);
  Q4_RETURN_IF_ERROR(row->exporter->Check(options, /*single_file=*/false));
  Q4_RETURN_IF_ERROR(CheckAllShards(model));
  ExportReport report;
  Q4_ASSIGN_OR_RETURN(PlannedExport planned, PlanExport(model, *row, options, &report));
  ExportOutline outline;
  outline.tensors = TensorsOf(planned.plan, planned.configs);
  outline.warnings = std::move(report.warnings);
  std::set<std::string> written;
  for (SmallFile& file : planned.small_files) {
    written.insert(file.name);
    outline.files.push_back({std::move(file.name), std::move(file.content)});
  }
  for (const Q4EmbeddedFile& file : model.shards().front()->index().files) {
    if (!MayRedirect(file.name) || written.contains(file.name)) continue;
    Q4_ASSIGN_OR_RETURN(std::string content, model.shards().front()->ReadFile(file, limits::kConfigJsonBytes));
    Q4_RETURN_IF_ERROR(InFile(DropRedirectsOf(file.name, &content), model.path()));
    outline.files.push_back({file.name, std::move(content)});
  }
  return outline;
}

}  // namespace q4
