#include "libconvert/engine/device.h"

#include <string>

#include "libconvert/engine/device_issues.h"
#include "tests/support/catch.h"

namespace q4 {

TEST_CASE("--device names cores, GPUs or neither") {
  using Kind = DeviceChoice::Kind;
  CHECK(ParseDevice("auto")->kind == Kind::kAuto);
  CHECK(ParseDevice("cpu")->kind == Kind::kCpu);
  CHECK(ParseDevice("cuda")->kind == Kind::kCuda);
  CHECK(ParseDevice("cuda")->cuda.empty());
  CHECK(ParseDevice("cuda:0,2,1")->cuda == std::vector<int>{0, 2, 1});
  for (const std::string bad :
       {"", "gpu", "cuda:", "cuda:-1", "cuda:0,", "cuda:0,0", "cuda:0;1", "cuda:x", "cuda0", "cuda:99999999999"}) {
    INFO(bad);
    CHECK(IssueNumberOf(ParseDevice(bad).status()) == kBadDevice.number);
  }
}

TEST_CASE("auto goes on without a GPU and says why, a GPU asked for by name is an error") {
  const absl::StatusOr<ChosenEngine> missing = OpenDevices({DeviceChoice::Kind::kCuda, {4096}});
  REQUIRE_FALSE(missing.ok());
  const int issue = IssueNumberOf(missing.status());
  CHECK((issue == kNoCuda.number || issue == kNoDevice.number));
  const absl::StatusOr<ChosenEngine> automatic = OpenDevices({DeviceChoice::Kind::kAuto, {}});
  REQUIRE(automatic.ok());
  CHECK((automatic->engine == nullptr) == !automatic->note.empty());
  CHECK(OpenDevices({DeviceChoice::Kind::kCpu, {}})->note.empty());
}

}  // namespace q4
