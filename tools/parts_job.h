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
#include "tools/job.h"
#include "tools/options.h"

namespace q4 {

// Which part the flags ask for, by number or by the environment of this process; nullopt for the whole. Flags that
// contradict one are refused: kNotOfPart, kPartsAlone, and the errors of ParsePart() and PartFromEnvironment().
absl::StatusOr<std::optional<PartFound>> PartOf(const ConvertFlags& flags);

// What a dry run says of the part: which shards are its own.
void NotePart(const Checkpoint& checkpoint, const ConversionPlan& plan, const PartFound& part,
              std::vector<std::string>* notes);

// Converts the part. `run` has no gates. `auto_device`: a device that fails gives way to the cores. `notes` come first.
absl::StatusOr<ToolResult> ConvertPartJob(FileSystem& fs, const ConvertFlags& flags, const Checkpoint& checkpoint,
                                          const ConversionPlan& plan, const ConvertOptions& options, RunOptions run,
                                          const PartFound& part, bool auto_device, std::vector<std::string> notes);

// --merge and --status. kNotOfMerge for flags that are about converting. `gates`: those of the flags.
absl::StatusOr<ToolResult> JoinPartsJob(const ConvertFlags& flags, const std::vector<Gate>& gates);

}  // namespace q4
