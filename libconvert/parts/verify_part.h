// A model in shards that is verified on many machines: each takes some shards, as a conversion in parts does, and says
// what it found. merge_verified.h puts together what all of them found.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/base/digest.h"
#include "formats/base/file.h"
#include "formats/base/json_value.h"
#include "libconvert/judge/proof_names.h"
#include "libconvert/judge/verify_report.h"
#include "libconvert/parts/assign.h"
#include "libconvert/parts/part_number.h"
#include "libconvert/verify/verify.h"

namespace q4 {

struct VerifiedShard {
  std::size_t number = 0;  // from 0
  std::string path;
  Sha256 root{};
  bool compared = false;  // with the source, whole
  // Where it was compared, by TensorProof: the names of its tensors. What the recorded options were held against.
  std::array<std::vector<std::string>, kProofNames.size()> proofs;
  VerifyStrength::Policy policy = VerifyStrength::Policy::kUnknown;
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

// docs/schema/verify_part.schema.json, and what a merge reads again.
std::string VerifyPartJson(const VerifyPartReport& report);
std::string VerifyPartText(const VerifyPartReport& report);

// The name of its kind of document, and the version of its schema.
inline constexpr const char* kVerifyPartDocument = "q4verify-part";
inline constexpr int kVerifyPartVersion = 1;
// VerifyStrength::Policy in it, in the order of that.
inline constexpr std::array<std::string_view, 3> kPolicyNames{"unknown", "settings", "whole"};
// What all documents about verification in parts list.
Json PartFindingsJson(const std::vector<VerifyFinding>& findings);

}  // namespace q4
