// Trees of /proc and /sys as they are found in the field, each reduced to the files that count.
#include "libconvert/base/machine.h"

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "libconvert/base/cgroup.h"
#include "tests/support/catch.h"

namespace q4 {
namespace {

using Files = std::map<std::string, std::string>;
constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;
constexpr std::uint64_t kGiB = std::uint64_t{1} << 30;

SystemReader ReaderOf(Files files) {
  return [files = std::move(files)](const std::string& path) -> std::optional<std::string> {
    const auto at = files.find(path);
    if (at == files.end()) return std::nullopt;
    return at->second;
  };
}

std::string Mib(std::uint64_t mib) { return std::to_string(mib * kMiB) + "\n"; }

// A machine of 64 cores and 256 GiB where `files` are found.
Machine MachineWith(Files files, unsigned allowed = 64) {
  files.emplace("/proc/meminfo",
                "MemTotal:       268435456 kB\nMemFree: 1 kB\nMemAvailable:   260000000 kB\nSwapFree: 0 kB\n");
  Machine machine;
  machine.cores = 64;
  machine.allowed = allowed;
  machine.read = ReaderOf(std::move(files));
  return machine;
}

std::vector<std::string> Directories(const std::vector<Cgroup>& groups) {
  std::vector<std::string> directories;
  for (const Cgroup& group : groups) directories.push_back(group.directory);
  return directories;
}

constexpr char kV2Mount[] = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
constexpr char kV1Mounts[] =
    "25 20 0:20 / /sys/fs/cgroup ro shared:8 - tmpfs tmpfs ro,mode=755\n"
    "29 25 0:24 / /sys/fs/cgroup/memory rw,nosuid shared:13 - cgroup cgroup rw,memory\n"
    "32 25 0:27 / /sys/fs/cgroup/cpu,cpuacct rw shared:16 - cgroup cgroup rw,cpu,cpuacct\n"
    "33 25 0:28 / /sys/fs/cgroup/pids rw shared:17 - cgroup cgroup rw,pids\n";

}  // namespace

TEST_CASE("without cgroups and limits the defaults are all cores and 2 GiB", "[machine]") {
  const Machine machine = MachineWith({});
  CHECK(CoresOf(machine).threads == 64);
  CHECK(CoresOf(machine).reason == "all cores");
  CHECK(MemoryOf(machine).bytes == 2 * kGiB);
  // Not even /proc.
  Machine blind;
  blind.cores = blind.allowed = 4;
  blind.read = ReaderOf({});
  CHECK(CoresOf(blind).threads == 4);
  CHECK(MemoryOf(blind).bytes == 2 * kGiB);
  CHECK(CgroupsOf("memory", blind.read).empty());
}

TEST_CASE("a small machine gives half of what is available", "[machine]") {
  const Machine machine =
      MachineWith({{"/proc/meminfo", "MemTotal: 1000000 kB\nMemAvailable: 409600 kB\nSwapFree: 0 kB\n"}});
  CHECK(MemoryOf(machine).bytes == 200 * kMiB);
  CHECK(MemoryOf(machine).free == 400 * kMiB);
  // Swap counts; a kernel that does not know what is available has all of it.
  CHECK(
      MemoryOf(MachineWith({{"/proc/meminfo", "MemTotal: 4096000 kB\nMemAvailable: 409600 kB\nSwapFree: 409600 kB\n"}}))
          .bytes == 400 * kMiB);
  CHECK(MemoryOf(MachineWith({{"/proc/meminfo", "MemTotal: 1024000 kB\n"}})).bytes == 500 * kMiB);
}

TEST_CASE("docker with cgroup v2 and a namespace of its own", "[machine]") {
  const Machine machine = MachineWith({{"/proc/self/cgroup", "0::/\n"},
                                       {"/proc/self/mountinfo", kV2Mount},
                                       {"/sys/fs/cgroup/cgroup.procs", ""},
                                       {"/sys/fs/cgroup/memory.max", Mib(512)},
                                       {"/sys/fs/cgroup/memory.high", "max\n"},
                                       {"/sys/fs/cgroup/memory.current", Mib(300)},
                                       {"/sys/fs/cgroup/memory.stat",
                                        "anon 1\nactive_file 104857600\nshmem 5\n"
                                        "inactive_file 104857600\nslab_reclaimable 0\n"},
                                       {"/sys/fs/cgroup/cpu.max", "150000 100000\n"}});
  // 300 MiB are in use, 200 of them pages of files.
  CHECK(MemoryOf(machine).free == 412 * kMiB);
  CHECK(MemoryOf(machine).bytes == 206 * kMiB);
  CHECK(MemoryOf(machine).reason == "half of what cgroup /sys/fs/cgroup leaves free (412 MiB of 512 MiB)");
  // One and a half cores keep two threads busy.
  CHECK(CoresOf(machine).threads == 2);
  CHECK(CoresOf(machine).reason == "the CPU quota of cgroup /sys/fs/cgroup, 1.50 cores");
}

TEST_CASE("docker with cgroup v1, where the group of the host is the root of the mount", "[machine]") {
  const std::string id = "/docker/4f00aa";
  const Machine machine =
      MachineWith({{"/proc/self/cgroup", "11:memory:" + id + "\n4:cpu,cpuacct:" + id + "\n2:pids:" + id + "\n"},
                   {"/proc/self/mountinfo",
                    "700 690 0:24 " + id + " /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n701 690 0:27 " + id +
                        " /sys/fs/cgroup/cpu,cpuacct ro master:16 - cgroup cgroup rw,cpu,cpuacct\n702 690 0:28 " + id +
                        " /sys/fs/cgroup/pids ro - cgroup cgroup rw,pids\n"},
                   {"/sys/fs/cgroup/memory/cgroup.procs", ""},
                   {"/sys/fs/cgroup/memory/memory.limit_in_bytes", Mib(1024)},
                   {"/sys/fs/cgroup/memory/memory.usage_in_bytes", Mib(24)},
                   {"/sys/fs/cgroup/memory/memory.stat", "cache 0\ntotal_active_file 0\ntotal_inactive_file 0\n"},
                   {"/sys/fs/cgroup/cpu,cpuacct/cgroup.procs", ""},
                   {"/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "400000\n"},
                   {"/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n"},
                   {"/sys/fs/cgroup/pids/cgroup.procs", ""},
                   {"/sys/fs/cgroup/pids/pids.max", "max\n"}});
  CHECK(MemoryOf(machine).bytes == 500 * kMiB);
  CHECK(CoresOf(machine).threads == 4);
}

TEST_CASE("a limit of a parent holds, in a systemd slice and in a pod", "[machine]") {
  const std::string top = "/sys/fs/cgroup/kubepods.slice";
  const std::string pod = top + "/kubepods-burstable.slice/kubepods-burstable-pod7.slice";
  const std::string own = pod + "/cri-containerd-9a.scope";
  Files files{{"/proc/self/cgroup", "0::" + own.substr(14) + "\n"},
              {"/proc/self/mountinfo", kV2Mount},
              {own + "/cgroup.procs", ""},
              {own + "/memory.max", "max\n"},
              {own + "/cpu.max", "max 100000\n"},
              {pod + "/memory.max", Mib(3000)},
              {pod + "/memory.current", Mib(1000)},
              {pod + "/cpu.max", "50000 100000\n"},
              {top + "/memory.max", Mib(60000)},
              {top + "/cpu.max", "6400000 100000\n"}};
  CHECK(Directories(CgroupsOf("memory", ReaderOf(files))) ==
        std::vector<std::string>{own, pod, top + "/kubepods-burstable.slice", top, "/sys/fs/cgroup"});
  CHECK(MemoryOf(MachineWith(files)).bytes == 1000 * kMiB);
  CHECK(CoresOf(MachineWith(files)).threads == 1);
  // memory.high stops a process before memory.max kills it.
  files[own + "/memory.high"] = Mib(800);
  CHECK(MemoryOf(MachineWith(files)).bytes == 400 * kMiB);
}

TEST_CASE("Slurm with cgroup v1: nested groups, and unlimited ones in between", "[machine]") {
  const std::string job = "/slurm/uid_1000/job_77";
  const std::string memory = "/sys/fs/cgroup/memory", cpu = "/sys/fs/cgroup/cpu,cpuacct";
  Files files{{"/proc/self/cgroup", "9:memory:" + job +
                                        "/step_0/task_0\n5:cpuacct,cpu:/system.slice/slurmd.service\n"
                                        "1:name=systemd:/system.slice/slurmd.service\n"},
              {"/proc/self/mountinfo", kV1Mounts},
              {memory + job + "/step_0/task_0/cgroup.procs", ""},
              {memory + job + "/step_0/task_0/memory.limit_in_bytes", "9223372036854771712\n"},
              {memory + job + "/step_0/memory.limit_in_bytes", Mib(2000)},
              {memory + job + "/memory.limit_in_bytes", Mib(1000)},
              {memory + "/memory.limit_in_bytes", "9223372036854771712\n"},
              {cpu + "/system.slice/slurmd.service/cgroup.procs", ""},
              {cpu + "/system.slice/slurmd.service/cpu.cfs_quota_us", "-1\n"},
              {cpu + "/system.slice/slurmd.service/cpu.cfs_period_us", "100000\n"}};
  CHECK(MemoryOf(MachineWith(files)).bytes == 500 * kMiB);
  // Cores come by affinity there.
  CHECK(CoresOf(MachineWith(files, 8)).threads == 8);
  CHECK(CoresOf(MachineWith(files, 8)).reason == "the CPU affinity of this process, 8 of 64 cores");
  // A group that does not hand its limit down, as before Linux 5.11.
  files[memory + job + "/memory.use_hierarchy"] = "0\n";
  CHECK(MemoryOf(MachineWith(files)).bytes == 1000 * kMiB);
  // Parents that cannot be seen from here: the group's own statistics tell of them.
  files[memory + job + "/step_0/task_0/memory.stat"] = "cache 1\nhierarchical_memory_limit 314572800\n";
  CHECK(MemoryOf(MachineWith(files)).bytes == 150 * kMiB);
}

TEST_CASE("hybrid: version 2 is mounted beside version 1 and has no controllers", "[machine]") {
  const std::string own = "/user.slice/user-1000.slice";
  const Machine machine =
      MachineWith({{"/proc/self/cgroup", "6:memory:" + own + "\n3:cpu,cpuacct:/\n0::" + own + "/session-2.scope\n"},
                   {"/proc/self/mountinfo",
                    std::string(kV1Mounts) + "26 25 0:21 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"},
                   {"/sys/fs/cgroup/unified" + own + "/session-2.scope/cgroup.procs", ""},
                   {"/sys/fs/cgroup/memory" + own + "/tasks", ""},
                   {"/sys/fs/cgroup/memory" + own + "/memory.limit_in_bytes", Mib(640)}});
  CHECK(MemoryOf(machine).bytes == 320 * kMiB);
  CHECK(CoresOf(machine).threads == 64);
}

TEST_CASE("a path that is not visible below the mount: what is visible of it counts", "[machine]") {
  // The host's tree is not mounted, but the path is the host's (LXC, old docker in a pod).
  const Files inside{
      {"/proc/self/cgroup", "4:memory:/lxc/box/app\n"},
      {"/proc/self/mountinfo", "9 8 0:24 /elsewhere /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"},
      {"/sys/fs/cgroup/memory/tasks", ""},
      {"/sys/fs/cgroup/memory/memory.limit_in_bytes", Mib(1000)},
      {"/sys/fs/cgroup/memory/app/tasks", ""},
      {"/sys/fs/cgroup/memory/app/memory.limit_in_bytes", Mib(700)}};
  CHECK(Directories(CgroupsOf("memory", ReaderOf(inside))) ==
        std::vector<std::string>{"/sys/fs/cgroup/memory/app", "/sys/fs/cgroup/memory"});
  CHECK(MemoryOf(MachineWith(inside)).bytes == 350 * kMiB);
  // A group outside of the namespace, and a mount of a parent: only the top can be seen. Never a path that climbs out.
  const Files outside{{"/proc/self/cgroup", "0::/../other\n"},
                      {"/proc/self/mountinfo", "9 8 0:26 /../.. /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"},
                      {"/sys/fs/cgroup/memory.max", Mib(900)}};
  CHECK(Directories(CgroupsOf("memory", ReaderOf(outside))) == std::vector<std::string>{"/sys/fs/cgroup"});
  CHECK(MemoryOf(MachineWith(outside)).bytes == 450 * kMiB);
}

TEST_CASE("mount points with blanks, paths with colons, and a second mount that shows more", "[machine]") {
  const Files files{{"/proc/self/cgroup", "2:memory:/a:b\n"},
                    {"/proc/self/mountinfo",
                     "1 0 0:24 /x /narrow rw - cgroup cgroup rw,memory\n"
                     "2 0 0:24 / /my\\040groups rw a:1 b:2 - cgroup none rw,memory\n"
                     "broken line\n3 0\n"},
                    {"/my groups/a:b/tasks", ""},
                    {"/my groups/a:b/memory.limit_in_bytes", Mib(100)}};
  CHECK(Directories(CgroupsOf("memory", ReaderOf(files))) == std::vector<std::string>{"/my groups/a:b", "/my groups"});
  CHECK(MemoryOf(MachineWith(files)).bytes == 50 * kMiB);
}

TEST_CASE("memory that others hold is not free; a limit that is used up leaves 1 MiB", "[machine]") {
  Files files{{"/proc/self/cgroup", "0::/\n"},
              {"/proc/self/mountinfo", kV2Mount},
              {"/sys/fs/cgroup/memory.max", Mib(8192)},
              {"/sys/fs/cgroup/memory.current", Mib(7192)},
              {"/sys/fs/cgroup/memory.stat", "anon 7000000000\n"}};
  CHECK(MemoryOf(MachineWith(files)).bytes == 500 * kMiB);
  files["/sys/fs/cgroup/memory.current"] = Mib(9000);
  CHECK(MemoryOf(MachineWith(files)).bytes == kMiB);
  CHECK(MemoryOf(MachineWith(files)).free == 0);
}

TEST_CASE("pids.max and ulimit bound threads and memory", "[machine]") {
  Machine machine = MachineWith({{"/proc/self/cgroup", "3:pids:/job\n"},
                                 {"/proc/self/mountinfo", kV1Mounts},
                                 {"/sys/fs/cgroup/pids/job/tasks", ""},
                                 {"/sys/fs/cgroup/pids/job/pids.max", "40\n"},
                                 {"/sys/fs/cgroup/pids/job/pids.current", "20\n"},
                                 {"/proc/self/status", "VmSize:\t  102400 kB\nVmData:\t   51200 kB\n"}});
  CHECK(CoresOf(machine).threads == 10);
  machine.data = 251 * kMiB;
  CHECK(MemoryOf(machine).reason == "half of what ulimit -d leaves free (201 MiB of 251 MiB)");
  machine.data.reset();
  // Stacks and arenas of 3 workers and 5 other threads are no memory for --max-memory.
  machine.address_space = 1000 * kMiB;
  CHECK(CoresOf(machine).threads == 3);
  CHECK(MemoryOf(machine).free == (900 - 8 * 72) * kMiB);
}

TEST_CASE("limits of a run: what is asked for is taken, and default threads are no more than memory feeds",
          "[machine]") {
  const Machine machine = MachineWith(
      {{"/proc/self/cgroup", "0::/\n"}, {"/proc/self/mountinfo", kV2Mount}, {"/sys/fs/cgroup/memory.max", Mib(128)}});
  RunLimits limits = LimitsOfRun(0, 0, machine);
  CHECK(limits.max_memory == 64 * kMiB);
  CHECK(limits.threads == 8);
  CHECK(limits.Reasons() == std::vector<std::string>{"--threads 8: --max-memory of 64 MiB feeds no more",
                                                     "--max-memory 64 MiB: half of what cgroup /sys/fs/cgroup leaves "
                                                     "free (128 MiB of 128 MiB)"});
  // Work that needs more gets it, as long as a little stays free.
  CHECK(RaiseMemoryTo(96 * kMiB, &limits));
  CHECK(limits.max_memory == 96 * kMiB);
  CHECK_FALSE(RaiseMemoryTo(97 * kMiB, &limits));
  const RunLimits asked = LimitsOfRun(40, kGiB, machine);
  CHECK(asked.threads == 40);
  CHECK(asked.max_memory == kGiB);
  CHECK(asked.Reasons().empty());
  RunLimits bound = LimitsOfRun(0, 32 * kMiB, machine);
  CHECK(bound.threads == 4);
  CHECK_FALSE(RaiseMemoryTo(33 * kMiB, &bound));
}

TEST_CASE("this machine can be read", "[machine]") {
  const Machine machine = ThisMachine();
  CHECK(machine.allowed >= 1);
  CHECK(machine.cores >= machine.allowed);
  CHECK(ReadSystemText("/proc/self/cgroup").has_value());
  CHECK_FALSE(ReadSystemText("/proc/no such file").has_value());
  CHECK(ReadSystemText("/proc/self/status")->find("VmSize") != std::string::npos);
  CHECK(DefaultThreads() >= 1);
  CHECK(ThreadsOrDefault(7) == 7);
  CHECK(MemoryOf(machine).bytes >= kMiB);
}

}  // namespace q4
