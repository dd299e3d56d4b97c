// Hands a converted pipeline on to diffusers as a whole: each container as ExportModel() does it, into the folder of
// its component, and everything that was carried beside them.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/base/file.h"
#include "libconvert/components/seal.h"
#include "libconvert/export/export.h"

namespace q4 {

struct PipelineExportReport {
  std::string input, output, to;
  std::string class_name;
  struct Component {
    std::string name;
    ExportReport report;
  };
  std::vector<Component> components;
  std::vector<SealedFile> carried;
  std::vector<std::string> warnings;  // those of the components too, with their names
};

// Exports the converted pipeline in the folder `directory` to the folder `output`, which appears by one rename. The
// record q4_export.json at its top lists all files, by which a later --force knows them. `options` hold for each
// component; options.root is the root of the pipeline. Seal and files are believed only as far as their digests hold.
//
// Errors: those of ReadPipelineSeal(), CheckPipelinePlace() and ExportModel(); kNotOfPipeline for a subset or --into;
// kPipelinePinned; kPipelineFileChanged for a carried file that is not as it was sealed (exit code 6).
absl::StatusOr<PipelineExportReport> ExportPipeline(FileSystem& fs, const std::string& directory,
                                                    const std::string& output, const ExportOptions& options);

std::string PipelineExportText(const PipelineExportReport& report);
std::string PipelineExportJson(const PipelineExportReport& report);

}  // namespace q4
