// What is in a pipeline, converted or not: its components, how each is stored, and what lies beside them. Reads headers
// and indices alone, as InspectModel() does; nothing is verified.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/base/file.h"
#include "formats/folder/left_out.h"
#include "formats/folder/pipeline_index.h"
#include "libconvert/base/text_style.h"
#include "libconvert/inspect/inspect.h"

namespace q4 {

struct PipelineInspectReport {
  std::string path;            // as given
  std::string class_name;      // of the pipeline
  std::optional<Sha256> root;  // of a converted one
  struct Component : PipelineMember {
    enum class Kind { kContainer, kWeights, kFiles };
    Kind kind = Kind::kFiles;
    bool quantized_by_default = false;   // of one that is not converted: q4convert would
    std::uint64_t files = 0, bytes = 0;  // beside a container's: config.json alone
    std::optional<InspectReport> model;  // of a component with weights
  };
  std::vector<Component> components;  // bytewise sorted by name
  // All files of a converted pipeline; of another one those that a conversion carries. Sorted.
  std::vector<InspectFile> files;
  std::vector<LeftOutFile> left_out;
};

// The pipeline in the folder `directory`: a converted one if q4-pipeline.json lies there. Errors: those of
// OpenPipeline() and ReadPipelineSeal(), and of InspectModel() with the component named.
absl::StatusOr<PipelineInspectReport> InspectPipeline(FileSystem& fs, const std::string& directory,
                                                      const OpenOptions& options, InspectScope scope);

// What is shown of each component beside the summary: as InspectDetail, of which `tensors` is chosen here.
struct PipelineDetail {
  InspectDetail each;
  TensorSelection selection;
  bool components = false;  // whether anything is shown of each component
};

// The summary and, with detail.components, the report of each component. Error: a filter that is no pattern or, unless
// selection.allow_unmatched, matches in no component.
absl::StatusOr<std::string> PipelineInspectText(const PipelineInspectReport& report, const PipelineDetail& detail,
                                                const TextStyle& style);
absl::StatusOr<std::string> PipelineInspectJson(const PipelineInspectReport& report, const PipelineDetail& detail);

}  // namespace q4
