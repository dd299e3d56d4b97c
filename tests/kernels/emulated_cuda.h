// Device code on this machine's CPU, without CUDA: enough of the language for the kernels of feedback, so that their
// arithmetic and their barriers are tested where no GPU is. To be included before the .cuh files.
//
// Threads of a thread block are fibers, of which one runs until it comes to a barrier or to a shuffle; thread blocks
// run one after the other. Shared memory is static. What a race would do is not shown.
#pragma once

#include <ucontext.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __constant__
#define __shared__ static
#define __align__(bytes) __attribute__((aligned(bytes)))
#define __launch_bounds__(...)
#define __forceinline__ __attribute__((always_inline)) inline

namespace q4::emulated {

struct Dim3 {
  std::uint32_t x = 1, y = 1, z = 1;
};
struct Float4 {
  float x, y, z, w;
};
inline Dim3 thread_index, block_index, block_size;

class Block {
 public:
  // Runs `kernel` once for each thread of each thread block.
  static void Launch(Dim3 grid, std::uint32_t threads, const std::function<void()>& kernel) {
    Block block(threads, kernel);
    for (std::uint32_t y = 0; y < grid.y; ++y) {
      for (std::uint32_t x = 0; x < grid.x; ++x) block.Run({x, y, 1});
    }
  }

  // Waits until all of the threads that `barrier` counts have come.
  struct Barrier {
    std::uint32_t came = 0, generation = 0;
  };
  void Wait(Barrier* barrier, std::uint32_t threads) {
    const std::uint32_t mine = barrier->generation;
    if (++barrier->came == threads) {
      barrier->came = 0;
      ++barrier->generation;
    }
    while (barrier->generation == mine) Yield();
  }
  void WaitForAll() { Wait(&all_, threads_); }
  // What the lanes of the caller's warp give, by lane.
  const std::vector<std::uint64_t>& Exchange(std::uint64_t value) {
    const std::uint32_t warp = current_ / 32, lane = current_ % 32;
    Warp& own = warps_[warp];
    // Two sets in turn, so that nobody overwrites what others still read.
    std::vector<std::uint64_t>& values = own.values[own.turns[lane]++ % 2];
    values[lane] = value;
    Wait(&own.barrier, std::min<std::uint32_t>(32, threads_ - warp * 32));
    return values;
  }
  static Block& Current() { return *running_; }

 private:
  struct Warp {
    Barrier barrier;
    std::vector<std::uint64_t> values[2] = {std::vector<std::uint64_t>(32), std::vector<std::uint64_t>(32)};
    std::uint32_t turns[32] = {};
  };
  static constexpr std::size_t kStack = 128 << 10;

  Block(std::uint32_t threads, const std::function<void()>& kernel)
      : threads_(threads), kernel_(kernel), stacks_(threads), contexts_(threads) {
    for (auto& stack : stacks_) stack = std::make_unique<char[]>(kStack);
  }

  void Run(Dim3 index) {
    running_ = this;
    block_index = index;
    block_size = {threads_, 1, 1};
    all_ = {};
    warps_.assign((threads_ + 31) / 32, {});
    ended_.assign(threads_, false);
    for (std::uint32_t t = 0; t < threads_; ++t) {
      ::getcontext(&contexts_[t]);
      contexts_[t].uc_stack.ss_sp = stacks_[t].get();
      contexts_[t].uc_stack.ss_size = kStack;
      contexts_[t].uc_link = &scheduler_;
      ::makecontext(&contexts_[t], &Block::Enter, 0);
    }
    for (bool any = true; any;) {
      any = false;
      for (current_ = 0; current_ < threads_; ++current_) {
        if (ended_[current_]) continue;
        thread_index = {current_, 0, 0};
        ::swapcontext(&scheduler_, &contexts_[current_]);
        any = true;
      }
    }
  }
  static void Enter() {
    running_->kernel_();
    running_->ended_[running_->current_] = true;
  }
  void Yield() {
    const std::uint32_t self = current_;
    ::swapcontext(&contexts_[self], &scheduler_);
  }

  const std::uint32_t threads_;
  const std::function<void()>& kernel_;
  std::vector<std::unique_ptr<char[]>> stacks_;
  std::vector<ucontext_t> contexts_;
  ucontext_t scheduler_;
  Barrier all_;
  std::vector<Warp> warps_;
  std::vector<bool> ended_;
  std::uint32_t current_ = 0;
  static inline Block* running_ = nullptr;
};

}  // namespace q4::emulated

#define threadIdx ::q4::emulated::thread_index
#define blockIdx ::q4::emulated::block_index
#define blockDim ::q4::emulated::block_size
using float4 = q4::emulated::Float4;

inline void __syncthreads() { q4::emulated::Block::Current().WaitForAll(); }
inline float __shfl_sync(std::uint32_t, float value, int lane) {
  const auto& values = q4::emulated::Block::Current().Exchange(std::bit_cast<std::uint32_t>(value));
  return std::bit_cast<float>(static_cast<std::uint32_t>(values[static_cast<std::size_t>(lane)]));
}
inline std::uint32_t __ballot_sync(std::uint32_t, bool is_true) {
  const auto& values = q4::emulated::Block::Current().Exchange(is_true);
  std::uint32_t bits = 0;
  for (std::uint32_t lane = 0; lane < 32; ++lane) bits |= static_cast<std::uint32_t>(values[lane]) << lane;
  return bits;
}
inline int __popc(std::uint32_t bits) { return std::popcount(bits); }
template <typename T>
T atomicMax(T* place, T value) {
  return std::exchange(*place, value > *place ? value : *place);
}
template <typename T>
T atomicAdd(T* place, T value) {
  return std::exchange(*place, *place + value);
}
template <typename T>
T atomicXor(T* place, T value) {
  return std::exchange(*place, *place ^ value);
}

// Correctly rounded, as the compiler's own are: it is told not to fuse any (q4_float_rules).
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __frcp_rn(float a) { return 1.0f / a; }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dsub_rn(double a, double b) { return a - b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline double __ddiv_rn(double a, double b) { return a / b; }
inline double __dsqrt_rn(double a) { return std::sqrt(a); }
inline float __double2float_rn(double a) { return static_cast<float>(a); }

// Copies are there at once.
inline void __pipeline_memcpy_async(void* to, const void* from, std::size_t bytes) { std::memcpy(to, from, bytes); }
inline void __pipeline_commit() {}
inline void __pipeline_wait_prior(std::size_t) {}

// Named by tables that these kernels do not use.
std::size_t __cvta_generic_to_shared(const void*);
std::uint32_t __funnelshift_l(std::uint32_t low, std::uint32_t high, std::uint32_t shift);
float __fadd_ru(float a, float b);
