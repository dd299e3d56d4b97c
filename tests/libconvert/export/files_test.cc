#include "libconvert/export/files.h"

#include <string>
#include <vector>

#include "formats/base/limits.h"
#include "libconvert/export/export_issues.h"
#include "tests/support/catch.h"

namespace q4 {
namespace {

std::vector<ExportTensor> Targets(std::size_t count) {
  std::vector<ExportTensor> targets;
  for (std::size_t i = 0; i < count; ++i) {
    targets.push_back({"t" + std::to_string(i), DType::kU8, {4}, 4, static_cast<std::uint32_t>(i)});
  }
  return targets;
}

TEST_CASE("as many weight files as a checkpoint may have, and no more") {
  const auto most = LayOutWeights(Targets(limits::kShards), 4);
  REQUIRE(most.ok());
  CHECK(most->files.size() == limits::kShards);
  const auto too_many = LayOutWeights(Targets(limits::kShards + 1), 4);
  CHECK(IssueNumberOf(too_many.status()) == kExportShards.number);
  CHECK(ExitCodeOf(too_many.status()) == ExitCode::kUsage);
}

}  // namespace
}  // namespace q4
