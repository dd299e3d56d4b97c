// Every limit is looked at, and the tightest decides. What is not there (no cgroups, a hidden /proc) limits nothing:
// the worst that can come of it is what everybody had before limits were looked at.
#include "libconvert/base/machine.h"

#include <sched.h>
#include <sys/resource.h>

#include <algorithm>
#include <cstdio>
#include <string_view>
#include <thread>
#include <utility>

#include "fmt/format.h"
#include "formats/base/counted.h"
#include "formats/base/text.h"
#include "libconvert/base/cgroup.h"

namespace q4 {
namespace {

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;
// Address space that a thread takes: its stack, and an arena of malloc.
constexpr std::uint64_t kAddressesPerThread = (8 + 64) * kMiB;
// Threads of a tool beside its workers: readers, admission, digests, the journal.
constexpr std::uint64_t kOtherThreads = 5;
// Longer paths are shown in part.
constexpr std::size_t kShownPath = 200;

// As many CPUs as the affinity mask has. The kernel's mask may be longer than cpu_set_t (1024); it refuses one that is
// too short.
unsigned AllowedCores() {
  for (std::size_t cpus = 1024; cpus <= (std::size_t{1} << 20); cpus *= 2) {
    cpu_set_t* const set = CPU_ALLOC(cpus);
    if (set == nullptr) break;
    const std::size_t bytes = CPU_ALLOC_SIZE(cpus);
    CPU_ZERO_S(bytes, set);
    const bool known = ::sched_getaffinity(0, bytes, set) == 0;
    const int count = known ? CPU_COUNT_S(bytes, set) : 0;
    CPU_FREE(set);
    if (known) return static_cast<unsigned>(std::max(count, 1));
  }
  return std::max(std::thread::hardware_concurrency(), 1u);
}

// Online ones, "0-3,8": hardware_concurrency() counts those of the affinity.
unsigned OnlineCores(unsigned allowed, const SystemReader& read) {
  const std::optional<std::string> list = read("/sys/devices/system/cpu/online");
  if (!list) return allowed;
  unsigned count = 0;
  for (std::size_t at = 0; at < list->size();) {
    unsigned first = 0, last = 0;
    const int fields = std::sscanf(list->c_str() + at, "%u-%u", &first, &last);
    if (fields < 1) break;
    count += fields == 2 && last >= first ? last - first + 1 : 1;
    const std::size_t comma = list->find(',', at);
    if (comma == std::string::npos) break;
    at = comma + 1;
  }
  return std::max(count, allowed);
}

std::optional<std::uint64_t> SoftLimit(decltype(RLIMIT_AS) which) {
  rlimit limit{};
  if (::getrlimit(which, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return std::nullopt;
  return limit.rlim_cur;
}

std::uint64_t Less(std::uint64_t a, std::uint64_t b) { return a > b ? a - b : 0; }

std::string InMiB(std::uint64_t bytes) { return fmt::format("{} MiB", bytes / kMiB); }

std::string NameOf(const Cgroup& group) { return "cgroup " + Printable(group.directory, kShownPath); }

// The quota of one group in cores; nothing where there is none.
std::optional<double> QuotaOf(const Cgroup& group, const SystemReader& read) {
  std::optional<std::uint64_t> quota, period;
  if (group.is_v2) {
    // "max 100000" or "150000 100000".
    const std::string file = group.directory + "/cpu.max";
    quota = SystemNumber(file, read);
    if (quota) period = NumberBehind(std::to_string(*quota), read(file).value_or(""));
  } else {
    quota = SystemNumber(group.directory + "/cpu.cfs_quota_us", read);
    period = SystemNumber(group.directory + "/cpu.cfs_period_us", read);
  }
  if (!quota || !period || *period == 0) return std::nullopt;
  return static_cast<double>(*quota) / static_cast<double>(*period);
}

// What may still be used under one limit.
struct Room {
  std::uint64_t limit = UINT64_MAX, free = UINT64_MAX;
  std::string what;
};

// Of a memory cgroup. Pages of files can be given back, but not those that are locked or belong to a tmpfs, which are
// in neither of the lists that are counted here.
Room RoomOf(const Cgroup& group, const SystemReader& read) {
  Room room;
  const std::string stat = read(group.directory + "/memory.stat").value_or("");
  const auto file = [&](const char* name) { return SystemNumber(group.directory + name, read); };
  const auto behind = [&](std::string_view key) { return NumberBehind(key, stat).value_or(0); };
  std::uint64_t used = 0, reclaimable = 0;
  if (group.is_v2) {
    // memory.high does not kill, but stops a process for ever longer.
    room.limit = std::min(file("/memory.max").value_or(UINT64_MAX), file("/memory.high").value_or(UINT64_MAX));
    used = file("/memory.current").value_or(0);
    reclaimable = behind("active_file") + behind("inactive_file") + behind("slab_reclaimable");
  } else {
    // The second also tells of parents that nobody sees from here, and knows whether limits are inherited.
    room.limit = std::min(file("/memory.limit_in_bytes").value_or(UINT64_MAX),
                          NumberBehind("hierarchical_memory_limit", stat).value_or(UINT64_MAX));
    used = file("/memory.usage_in_bytes").value_or(0);
    reclaimable = behind("total_active_file") + behind("total_inactive_file");
  }
  room.free = Less(room.limit, Less(used, reclaimable));
  room.what = NameOf(group);
  return room;
}

Room PhysicalRoom(const SystemReader& read) {
  Room room;
  const std::optional<std::string> info = read("/proc/meminfo");
  if (!info) return room;
  const std::optional<std::uint64_t> total = NumberBehind("MemTotal", *info);
  // Kernels before 3.14 do not say what is available.
  const std::optional<std::uint64_t> available = NumberBehind("MemAvailable", *info);
  if (!total) return room;
  room.limit = *total;
  room.free = std::min(available.value_or(*total) + NumberBehind("SwapFree", *info).value_or(0), *total);
  room.what = "the machine's memory";
  return room;
}

// Of a limit of ulimit; `used` is a line of /proc/self/status.
Room RoomUnder(std::uint64_t limit, std::string_view used, const char* what, const SystemReader& read) {
  const std::string status = read("/proc/self/status").value_or("");
  return {limit, Less(limit, NumberBehind(used, status).value_or(0)), what};
}

// Workers whose stacks and arenas take no more than a quarter of the addresses that are left.
unsigned WorkersWithin(std::uint64_t addresses) {
  return static_cast<unsigned>(std::clamp<std::uint64_t>(addresses / 4 / kAddressesPerThread, 1, 1024));
}

// Of RLIMIT_AS, which counts what is reserved and never used too.
Room AddressRoom(const Machine& machine) {
  Room room = RoomUnder(*machine.address_space, "VmSize", "ulimit -v", machine.read);
  const unsigned workers = std::min(WorkersWithin(room.free), machine.allowed);
  room.free = Less(room.free, (workers + kOtherThreads) * kAddressesPerThread);
  return room;
}

// The limit that leaves least; "" as its name where nothing is known.
Room Tightest(const Machine& machine) {
  std::vector<Room> rooms{PhysicalRoom(machine.read)};
  for (const Cgroup& group : CgroupsOf("memory", machine.read)) {
    // Before Linux 5.11 a group of version 1 could leave its children alone.
    const bool is_parent = rooms.size() > 1;
    if (is_parent && SystemNumber(group.directory + "/memory.use_hierarchy", machine.read) == 0) continue;
    rooms.push_back(RoomOf(group, machine.read));
  }
  if (machine.address_space) rooms.push_back(AddressRoom(machine));
  if (machine.data) rooms.push_back(RoomUnder(*machine.data, "VmData", "ulimit -d", machine.read));
  return *std::min_element(rooms.begin(), rooms.end(), [](const Room& a, const Room& b) { return a.free < b.free; });
}

}  // namespace

Machine ThisMachine() {
  Machine machine;
  machine.read = ReadSystemText;
  machine.allowed = AllowedCores();
  machine.cores = OnlineCores(machine.allowed, machine.read);
  machine.address_space = SoftLimit(RLIMIT_AS);
  machine.data = SoftLimit(RLIMIT_DATA);
  return machine;
}

CoreShare CoresOf(const Machine& machine) {
  CoreShare share{std::max(machine.allowed, 1u), "all cores"};
  if (machine.allowed < machine.cores) {
    share.reason = fmt::format("the CPU affinity of this process, {} of {} cores", machine.allowed, machine.cores);
  }
  for (const Cgroup& group : CgroupsOf("cpu", machine.read)) {
    const std::optional<double> quota = QuotaOf(group, machine.read);
    // Rounded up: a thread that is stopped for a while does less harm than a core that is not used.
    if (!quota || *quota > share.threads - 1) continue;
    share.threads = std::max(1u, static_cast<unsigned>(*quota) + (*quota > static_cast<unsigned>(*quota)));
    share.reason = fmt::format("the CPU quota of {}, {:.2f} cores", NameOf(group), *quota);
  }
  for (const Cgroup& group : CgroupsOf("pids", machine.read)) {
    const std::optional<std::uint64_t> most = SystemNumber(group.directory + "/pids.max", machine.read);
    if (!most) continue;
    const std::uint64_t left = Less(*most, SystemNumber(group.directory + "/pids.current", machine.read).value_or(0));
    // Half of it, as readers and others have threads besides.
    if (left / 2 >= share.threads) continue;
    share.threads = std::max(1u, static_cast<unsigned>(left / 2));
    share.reason = fmt::format("{} allows {} (pids.max)", NameOf(group), Counted(left, "more thread"));
  }
  if (machine.address_space) {
    const Room room = RoomUnder(*machine.address_space, "VmSize", "ulimit -v", machine.read);
    if (const unsigned workers = WorkersWithin(room.free); workers < share.threads) {
      share.threads = workers;
      share.reason = fmt::format("ulimit -v of {}", InMiB(room.limit));
    }
  }
  return share;
}

MemoryShare MemoryOf(const Machine& machine) {
  const Room room = Tightest(machine);
  MemoryShare share;
  share.free = room.free;
  if (room.free / 2 >= kMostDefaultMemory) {
    share.bytes = kMostDefaultMemory;
    share.reason = "the default";
  } else {
    // In whole MiB, as people write it; never 0, which would mean the default.
    share.bytes = std::max(room.free / 2 / kMiB, std::uint64_t{1}) * kMiB;
    share.reason =
        fmt::format("half of what {} leaves free ({} of {})", room.what, InMiB(room.free), InMiB(room.limit));
  }
  return share;
}

unsigned DefaultThreads() { return CoresOf(ThisMachine()).threads; }

unsigned ThreadsOrDefault(unsigned threads) { return threads != 0 ? threads : DefaultThreads(); }

std::vector<std::string> RunLimits::Reasons() const {
  std::vector<std::string> lines;
  if (threads_by_default) lines.push_back(fmt::format("--threads {}: {}", threads, threads_reason));
  if (memory_by_default) lines.push_back(fmt::format("--max-memory {}: {}", InMiB(max_memory), memory_reason));
  return lines;
}

RunLimits LimitsOfRun(unsigned threads, std::uint64_t max_memory, const Machine& machine) {
  RunLimits limits;
  limits.memory_by_default = max_memory == 0;
  limits.max_memory = max_memory;
  if (limits.memory_by_default) {
    MemoryShare share = MemoryOf(machine);
    limits.max_memory = share.bytes;
    limits.free = share.free;
    limits.memory_reason = std::move(share.reason);
  }
  limits.threads_by_default = threads == 0;
  limits.threads = threads;
  if (limits.threads_by_default) {
    CoreShare share = CoresOf(machine);
    limits.threads = share.threads;
    limits.threads_reason = std::move(share.reason);
    const std::uint64_t fed = std::max<std::uint64_t>(1, limits.max_memory / kLeastMemoryPerThread);
    if (fed < limits.threads) {
      limits.threads = static_cast<unsigned>(fed);
      limits.threads_reason = fmt::format("--max-memory of {} feeds no more", InMiB(limits.max_memory));
    }
  }
  return limits;
}

bool RaiseMemoryTo(std::uint64_t least, RunLimits* limits) {
  if (limits->max_memory >= least) return true;
  if (!limits->memory_by_default || Less(limits->free, kLeastOverhead) < least) {
    return false;
  }
  limits->max_memory = least;
  limits->memory_reason += "; more, since this work needs it";
  return true;
}

}  // namespace q4
