// A pipeline of diffusers as a source: what becomes of each of its components, and which files go along.
//
// Every component that has weights is opened as a checkpoint, the ones that are carried as they are too: so their
// weights are known to be what their headers say, and which of several forms is read is known by the rule of
// OpenCheckpoint().
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/base/file.h"
#include "formats/base/note.h"
#include "formats/folder/pipeline_index.h"
#include "formats/source/checkpoint.h"

namespace q4 {

// A component that has a folder.
struct PipelineComponent : PipelineMember {
  std::unique_ptr<Checkpoint> checkpoint;  // nullptr: no weights, as of a tokenizer
  bool quantized = false;                  // becomes COMPONENT/model.q4, else it is carried as it is
};

struct PipelineSource {
  std::string directory;
  std::string class_name;
  std::vector<PipelineComponent> components;  // bytewise sorted by name
  // What lies beside the containers: model_index.json and all that the loaders of the components read. Names are
  // relative to the pipeline; bytewise sorted. Of a component that is quantized config.json alone: the container
  // embeds it too, with the other companions.
  std::vector<CompanionFile> files;
  std::vector<LeftOutFile> left_out;  // bytewise sorted by name; of a container's folder also what its provenance has
  std::vector<Note> notes;            // what the user must know of the pipeline; of a container its plan's notes
  // Everything that is read, for those who look whether an output would overwrite it.
  std::vector<InputFile> inputs() const;
};

// `chosen`: the names of --components; nullopt for the default: of the library diffusers the transformers and U-Nets,
// of the library transformers the models that read or write text. One whose class is code of the pipeline's own is
// never quantized. With `options.take_over`, weights of bitsandbytes are taken over in those that are.
//
// Errors: those of ParsePipelineIndex() and OpenCheckpoint(); kComponentMissing, and symbolic links that may not be
// followed (exit code 3); kNoSuchComponent (1); kNothingToConvert unless `inspecting`, kComponentOfCode,
// kPipelineIsConverted (5); I/O (2).
absl::StatusOr<PipelineSource> OpenPipeline(FileSystem& fs, const std::string& directory, const OpenOptions& options,
                                            const std::optional<std::vector<std::string>>& chosen,
                                            bool inspecting = false);

}  // namespace q4
