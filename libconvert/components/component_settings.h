// What may differ from component to component of a pipeline that is converted as a whole: its calibration file, and the
// recipe that a budget has chosen. Everything else of the options holds for all of them.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/base/file.h"
#include "formats/base/note.h"
#include "formats/calibration/calibration.h"
#include "libconvert/components/pipeline_source.h"
#include "libconvert/plan/plan.h"

namespace q4 {

// By component; of those that have one.
using PipelineCalibrations = std::map<std::string, std::shared_ptr<const Calibration>>;

struct ComponentSettings {
  PipelineCalibrations calibrations;
  // Instead of ConvertOptions::policy.recipe.
  std::map<std::string, Recipe> recipes;
};

// The files of --calibration: FOLDER/COMPONENT.safetensors of each component in `wanted` that has one. `all`: the
// components of the pipeline, of which the others may have one too, which is not opened. Errors:
// kCalibrationsOfPipeline where `folder` is none, has a file of another name, or none for any of the wanted; those of
// Calibration::Open(); I/O.
absl::StatusOr<PipelineCalibrations> OpenCalibrations(FileSystem& fs, const std::string& folder,
                                                      const std::vector<std::string>& all,
                                                      const std::vector<std::string>& wanted);
// Those of the components that are quantized.
absl::StatusOr<PipelineCalibrations> OpenCalibrations(FileSystem& fs, const std::string& folder,
                                                      const PipelineSource& source);

// The options of one component. Where others have a calibration and this one has none, encoders that need one become
// those that do not, as with a tensor that a calibration does not name; a note says so.
ConvertOptions OptionsOf(const std::string& component, const ConvertOptions& options, const ComponentSettings& settings,
                         std::vector<Note>* notes);

}  // namespace q4
