// What this process may use of the machine: the defaults of --threads and --max-memory. All tools and the loader ask
// here, so that a container, a batch system or taskset limits all of them alike.
//
//   threads   the cores of the CPU affinity, at most the CPU quota (rounded up), at most half of what pids.max leaves
//   memory    the smaller of 2 GiB and half of what is free; free is the least that the machine itself, each cgroup
//             above this process, and the limits of ulimit leave
//
// Free means what nobody can be asked to give back: the page cache, which counts against a cgroup's limit, is free; the
// memory of other processes of the group is not. The other half is for what --max-memory does not bound (the fixed
// overhead of docs/architecture.md, drivers of GPUs) and for the page cache.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "formats/base/system_text.h"

namespace q4 {

// What a machine says of itself and of this process. Tests fill one by hand.
struct Machine {
  unsigned cores = 1;    // hardware threads that are online; at least 1
  unsigned allowed = 1;  // of them, those of the CPU affinity, which cpusets narrow too; at least 1
  // RLIMIT_AS and RLIMIT_DATA, in bytes; nullopt: unlimited.
  std::optional<std::uint64_t> address_space, data;
  SystemReader read;
};
// As it is now. Cheap (some 20 small reads), and never kept: limits change while a process runs.
Machine ThisMachine();

// `reason` is for people: what decided, with its place, for -v.
struct CoreShare {
  unsigned threads = 1;
  std::string reason;
};
struct MemoryShare {
  std::uint64_t bytes = 0;  // the default of --max-memory
  std::uint64_t free = 0;   // all that the tightest limit leaves
  std::string reason;
};
CoreShare CoresOf(const Machine& machine);
MemoryShare MemoryOf(const Machine& machine);

// How many threads work where nobody says how many: those of CoresOf(ThisMachine()).
unsigned DefaultThreads();
// `threads`, or DefaultThreads() if that is 0.
unsigned ThreadsOrDefault(unsigned threads);

// The default of --max-memory where the machine does not limit it, in bytes.
inline constexpr std::uint64_t kMostDefaultMemory = std::uint64_t{2} << 30;
// What must stay free beside a bound that was raised (RaiseMemoryTo()). The tools' fixed overhead is 18 to 22 MiB where
// little memory makes them use few threads.
inline constexpr std::uint64_t kLeastOverhead = std::uint64_t{32} << 20;
// A thread that has less than this would only wait for memory.
inline constexpr std::uint64_t kLeastMemoryPerThread = std::uint64_t{8} << 20;

// The limits of one run.
struct RunLimits {
  unsigned threads = 1;
  std::uint64_t max_memory = 0;
  bool threads_by_default = false, memory_by_default = false;
  std::uint64_t free = 0;  // with memory_by_default: all that may be used, --max-memory and overhead together
  // What decided about each default, as "--threads 2: ...", in this order: for -v.
  std::string threads_reason, memory_reason;

  // Lines for -v: the reasons of those that were defaults.
  std::vector<std::string> Reasons() const;
};
// `threads` and `max_memory` as the user has them, 0 for the default. Default threads are no more than the memory
// feeds, whoever has bounded it.
RunLimits LimitsOfRun(unsigned threads, std::uint64_t max_memory, const Machine& machine = ThisMachine());

// A default bound on memory that is less than `least`, what the work needs: raises it to that if that much is free, and
// says so in the reason. False where it is not; then the bound stays and the run cannot succeed.
bool RaiseMemoryTo(std::uint64_t least, RunLimits* limits);

}  // namespace q4
