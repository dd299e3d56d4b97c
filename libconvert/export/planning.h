// What an export will write, from the index and the embedded configurations alone: ExportModel() then carries it out,
// and OutlineExport() tells it. Internal to libconvert/export/.
#pragma once

#include <vector>

#include "absl/status/statusor.h"
#include "formats/q4/reader.h"
#include "formats/source/modules.h"
#include "libconvert/export/export.h"
#include "libconvert/export/exporter.h"
#include "libconvert/export/pieces.h"

namespace q4 {

struct PlannedExport {
  ExportPlan plan;  // belongs to the model
  ModelConfigs configs;
  std::vector<SmallFile> small_files;  // the exporter's own, without what would redirect a loader
};

// The counts, settings and warnings go into `report`. Everything that an exporter refuses is refused here; nothing is
// written. Errors: those of ExportModel() that speak of the model.
absl::StatusOr<PlannedExport> PlanExport(const Q4Model& model, const ExporterRow& row, const ExportOptions& options,
                                         ExportReport* report);

// kExportOneShard for a shard that was opened alone: its export would be a checkpoint with most tensors missing.
absl::Status CheckAllShards(const Q4Model& model);

}  // namespace q4
