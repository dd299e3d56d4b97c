// What differs between one kind of export and another. ExportModel() opens the container, asks an Exporter what to
// write, and does the rest: weight files, threads, memory, embedded files, publishing.
//
// An exporter is stateless and lives as long as the program. Its file defines the class and a function that returns it;
// its row stands in exporter.cc. CONTRIBUTING.md lists what else a new one needs. Internal to libconvert/export/.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "libconvert/export/export.h"
#include "libconvert/export/model_part.h"
#include "libconvert/export/pieces.h"

namespace q4 {

// A file of the output directory beside the weights, small enough to be held in memory.
struct SmallFile {
  // `name` is relative to the output directory and unique among the small files of an export.
  std::string name, content;
};

// One kind of export. Thread-safe: it has no state, and all that an export needs is passed to it. The calls come in the
// order below, each at most once.
class Exporter {
 public:
  virtual ~Exporter() = default;

  // Refuses options that do not go together (exit code 1), before anything is opened. `single_file`: the output is one
  // .safetensors file, not a directory.
  virtual absl::Status Check(const ExportOptions& options, bool single_file) const = 0;

  // Adds the tensors of the new checkpoint and the pieces that they are made of, source by source, for all of
  // plan->sources; `group` of each target is the index of its source. Says of each source whether it stays quantized.
  // Pure. Fails for a tensor that the format cannot
  // hold (exit code 5); the message need not name the container.
  virtual absl::Status Plan(const ExportOptions& options, ExportPlan* plan) const = 0;

  // The small files, of which config.json of each of `parts` is one; those embedded that none of them replaces are
  // copied. What they say goes into report->settings and report->summary, what readers will get wrong into
  // report->warnings. They are asked for, and may fail, even when the output is a single file that leaves them out.
  virtual absl::StatusOr<std::vector<SmallFile>> SmallFiles(const std::vector<ModelPart>& parts,
                                                            const ExportOptions& options, const ExportPlan& plan,
                                                            ExportReport* report) const = 0;
};

// The row of Exporters() named `name`, or nullptr. Names are compared byte by byte.
const ExporterRow* FindExporter(std::string_view name);

}  // namespace q4
