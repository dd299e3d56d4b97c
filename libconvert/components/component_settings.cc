#include "libconvert/components/component_settings.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>

#include "formats/base/status.h"
#include "formats/base/text.h"
#include "formats/q4/encoders.h"
#include "libconvert/components/components_issues.h"

namespace q4 {
namespace {

bool IsAmong(const std::vector<std::string>& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

std::string FilesOf(const std::vector<std::string>& components) {
  std::string text;
  for (const std::string& name : components) {
    text += fmt::format("{}{}{}", text.empty() ? "" : ", ", Printable(name), kCalibrationEnding);
  }
  return text;
}

bool IsCalibrated(Q4Encoder encoder) { return FindQ4Encoder(encoder)->calibrated; }

Q4Encoder WithoutCalibration(Q4Encoder encoder) {
  while (IsCalibrated(encoder)) encoder = FindQ4Encoder(encoder)->otherwise;
  return encoder;
}

}  // namespace

absl::StatusOr<PipelineCalibrations> OpenCalibrations(FileSystem& fs, const std::string& folder,
                                                      const std::vector<std::string>& all,
                                                      const std::vector<std::string>& wanted) {
  Q4_ASSIGN_OR_RETURN(const PathInfo info, fs.Stat(folder));
  if (!info.is_directory) {
    return Fail(kCalibrationsOfPipeline, folder, "--calibration",
                GotExpected(info.exists ? "a file" : "nothing there", "a folder with " + FilesOf(wanted)));
  }
  Q4_ASSIGN_OR_RETURN(std::vector<std::string> names, fs.ListDirectory(folder));
  std::sort(names.begin(), names.end());
  PipelineCalibrations calibrations;
  for (const std::string& name : names) {
    if (!name.ends_with(kCalibrationEnding) || name.starts_with('.')) continue;
    const std::string component = name.substr(0, name.size() - kCalibrationEnding.size());
    // A file that nobody reads for a slip of its name would cost the whole gain.
    if (!IsAmong(all, component)) {
      return Fail(kCalibrationsOfPipeline, folder, "--calibration",
                  fmt::format("'{}' is of no component; {}", Printable(name),
                              GotExpected(Printable(component), FilesOf(wanted))));
    }
    if (!IsAmong(wanted, component)) continue;
    Q4_ASSIGN_OR_RETURN(calibrations[component], Calibration::Open(fs, JoinPath(folder, name)));
  }
  if (calibrations.empty()) {
    return Fail(kCalibrationsOfPipeline, folder, "--calibration", GotExpected("none of them", FilesOf(wanted)));
  }
  return calibrations;
}

absl::StatusOr<PipelineCalibrations> OpenCalibrations(FileSystem& fs, const std::string& folder,
                                                      const PipelineSource& source) {
  std::vector<std::string> all, wanted;
  for (const PipelineComponent& component : source.components) {
    all.push_back(component.name);
    if (component.quantized) wanted.push_back(component.name);
  }
  return OpenCalibrations(fs, folder, all, wanted);
}

ConvertOptions OptionsOf(const std::string& component, const ConvertOptions& options, const ComponentSettings& settings,
                         std::vector<Note>* notes) {
  ConvertOptions own = options;
  if (const auto recipe = settings.recipes.find(component); recipe != settings.recipes.end()) {
    own.policy.recipe = recipe->second;
  }
  if (settings.calibrations.empty()) return own;
  if (const auto found = settings.calibrations.find(component); found != settings.calibrations.end()) {
    own.calibration = found->second;
    return own;
  }
  bool any = false;
  const auto replace = [&any](Q4Encoder& encoder) {
    any = any || IsCalibrated(encoder);
    encoder = WithoutCalibration(encoder);
  };
  replace(own.policy.defaults.encoder);
  if (own.policy.recipe) {
    for (RecipeRule& rule : own.policy.recipe->rules) {
      if (rule.encoder) replace(*rule.encoder);
    }
  }
  if (any) {
    notes->push_back({false, fmt::format("{}: the folder of calibrations has no {}{}, so what needs one is left to the "
                                         "encoder {}",
                                         component, component, kCalibrationEnding,
                                         Q4EncoderName(WithoutCalibration(options.policy.defaults.encoder)))});
  }
  return own;
}

}  // namespace q4
