// What all parts of a verification found, put together by the roots of the shards.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/base/digest.h"
#include "formats/base/file.h"
#include "libconvert/judge/gate.h"
#include "libconvert/judge/verify_report.h"

namespace q4 {

// What the reports of all parts say of a model.
struct VerifiedModel {
  // As of a verification in one run, with the recorded statistics, which parts that compared have computed again. What
  // only the payload tells is not in it: worst blocks, the spread of scales.
  VerifyReport report;
  std::size_t compared = 0;          // shards
  std::vector<std::string> sources;  // as the parts named them, each once
  std::vector<std::string> notes;    // about reports that say nothing of this model
};

// The paths of the reports in `folder`: *.json.
absl::StatusOr<std::vector<std::string>> VerifiedPartFiles(FileSystem& fs, const std::string& folder);

// Reads all of them. Every shard of the model must be in one with the root that it has now; one that failed anywhere
// has failed. `gates` judge what the shards record. Reads indexes, and no payload. Errors: exit code 6:
// kVerifyPartsMissing with the numbers of shards; kVerifyPartsMixed where some were compared with a source and some
// were not, where a file is no such report or contradicts itself, or was written by another version; those of
// OpenContainer(); I/O errors.
absl::StatusOr<VerifiedModel> MergeVerifiedParts(FileSystem& fs, const std::string& path,
                                                 const std::optional<Sha256>& root, const std::string& folder,
                                                 const std::vector<Gate>& gates);

std::string VerifiedModelJson(const VerifiedModel& model);
std::string VerifiedModelText(const VerifiedModel& model);

}  // namespace q4
