// The rules about pipelines as a whole: what may be asked for (182x), what is not converted (582x), the file
// q4-pipeline.json (382x), and what verification finds beside the findings of each component (682x).
#pragma once

#include "formats/base/status.h"

namespace q4 {

// --components.
inline constexpr Issue kNoSuchComponent{1820, ExitCode::kUsage,
                                        "the pipeline has no component of this name with weights"};
inline constexpr Issue kComponentsOfPipeline{1821, ExitCode::kUsage, "goes with a diffusers pipeline as input"};
// A folder that is called like a container or a checkpoint would be taken for one.
inline constexpr Issue kPipelineOutputName{
    1822, ExitCode::kUsage,
    "a pipeline is converted into a folder, whose name ends neither in .q4 nor as a "
    "checkpoint's"};
inline constexpr Issue kPipelineExists{1823, ExitCode::kUsage,
                                       "the output exists; use --force to replace what q4 wrote there"};
// A file that is not listed by what q4 wrote there, or was changed since, or no folder.
inline constexpr Issue kPipelineNotOurs{1824, ExitCode::kUsage,
                                        "the output holds what q4 did not write; remove it, or choose another output"};
inline constexpr Issue kPipelineIsInput{1825, ExitCode::kUsage, "the output is, or holds, what is read"};
inline constexpr Issue kNotOfPipeline{1826, ExitCode::kUsage,
                                      "not of a pipeline as a whole; give the folder or container of one component"};

// One calibration file would be of one component.
inline constexpr Issue kCalibrationsOfPipeline{
    1460, ExitCode::kUsage, "calibrations of a pipeline lie in a folder, each under the name of its component"};

// A folder that a pipeline's file names.
inline constexpr Issue kComponentMissing{3822, ExitCode::kInvalidInput,
                                         "a component that model_index.json names has no folder"};
inline constexpr Issue kPipelineSealForm{3823, ExitCode::kInvalidInput,
                                         "q4-pipeline.json is not as q4convert writes it"};

inline constexpr Issue kNothingToConvert{5820, ExitCode::kUnsupported,
                                         "the pipeline has no transformer, unet or text encoder; choose by "
                                         "--components"};
inline constexpr Issue kComponentOfCode{5821, ExitCode::kUnsupported,
                                        "the component's class is code of the pipeline's own, for which no policy is "
                                        "known"};
inline constexpr Issue kPipelineIsConverted{5822, ExitCode::kUnsupported,
                                            "the pipeline is converted already; its containers are packed anew one by "
                                            "one"};
inline constexpr Issue kPipelineSealVersion{5823, ExitCode::kUnsupported, "q4-pipeline.json is of a newer version"};

// Verification.
inline constexpr Issue kPipelineFileMissing{6820, ExitCode::kCheckFailed, "a file of the pipeline is missing"};
inline constexpr Issue kPipelineFileChanged{6821, ExitCode::kCheckFailed,
                                            "a file of the pipeline is not what q4-pipeline.json says"};
inline constexpr Issue kPipelineFileExtra{6822, ExitCode::kCheckFailed, "q4-pipeline.json does not list this"};
inline constexpr Issue kPipelineRootDiffers{6823, ExitCode::kCheckFailed,
                                            "the container's root is not the one that q4-pipeline.json has"};
inline constexpr Issue kPipelinePinned{6824, ExitCode::kCheckFailed,
                                       "the pipeline's root is not the one that was asked for"};
inline constexpr Issue kPipelineSourceDiffers{6825, ExitCode::kCheckFailed,
                                              "the pipeline is not what converting the source carries"};
inline constexpr Issue kPipelineUnsealed{6826, ExitCode::kCheckFailed,
                                         "q4-pipeline.json and the components of model_index.json do not agree"};

// RunOptions::cancel and the like, outside of a conversion.
inline constexpr Issue kPipelineInterrupted{4820, ExitCode::kInterrupted, "interrupted; run the same command again"};

}  // namespace q4
