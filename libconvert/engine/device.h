// What --device asks for, and the engine that comes of it: ParseDevice(), then OpenDevices(). The engine may be null;
// whoever takes one (RunOptions::engine) then works on this machine's cores. The choice of a device never changes a
// byte of the output.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "libconvert/engine/slab_engine.h"

namespace q4 {

// The value of --device, parsed. Says nothing yet of whether such devices exist.
struct DeviceChoice {
  // kAuto: all GPUs that work, else the cores. kCpu: the cores. kCuda: GPUs, or an error.
  enum class Kind { kAuto, kCpu, kCuda };
  Kind kind = Kind::kAuto;
  // With kCuda: CUDA ordinals from 0 on, without repetition, in the order in which they were named. Empty: all.
  std::vector<int> cuda;
};

// "auto", "cpu", "cuda" or "cuda:N[,M...]", each N once. Looks at the text alone. Error: kBadDevice (exit code 1).
absl::StatusOr<DeviceChoice> ParseDevice(std::string_view text);

struct ChosenEngine {
  std::unique_ptr<SlabEngine> engine;  // null: this machine's cores
  // For people: that "auto" does not use a GPU, and why, unless there is none. "" when it does, or need not.
  std::string note;
  std::string reason;  // always the reason: the message of the error
};

// Starts the devices that `choice` asks for. With kAuto a failure is no error but a note. With kCuda it is an error:
// who asks for GPUs does not want to learn hours later that the cores did the work. Errors: those of
// MakeCudaSlabEngine(). `effort`: of encoders that search.
absl::StatusOr<ChosenEngine> OpenDevices(const DeviceChoice& choice, int effort = kDefaultEffort);

// Whether `status`, which ended some work, says that a device broke down or had too little memory (kDeviceFailed,
// kDeviceMemory): the same work can succeed on other devices. --device auto then converts again on the cores.
bool IsDeviceFailure(const absl::Status& status);

}  // namespace q4
