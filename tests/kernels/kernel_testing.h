// What the kernel tests share: the backends of this machine, guarded buffers and reproducible inputs.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <random>
#include <vector>

#include "kernels/kernels.h"
#include "kernels/numeric.h"

namespace q4::testing {

inline constexpr FloatType kTypes[] = {FloatType::kF32, FloatType::kF16, FloatType::kBF16};
inline constexpr CodeBook kBooks[] = {CodeBook::kNf4, CodeBook::kFp4};

inline const char* NameOf(FloatType type) {
  return type == FloatType::kF32 ? "f32" : type == FloatType::kF16 ? "f16" : "bf16";
}
inline const char* NameOf(CodeBook book) { return book == CodeBook::kNf4 ? "nf4" : "fp4"; }

// The SIMD backends that run here. Says once which ones do not.
inline const std::vector<const KernelTable*>& SimdBackends() {
  static const std::vector<const KernelTable*> backends = [] {
    for (const char* name : UnsupportedSimdTargets()) std::printf("SKIP %s (cpu lacks it)\n", name);
    return SimdKernels();
  }();
  return backends;
}

// The scalar backend and then the SIMD ones.
inline std::vector<const KernelTable*> AllBackends() {
  std::vector<const KernelTable*> backends = {&ScalarKernels()};
  backends.insert(backends.end(), SimdBackends().begin(), SimdBackends().end());
  return backends;
}

// What a quantizing kernel writes.
struct Quantized {
  std::vector<std::uint8_t> codes;
  std::vector<float> scales;
};

// Memory between two canaries, `misalignment` bytes behind a multiple of 64, filled with a poison that no kernel writes
// by chance everywhere.
class GuardedBytes {
 public:
  explicit GuardedBytes(std::uint64_t size, std::uint64_t misalignment = 0)
      : size_(size), storage_(3 * kGuard + misalignment + size, kCanary) {
    const std::uint64_t to_aligned = -reinterpret_cast<std::uintptr_t>(storage_.data()) % kGuard;
    offset_ = to_aligned + kGuard + misalignment;
    std::memset(data(), kPoison, size);
  }

  std::uint8_t* data() { return storage_.data() + offset_; }
  const std::uint8_t* data() const { return storage_.data() + offset_; }
  std::uint64_t size() const { return size_; }
  template <typename T>
  T* as() {
    return reinterpret_cast<T*>(data());
  }

  bool CanariesIntact() const {
    for (std::uint64_t i = 0; i < storage_.size(); ++i) {
      if ((i < offset_ || i >= offset_ + size_) && storage_[i] != kCanary) return false;
    }
    return true;
  }

  bool operator==(const GuardedBytes& other) const {
    return size_ == other.size_ && (size_ == 0 || std::memcmp(data(), other.data(), size_) == 0);
  }

 private:
  static constexpr std::uint64_t kGuard = 64;
  static constexpr std::uint8_t kCanary = 0xC5, kPoison = 0xA7;

  std::uint64_t size_;
  std::vector<std::uint8_t> storage_;
  std::uint64_t offset_ = 0;  // of the data in the storage
};

// Reproducible everywhere: std::mt19937_64 is exactly specified, its distributions are not.
class Random {
 public:
  explicit Random(std::uint64_t seed) : engine_(seed) {}
  std::uint64_t Bits() { return engine_(); }
  std::uint64_t Below(std::uint64_t limit) { return engine_() % limit; }
  double Uniform() { return static_cast<double>(engine_() >> 11) * 0x1p-53; }
  // Irwin-Hall: close enough to N(0, 1), without libm.
  float Normal() {
    double sum = -6;
    for (int i = 0; i < 12; ++i) sum += Uniform();
    return static_cast<float>(sum);
  }
  // Any finite bit pattern.
  float FinitePattern() {
    for (;;) {
      const float v = FloatOf(static_cast<std::uint32_t>(engine_() >> 32));
      if (IsFinite(v)) return v;
    }
  }

 private:
  std::mt19937_64 engine_;
};

template <typename T>
bool SameBits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

// v moved by `steps` floats toward larger (or smaller) values.
inline float Nudge(float v, int steps) {
  for (; steps > 0; --steps) v = std::nextafter(v, INFINITY);
  for (; steps < 0; ++steps) v = std::nextafter(v, -INFINITY);
  return v;
}

enum class Content {
  kPatterns,   // random finite bit patterns: every magnitude
  kNormal,     // weights
  kBounds,     // scaled elements at and next to the decision bounds
  kSparse,     // zeros of both signs, with few others
  kSubnormal,  // around the smallest normal number of the type and TINY
  kHuge,       // up to the largest finite value
  kGrid,       // exactly representable after quantization
  kCount
};

// n elements of `type`, all finite.
inline void FillElements(FloatType type, Content content, std::uint32_t block_size, std::uint64_t n, Random* random,
                         void* out) {
  const float largest =
      type == FloatType::kF16 ? 65504.0f : FloatOf(type == FloatType::kBF16 ? 0x7F7F0000 : 0x7F7FFFFF);
  const float smallest_normal = type == FloatType::kF16 ? 0x1p-14f : 0x1p-126f;
  for (std::uint64_t i = 0; i < n; ++i) {
    float v = 0;
    switch (content) {
      case Content::kPatterns:
        do {
          if (type == FloatType::kF16) {
            v = WidenF16(static_cast<std::uint16_t>(random->Bits()));
          } else {
            v = RoundTo(type, random->FinitePattern());
          }
        } while (!IsFinite(v));
        break;
      case Content::kNormal:
        v = 0.02f * random->Normal();
        break;
      case Content::kBounds: {
        const auto& bounds = random->Below(2) == 0 ? kNf4Bounds : kFp4Bounds;
        const float scale = i / block_size % 2 == 0 ? 1.0f : 0.37f;
        v = Nudge(bounds[random->Below(15)], static_cast<int>(random->Below(5)) - 2) * scale;
        if (type == FloatType::kBF16) v = FloatOf(BitsOf(v) + (static_cast<std::uint32_t>(random->Below(5)) << 16));
        if (i % block_size == 0) v = scale;
        break;
      }
      case Content::kSparse:
        v = random->Below(40) == 0 ? random->Normal() : random->Below(2) == 0 ? 0.0f : -0.0f;
        if (i / block_size % 3 == 0) v = 0.0f;
        break;
      case Content::kSubnormal:
        v = smallest_normal * random->Normal();
        if (i / block_size % 2 == 0) v *= 0x1p-4f;
        break;
      case Content::kHuge:
        v = largest * static_cast<float>(2 * random->Uniform() - 1);
        if (random->Below(64) == 0) v = random->Below(2) == 0 ? largest : -largest;
        break;
      case Content::kGrid:
        v = 0.5f * kFp4Values[random->Below(16)];
        if (i % block_size == 0) v = 0.5f;
        break;
      case Content::kCount:
        break;
    }
    if (!IsFinite(RoundTo(type, v))) v = largest;
    StoreElement(type, out, i, v);
  }
}

}  // namespace q4::testing
