// From the text of --device to an engine. The grammar is small enough to be read by hand: a word, or "cuda:" and a list
// of ordinals. Whether the devices exist is asked when they are started, so that the same text is right on every
// machine; only `auto` turns a failure to start into a note.
#include "libconvert/engine/device.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <utility>

#include "formats/base/file.h"
#include "libconvert/engine/cuda_slab_engine.h"
#include "libconvert/engine/device_issues.h"

namespace q4 {
namespace {

// Whether the machine has a driver of NVIDIA, which is what GPUs are used through (the second under WSL). A machine
// without one is nothing to worry about, though what CUDA says of it would sound so.
bool HasGpuDriver() {
  for (const char* const path : {"/dev/nvidiactl", "/dev/dxg"}) {
    const absl::StatusOr<PathInfo> info = PosixFileSystem().Stat(path);
    if (info.ok() && info->exists) return true;
  }
  return false;
}

}  // namespace

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
  // Each round reads one ordinal and the comma after it, if any; `++at` steps over the comma.
  for (const char* at = text.data() + kPrefix.size();; ++at) {
    // Stays -1 where there are no digits: "cuda:", "cuda:0,", "cuda:,1".
    int ordinal = -1;
    const auto [next, error] = std::from_chars(at, end, ordinal);
    // A device that is named twice would be given all its memory twice.
    const bool repeated = std::find(choice.cuda.begin(), choice.cuda.end(), ordinal) != choice.cuda.end();
    if (error != std::errc{} || ordinal < 0 || repeated) return bad;
    choice.cuda.push_back(ordinal);
    if (next == end) return choice;
    if (*next != ',') return bad;
    at = next;
  }
}

absl::StatusOr<ChosenEngine> OpenDevices(const DeviceChoice& choice, int effort) {
  ChosenEngine chosen;
  if (choice.kind == DeviceChoice::Kind::kCpu) return chosen;
  absl::StatusOr<std::unique_ptr<SlabEngine>> engine = MakeCudaSlabEngine(choice.cuda, effort);
  if (engine.ok()) {
    chosen.engine = *std::move(engine);
  } else if (choice.kind == DeviceChoice::Kind::kAuto) {
    // Every reason counts alike here, a build without CUDA included.
    chosen.reason = MessageOf(engine.status());
    chosen.note = HasGpuDriver() ? "using the CPU: " + chosen.reason : "no GPU: using the CPU";
  } else {
    return engine.status();
  }
  return chosen;
}

// kNoDevice and kNoCuda are missing on purpose: they end a run before it has done any work.
bool IsDeviceFailure(const absl::Status& status) {
  const int number = IssueNumberOf(status);
  return number == kDeviceFailed.number || number == kDeviceMemory.number || number == kDeviceEncoder.number;
}

}  // namespace q4
