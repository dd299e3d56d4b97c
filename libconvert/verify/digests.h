// Whether the source files are those that a container was made from, by what the provenance of the container records of
// them. It explains findings about tensors: other bytes in the source make other codes, and the container is not to
// blame.
#pragma once

#include <cstdint>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "formats/source/checkpoint.h"
#include "libconvert/model/provenance_view.h"
#include "libconvert/verify/context.h"

namespace q4 {

// The way out where a part of the source was given and the rest of it was not found.
inline constexpr std::string_view kNameTheModel = "name the model's folder or its index, not one of its files";

// The files of the model, or those of the adapter that is merged into it. Valid as long as `source`.
std::span<const CheckpointFile> SourceFiles(const Checkpoint& source, bool of_adapter);

// Compares these files with the records: their sizes and, with `digests`, their digests, for which whole files are
// read, 1 MiB at a time, as many side by side as the context has threads. `container` is the path that the findings
// (kSourceFileDiffers) name; they come in the order of the records. Files that no record names are not looked at here.
// Fails only if a file cannot be read, or with kVerifyInterrupted on cancellation. Does not touch the report.
absl::Status CompareSourceFiles(std::span<const CheckpointFile> source, const std::vector<SourceFileRecord>& records,
                                bool digests, const std::string& container, const VerifyContext& context);

// Adds a kSourceFileDiffers for every one of `names` that no record has, also where nothing at all is recorded: the
// container says of none of its bytes where they are from. Compares names only.
void FindUnrecordedSourceFiles(const std::set<std::string_view>& names, const std::vector<SourceFileRecord>& records,
                               const std::string& container, FindingList* findings);

}  // namespace q4
