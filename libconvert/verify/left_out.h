// What lies in the source's folder beside what is read: is the container silent about it? Internal to
// libconvert/verify/.
#pragma once

#include <string_view>
#include <vector>

#include "formats/folder/left_out.h"
#include "libconvert/judge/verify_findings.h"

namespace q4 {

// Holds what the folder of the source holds now (`found`, as opening it has classified it) against what the container
// says it has left out (`recorded`). A kNotRecorded for each entry of `found` that a loader would miss and that is not
// recorded: a container that says nothing of it is not confirmed. `path` is the container's, for messages. Returns
// `found`, each with LeftOutFile::recorded as the container has it.
std::vector<LeftOutFile> CompareLeftOut(std::vector<LeftOutFile> found, const std::vector<LeftOutFile>& recorded,
                                        std::string_view path, FindingList* findings);

}  // namespace q4
