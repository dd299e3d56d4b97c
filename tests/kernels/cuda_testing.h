// What the GPU tests share: device arrays with guards, uploads, downloads. Q4_GPU_TEST=reduced in the environment
// selects fewer and smaller cases and gives every array its own allocation, for runs under compute-sanitizer.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <vector>

#include "kernels/cuda_kernels.h"
#include "kernels/cuda_runtime.h"
#include "tests/kernels/kernel_testing.h"
#include "tests/support/catch.h"

namespace q4::testing {

inline bool Reduced() {
  const char* mode = std::getenv("Q4_GPU_TEST");
  return mode != nullptr && std::string_view(mode) == "reduced";
}

inline void RequireOk(const cuda::KernelError& error) {
  INFO(error.what << ": " << cuda::ErrorText(error));
  REQUIRE(error.ok());
}

// Device memory handed out piece by piece and taken back all at once: cudaMalloc for every array of every case would
// take longer than the kernels.
class Arena {
 public:
  static Arena& Get() {
    static Arena arena;
    return arena;
  }

  std::uint8_t* Take(std::uint64_t bytes) {
    const std::uint64_t rounded = (bytes + 255) / 256 * 256;
    if (Reduced()) {
      own_.emplace_back();
      RequireOk(own_.back().Allocate(bytes == 0 ? 1 : bytes));
      return own_.back().as<std::uint8_t>();
    }
    if (shared_.size() == 0) RequireOk(shared_.Allocate(kBytes));
    REQUIRE(used_ + rounded <= kBytes);
    std::uint8_t* piece = shared_.as<std::uint8_t>() + used_;
    used_ += rounded;
    return piece;
  }

  void TakeBackAll() {
    used_ = 0;
    own_.clear();
  }

 private:
  static constexpr std::uint64_t kBytes = std::uint64_t{1} << 28;
  cuda::DeviceBuffer shared_;
  std::uint64_t used_ = 0;
  std::vector<cuda::DeviceBuffer> own_;
};

// Gives the arena's memory back when a case ends.
struct ArenaScope {
  ~ArenaScope() { Arena::Get().TakeBackAll(); }
};

// An array on the device, filled with poison, with a guard behind it.
class DeviceBytes {
 public:
  explicit DeviceBytes(std::uint64_t size) : size_(size), data_(Arena::Get().Take(size + kGuard)) {
    RequireOk(cuda::Fill(data_, kPoison, size, nullptr));
    RequireOk(cuda::Fill(data_ + size, kCanary, kGuard, nullptr));
  }
  DeviceBytes(const void* host, std::uint64_t size) : DeviceBytes(size) {
    if (size > 0) RequireOk(cuda::CopyToDevice(data_, host, size, nullptr));
    RequireOk(cuda::Synchronize(nullptr));
  }

  template <typename T>
  T* as() const {
    return reinterpret_cast<T*>(data_);
  }

  // The bytes, after all work; checks the guard.
  std::vector<std::uint8_t> Download() const {
    std::vector<std::uint8_t> bytes(size_ + kGuard);
    RequireOk(cuda::CopyToHost(bytes.data(), data_, bytes.size(), nullptr));
    RequireOk(cuda::Synchronize(nullptr));
    for (std::uint64_t i = size_; i < bytes.size(); ++i) {
      if (bytes[i] != kCanary) FAIL("written behind the end");
    }
    bytes.resize(size_);
    return bytes;
  }

  template <typename T>
  T Value() const {
    T value;
    const std::vector<std::uint8_t> bytes = Download();
    REQUIRE(bytes.size() == sizeof(value));
    std::memcpy(&value, bytes.data(), sizeof(value));
    return value;
  }

  // Whether the array holds exactly these bytes.
  bool Holds(const void* expected) const {
    const std::vector<std::uint8_t> bytes = Download();
    return size_ == 0 || std::memcmp(bytes.data(), expected, size_) == 0;
  }

 private:
  static constexpr std::uint64_t kGuard = 64;
  static constexpr std::uint8_t kCanary = 0xC5, kPoison = 0xA7;
  std::uint64_t size_;
  std::uint8_t* data_;
};

}  // namespace q4::testing
