// Converts a pipeline of diffusers as a whole: the public API behind q4convert PIPELINE -o FOLDER.
//
//   OpenPipeline      the input (pipeline_source.h)
//   PlanPipeline      what will be written
//   RunPipelineConversion
//
// Components are converted one after the other, each as RunConversion() does it, in a folder OUTPUT.partial; then all
// that is carried is copied there, q4-pipeline.json is written, and the folder gets its name. A run that is killed
// leaves that folder, and the next one goes on in it: finished containers are known by a note beside them, unfinished
// ones by their journal. Input and options decide every byte.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/base/file.h"
#include "formats/base/json_value.h"
#include "formats/publish/atomic_directory.h"
#include "libconvert/components/component_settings.h"
#include "libconvert/components/pipeline_source.h"
#include "libconvert/components/seal.h"
#include "libconvert/convert/convert.h"

namespace q4 {

// One component that is converted.
struct PlannedComponent {
  const PipelineComponent* component = nullptr;
  ConvertOptions options;  // its own
  ConversionPlan plan;
};

struct PipelinePlan {
  std::vector<PlannedComponent> components;  // in the order of their names
  std::uint64_t carried_bytes = 0;           // of source.files
  std::uint64_t source_bytes() const;
  std::uint64_t output_bytes() const;  // of containers and what is carried
  // Those of the pipeline, and those of each plan with the component's name before them.
  std::vector<Note> notes;
  // Where a budget has chosen: as those of ConversionPlan, of all components together.
  std::string choice_text, choice_table;
  std::shared_ptr<const Json> choice;
};

// The patterns of the user, held against the tensors of all components together, unless options.policy.allow_unmatched.
absl::Status CheckPipelinePatterns(const PipelineSource& source, const ConvertOptions& options);

// Plans every component that is quantized, all with `options` but for what `settings` say of each. A pattern or recipe
// rule must match in one of them at least, unless options.policy.allow_unmatched. Errors: those of PlanConversion(),
// with the component named.
absl::StatusOr<PipelinePlan> PlanPipeline(FileSystem& fs, const PipelineSource& source, const ConvertOptions& options,
                                          const ComponentSettings& settings = {});

// Whether the pipeline may be written to the folder `output` (place.h). Run again before publishing.
absl::StatusOr<DirectoryUse> CheckPipelineOutput(FileSystem& fs, const PipelineSource& source,
                                                 const std::string& output, bool force, CancelFlag* cancel);

struct PipelineReport {
  std::string output;  // the folder
  std::string class_name;
  Sha256 root{};  // of the pipeline
  struct Component {
    std::string name, class_name;
    bool resumed = false;  // finished by an earlier run
    ConvertReport report;
  };
  std::vector<Component> components;
  std::vector<SealedFile> carried;  // of these the folder consists beside the containers
  std::uint64_t source_bytes = 0, output_bytes = 0;
  std::vector<LeftOutFile> left_out;  // of the whole pipeline
  std::vector<std::string> notes, warnings;
  // As the plan has them.
  std::string choice_text;
  std::shared_ptr<const Json> choice;
  // Of the first component that breaks a gate, which is the last of `components`: then there is no output, no root, and
  // nothing carried.
  std::vector<VerifyFinding> gate_findings;
  std::uint64_t gate_finding_count = 0;
  bool passed() const { return gate_findings.empty(); }
};

// What the plans show of the gates before anything is read, as CheckGates() for each component: passed() is false of
// the report, whose one component is the first that a gate can match nothing in.
PipelineReport CheckPipelineGates(const PipelineSource& source, const PipelinePlan& plan,
                                  const std::vector<Gate>& gates, const std::string& output);

// `run` holds for each component: memory, threads and gates too. Errors: those of CheckPipelineOutput(),
// RunConversion(), and of files that are carried. After one that RunConversion() would resume from, OUTPUT.partial
// stays.
absl::StatusOr<PipelineReport> RunPipelineConversion(FileSystem& fs, const PipelineSource& source,
                                                     const PipelinePlan& plan, const RunOptions& run,
                                                     const std::string& output);

}  // namespace q4
