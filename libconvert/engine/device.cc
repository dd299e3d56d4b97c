#include "libconvert/engine/device.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <utility>

#include "libconvert/engine/cuda_slab_engine.h"
#include "libconvert/engine/device_issues.h"

namespace q4 {

absl::StatusOr<DeviceChoice> ParseDevice(std::string_view text) {
  using Kind = DeviceChoice::Kind;
  if (text == "auto") return DeviceChoice{Kind::kAuto, {}};
  if (text == "cpu") return DeviceChoice{Kind::kCpu, {}};
  if (text == "cuda") return DeviceChoice{Kind::kCuda, {}};
  constexpr std::string_view kPrefix = "cuda:";
  const absl::Status bad =
      Fail(kBadDevice, {}, "--device", GotExpected(std::string(text), "auto, cpu, cuda or cuda:N[,M...]"));
  if (!text.starts_with(kPrefix)) return bad;
  DeviceChoice choice{Kind::kCuda, {}};
  const char* const end = text.data() + text.size();
  for (const char* at = text.data() + kPrefix.size();; ++at) {
    int ordinal = -1;
    const auto [next, error] = std::from_chars(at, end, ordinal);
    const bool repeated = std::find(choice.cuda.begin(), choice.cuda.end(), ordinal) != choice.cuda.end();
    if (error != std::errc{} || ordinal < 0 || repeated) return bad;
    choice.cuda.push_back(ordinal);
    if (next == end) return choice;
    if (*next != ',') return bad;
    at = next;
  }
}

absl::StatusOr<ChosenEngine> OpenDevices(const DeviceChoice& choice) {
  ChosenEngine chosen;
  if (choice.kind == DeviceChoice::Kind::kCpu) return chosen;
  absl::StatusOr<std::unique_ptr<SlabEngine>> engine = MakeCudaSlabEngine(choice.cuda);
  if (engine.ok()) {
    chosen.engine = *std::move(engine);
  } else if (choice.kind == DeviceChoice::Kind::kAuto) {
    chosen.note = fmt::format("converting on the CPU: {}", MessageOf(engine.status()));
  } else {
    return engine.status();
  }
  return chosen;
}

bool IsDeviceFailure(const absl::Status& status) {
  const int number = IssueNumberOf(status);
  return number == kDeviceFailed.number || number == kDeviceMemory.number;
}

}  // namespace q4
