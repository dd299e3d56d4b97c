// The jobs of q4convert that are about parts of a conversion: one part, --merge and --status (docs/scale_out.md).
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/base/file.h"
#include "formats/source/checkpoint.h"
#include "libconvert/convert/convert.h"
#include "libconvert/parts/part_number.h"
#include "libconvert/plan/plan.h"
#include "libconvert/verify/verify.h"
#include "tools/job.h"
#include "tools/options.h"

namespace q4 {

// The part that --part, --parts and --part-from-env name; nullopt where none of them was given. kPartsAlone, and the
// errors of ParsePart() and PartFromEnvironment().
absl::StatusOr<std::optional<PartFound>> PartBy(const std::string& part, std::uint64_t parts, bool part_from_env);

// kNotOfPipeline: q4verify --part and --merge of a pipeline.
absl::Status NoPartsOfPipeline(const std::string& path, std::string_view option);

// q4verify --part and --merge.
absl::StatusOr<ToolResult> VerifyPartJob(FileSystem& fs, const VerifyFlags& flags, const VerifyOptions& options,
                                         const PartFound& part, const JobHooks& hooks);
absl::StatusOr<ToolResult> MergeVerifiedJob(FileSystem& fs, const VerifyFlags& flags, const VerifyOptions& options);

// Which part the flags ask for, by number or by the environment of this process; nullopt for the whole. Flags that
// contradict one are refused: kNotOfPart, and the errors of PartBy().
absl::StatusOr<std::optional<PartFound>> PartOf(const ConvertFlags& flags);

// What a dry run says of the part: which shards are its own.
void NotePart(const Checkpoint& checkpoint, const ConversionPlan& plan, const PartFound& part,
              std::vector<Note>* notes);

// Converts the part. `run` has no gates. `auto_device`: a device that fails gives way to the cores. `notes` come first.
absl::StatusOr<ToolResult> ConvertPartJob(FileSystem& fs, const ConvertFlags& flags, const Checkpoint& checkpoint,
                                          const ConversionPlan& plan, const ConvertOptions& options, RunOptions run,
                                          const PartFound& part, bool auto_device, std::vector<std::string> notes);

// --merge and --status. kNotOfMerge for flags that are about converting. `gates`: those of the flags.
absl::StatusOr<ToolResult> JoinPartsJob(const ConvertFlags& flags, const std::vector<Gate>& gates);

}  // namespace q4
