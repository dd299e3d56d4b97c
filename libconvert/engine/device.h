// What --device asks for, and the engine that comes of it.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "libconvert/engine/slab_engine.h"

namespace q4 {

struct DeviceChoice {
  enum class Kind { kAuto, kCpu, kCuda };
  Kind kind = Kind::kAuto;
  std::vector<int> cuda;  // ordinals without repetition; empty: all
};

// "auto", "cpu", "cuda" or "cuda:N[,M...]". Error: kBadDevice (exit code 1).
absl::StatusOr<DeviceChoice> ParseDevice(std::string_view text);

struct ChosenEngine {
  std::unique_ptr<SlabEngine> engine;  // null: this machine's cores
  std::string note;                    // for people: why "auto" does not use a GPU
};

// Errors only where GPUs are asked for by name; then those of MakeCudaSlabEngine().
absl::StatusOr<ChosenEngine> OpenDevices(const DeviceChoice& choice);

// Whether the work could be done again on other devices.
bool IsDeviceFailure(const absl::Status& status);

}  // namespace q4
