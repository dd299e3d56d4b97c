// The model card of an exported directory, and where that of the original goes. Internal to libconvert/export/.
#pragma once

#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "formats/q4/reader.h"
#include "formats/source/modules.h"
#include "libconvert/export/export.h"
#include "libconvert/export/exporter.h"

namespace q4 {

struct CardFile {
  std::optional<SmallFile> card;  // nullopt: none is written, and embedded files are copied as ever
  // The embedded file whose place the card takes, and the name under which it is copied; "" where it is an older card
  // of q4, which is not copied. Both "" where there is none.
  std::string replaced, copied_as;
};

// Decides by ExportOptions::card. `report`: what was planned, the bytes of tensors among it. Errors: those of
// ModelCard().
absl::StatusOr<CardFile> PlanCard(const Q4Model& model, const ModelConfigs& configs, const ExporterRow& row,
                                  const ExportOptions& options, const ExportReport& report);

}  // namespace q4
