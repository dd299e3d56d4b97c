// model_index.json, which makes a folder a pipeline of diffusers: the class of the pipeline, and for each component its
// library and class. A component is a folder of the same name.
//   {"_class_name": "FluxPipeline", "transformer": ["diffusers", "FluxTransformer2DModel"],
//    "safety_checker": [null, null], "requires_safety_checker": false}
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace q4 {

inline constexpr char kPipelineIndexName[] = "model_index.json";

// A component as it is listed. `library` is "diffusers", "transformers", the name of one of diffusers' own pipelines,
// or that of a file of code in the pipeline's folder. Both are texts of the input; the name is not:
// IsComponentName().
struct PipelineMember {
  std::string name, library, class_name;
};

struct PipelineIndex {
  std::string class_name;               // "" where it is not stated
  std::string code;                     // the module that holds the class, where that is code of the pipeline's own
  std::vector<PipelineMember> members;  // bytewise sorted by name
  std::vector<std::string> absent;      // optional components that the pipeline does without: [null, null]; sorted
};

// Whether a component can have this name: diffusers passes it to a constructor, so it is a Python identifier of ASCII
// letters, of at most 64 bytes; and a folder that every system can have ("aux" is none: FolderNameProblem()). Such a
// name leads nowhere but into the folder.
bool IsComponentName(std::string_view name);

// What the text says. As diffusers does, a list of two texts names a component, a list with null one that is not there,
// and any other value is an option of the pipeline. `path` is for messages. Errors (exit code 3): those of
// ParseModelJson(); kPipelineForm for what is no object, names no component, names one that IsComponentName() does
// not hold for, or two that differ only in case; kTooManyComponents.
absl::StatusOr<PipelineIndex> ParsePipelineIndex(std::string_view text, std::string_view path);

}  // namespace q4
