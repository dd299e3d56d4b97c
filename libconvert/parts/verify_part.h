// A model in shards that is verified on many machines: each takes some shards, as a conversion in parts does, and says
// what it found; what all of them found is put together by the roots of the shards.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/base/digest.h"
#include "formats/base/file.h"
#include "libconvert/judge/gate.h"
#include "libconvert/judge/verify_report.h"
#include "libconvert/parts/assign.h"
#include "libconvert/parts/part_number.h"
#include "libconvert/verify/verify.h"

namespace q4 {

struct VerifiedShard {
  std::size_t number = 0;  // from 0
  std::string path;
  Sha256 root{};
  bool compared = false;                // with the source, whole
  std::vector<VerifyFinding> findings;  // the first kMaxFindings
  std::uint64_t finding_count = 0;
};

struct VerifyPartReport {
  std::string path, source;  // as in VerifyReport
  Sha256 root{};             // of the model
  PartNumber part;
  std::size_t shard_count = 0;
  std::vector<VerifiedShard> shards;  // of this part, in order
  std::uint64_t finding_count = 0;
};

// Verifies the shards of `part` of the model `path`, each by itself and with its root from the list: parts are cut by
// the sizes of the shards. `options` without limits and gates, which are about the model. Errors: those of
// OpenContainer() and VerifyModel().
absl::StatusOr<VerifyPartReport> VerifyPart(FileSystem& fs, const std::string& path, const VerifyOptions& options,
                                            const PartNumber& part, const ProgressCallback& progress);

// docs/schema/verify_part.schema.json, and what --merge reads again.
std::string VerifyPartJson(const VerifyPartReport& report);
std::string VerifyPartText(const VerifyPartReport& report);

// What the reports of all parts say of a model.
struct VerifiedModel {
  std::string path;
  Sha256 root{};
  std::size_t shard_count = 0, compared = 0;
  std::vector<std::string> sources;     // as the parts named them, each once
  std::vector<VerifyFinding> findings;  // of all shards in order, then of the gates; the first kMaxFindings
  std::uint64_t finding_count = 0;
};

// Reads every *.json of `folder`. Every shard of the model must be in one of them with the root that it has now; one
// that failed anywhere has failed. `gates` judge what the shards record, which parts that compared have computed again.
// Reads indexes, and no payload. Errors: exit code 6: kVerifyPartsMissing with the numbers of shards,
// kVerifyPartsMixed where some were compared with a source and some were not, or a file is no such report; those of
// OpenContainer(); I/O errors.
absl::StatusOr<VerifiedModel> MergeVerifiedParts(FileSystem& fs, const std::string& path,
                                                 const std::optional<Sha256>& root, const std::string& folder,
                                                 const std::vector<Gate>& gates);

std::string VerifiedModelJson(const VerifiedModel& model);
std::string VerifiedModelText(const VerifiedModel& model);

}  // namespace q4
