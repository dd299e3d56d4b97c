#include "libconvert/engine/cuda_station.h"

#include <fmt/format.h>

#include "libconvert/engine/device_issues.h"

namespace q4 {
namespace {

absl::StatusOr<std::unique_ptr<Station>> MakeStation(int device) {
  auto station = std::make_unique<Station>();
  Q4_RETURN_IF_ERROR(Checked(station->stream.Create(), device));
  Q4_RETURN_IF_ERROR(Checked(station->host_memory.Allocate(sizeof(HostStation)), device));
  Q4_RETURN_IF_ERROR(Checked(station->device_memory.Allocate(sizeof(DeviceStation)), device));
  Q4_RETURN_IF_ERROR(Checked(station->workspace.Allocate(cuda::ErrorStatsWorkspace()), device));
  return station;
}

}  // namespace

absl::Status Checked(const cuda::KernelError& error, int device) {
  if (error.ok()) return absl::OkStatus();
  return Fail(kDeviceFailed, {}, fmt::format("cuda:{}", device),
              fmt::format("could not {}: {}", error.what, cuda::ErrorText(error)));
}

std::uint8_t* PinnedMemory::Allocate(std::uint64_t bytes) {
  void* data = nullptr;
  return cuda::AllocatePinned(bytes, &data).ok() ? static_cast<std::uint8_t*>(data) : nullptr;
}

std::uint8_t* DeviceMemory::Allocate(std::uint64_t bytes) {
  void* data = nullptr;
  if (!cuda::SetDevice(device_).ok() || !cuda::AllocateOnDevice(bytes, &data).ok()) return nullptr;
  return static_cast<std::uint8_t*>(data);
}

absl::Status TakenMemory(const Device& device) {
  return Fail(kDeviceMemory, {}, fmt::format("cuda:{}", device.ordinal),
              fmt::format("{} bytes in use by this run of {} that were free at its start", device.budget.held(),
                          device.budget.limit()));
}

absl::StatusOr<HeldStation> HeldStation::Take(Device& device) {
  Q4_RETURN_IF_ERROR(Checked(cuda::SetDevice(device.ordinal), device.ordinal));
  std::unique_ptr<Station> station;
  {
    std::lock_guard lock(device.mutex);
    if (!device.idle.empty()) {
      station = std::move(device.idle.back());
      device.idle.pop_back();
    }
  }
  if (station == nullptr) {
    Q4_ASSIGN_OR_RETURN(station, MakeStation(device.ordinal));
  }
  return HeldStation(device, std::move(station));
}

HeldStation::~HeldStation() {
  if (station_ == nullptr) return;  // moved from
  if (busy_) (void)cuda::Synchronize(station_->stream.handle());
  std::lock_guard lock(device_.mutex);
  device_.idle.push_back(std::move(station_));
}

absl::Status HeldStation::Finish() {
  Do(cuda::Synchronize(stream()));
  busy_ = !first_error_.ok();
  return Checked(first_error_, device_.ordinal);
}

}  // namespace q4
