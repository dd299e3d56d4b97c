// Proves that a converted pipeline is what its seal says and, given the pipeline that it was made from, that it holds
// what it must: every file by size and digest, every container as VerifyModel() does it, and nothing besides.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/base/digest.h"
#include "formats/base/file.h"
#include "libconvert/base/progress.h"
#include "libconvert/components/component_settings.h"
#include "libconvert/judge/verify_report.h"
#include "libconvert/verify/verify.h"

namespace q4 {

struct PipelineVerifyReport {
  std::string path, source;  // as given; `source` is "" without --against
  std::string class_name;
  Sha256 root{};                            // of the pipeline
  std::uint64_t files = 0, file_bytes = 0;  // that the seal lists
  std::vector<VerifyFinding> findings;      // about files and seal, the first kMaxFindings
  std::uint64_t finding_count = 0;          // all of them
  struct Component {
    std::string name;
    VerifyReport report;
  };
  std::vector<Component> components;  // those with a container that can be opened

  bool passed() const;
};

// Verifies the pipeline in the folder `directory`. `options` hold for each container; options.against is the folder of
// the source, options.root the root of the pipeline. `calibrations`: the folder that OpenCalibrations() takes, or "".
// What is wrong is in the report. A status is returned only if seal or source cannot be read, for kPipelinePinned, and
// where VerifyModel() returns one for another reason than damage.
absl::StatusOr<PipelineVerifyReport> VerifyPipeline(FileSystem& fs, const std::string& directory,
                                                    const VerifyOptions& options, const std::string& calibrations = {},
                                                    const ProgressCallback& progress = {});

// The report for people: the verdict on the pipeline, then that on each component. Findings are not part of it.
std::string PipelineVerifyText(const PipelineVerifyReport& report);
// The report as docs/schema/verify.schema.json describes it, with a final line feed.
std::string PipelineVerifyJson(const PipelineVerifyReport& report);

}  // namespace q4
