// /proc/self/cgroup has a line "number:controllers:path" for each tree, where version 2 is "0::path".
// /proc/self/mountinfo says where trees are mounted, and which of their groups is seen there as the top ("root"):
//
//   30 23 0:26 /docker/4f /sys/fs/cgroup/memory ro,nosuid - cgroup cgroup rw,memory
//   id parent device root  mount point           options  - type   source super options
#include "libconvert/base/cgroup.h"

#include <algorithm>
#include <charconv>
#include <utility>

namespace q4 {
namespace {

// The parts of `text` between `separator`; empty parts too.
std::vector<std::string_view> Split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  for (;;) {
    const std::size_t at = text.find(separator);
    parts.push_back(text.substr(0, at));
    if (at == std::string_view::npos) return parts;
    text.remove_prefix(at + 1);
  }
}

bool HasItem(std::string_view list, std::string_view item) {
  const std::vector<std::string_view> items = Split(list, ',');
  return std::find(items.begin(), items.end(), item) != items.end();
}

// mountinfo writes blanks, tabs, line ends and backslashes as "\040".
std::string Unescaped(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    unsigned code = 0;
    const char* const digits = text.data() + i + 1;
    if (text[i] == '\\' && i + 3 < text.size() && std::from_chars(digits, digits + 3, code, 8).ptr == digits + 3) {
      out.push_back(static_cast<char>(code));
      i += 3;
    } else {
      out.push_back(text[i]);
    }
  }
  return out;
}

// A tree that is mounted somewhere.
struct Mount {
  std::string root;   // the group that is seen as the top, "/" for all
  std::string point;  // without a slash at its end
};

// Those of version 2, or of the version 1 tree of `controller`.
std::vector<Mount> MountsOf(std::string_view controller, bool is_v2, const SystemReader& read) {
  std::vector<Mount> mounts;
  const std::optional<std::string> text = read("/proc/self/mountinfo");
  if (!text) return mounts;
  for (const std::string_view line : Split(*text, '\n')) {
    // Optional fields stand before the dash, so that only what lies behind it is found from there.
    const std::size_t dash = line.find(" - ");
    if (dash == std::string_view::npos) continue;
    const std::vector<std::string_view> before = Split(line.substr(0, dash), ' ');
    const std::vector<std::string_view> behind = Split(line.substr(dash + 3), ' ');
    if (before.size() < 5 || behind.size() < 3) continue;
    if (is_v2 ? behind[0] != "cgroup2" : behind[0] != "cgroup" || !HasItem(behind[2], controller)) continue;
    Mount mount{Unescaped(before[3]), Unescaped(before[4])};
    if (mount.point == "/") mount.point.clear();
    mounts.push_back(std::move(mount));
  }
  return mounts;
}

// The path of the process's group in the tree.
std::optional<std::string> GroupPath(std::string_view controller, bool is_v2, const SystemReader& read) {
  const std::optional<std::string> text = read("/proc/self/cgroup");
  if (!text) return std::nullopt;
  for (const std::string_view line : Split(*text, '\n')) {
    const std::size_t first = line.find(':');
    const std::size_t second = first == std::string_view::npos ? first : line.find(':', first + 1);
    if (second == std::string_view::npos) continue;
    const std::string_view controllers = line.substr(first + 1, second - first - 1);
    if (is_v2 ? !controllers.empty() : !HasItem(controllers, controller)) continue;
    return std::string(line.substr(second + 1));
  }
  return std::nullopt;
}

// What is at `path` of the tree, as a path behind the mount point: "" for the top. Nothing where it is not below it.
std::optional<std::string> BelowMount(const Mount& mount, const std::string& path) {
  // "/.." begins a path that leads out of the namespace: whatever it is, it is not to be found by that name.
  if (path.empty() || path[0] != '/' || path.starts_with("/..") || mount.root.starts_with("/..")) return std::nullopt;
  if (mount.root == "/") return path == "/" ? "" : path;
  if (!path.starts_with(mount.root)) return std::nullopt;
  const std::string below = path.substr(mount.root.size());
  if (!below.empty() && below[0] != '/') return std::nullopt;
  return below;
}

// Every group has it, in both versions.
bool IsGroup(const std::string& directory, const SystemReader& read) {
  return read(directory + "/cgroup.procs").has_value() || read(directory + "/tasks").has_value();
}

// The process's own group as a path behind the mount point.
std::string VisiblePath(const Mount& mount, const std::string& path, const SystemReader& read) {
  if (const std::optional<std::string> below = BelowMount(mount, path); below && IsGroup(mount.point + *below, read)) {
    return *below;
  }
  // Names of the host that are seen from inside: the mount shows only the end of the path, or nothing of it.
  if (path.starts_with("/..")) return {};
  for (std::size_t at = path.find('/', 1); at != std::string::npos; at = path.find('/', at + 1)) {
    if (IsGroup(mount.point + path.substr(at), read)) return path.substr(at);
  }
  return {};
}

void AddTree(std::string_view controller, bool is_v2, const SystemReader& read, std::vector<Cgroup>* groups) {
  const std::optional<std::string> path = GroupPath(controller, is_v2, read);
  if (!path) return;
  const std::vector<Mount> mounts = MountsOf(controller, is_v2, read);
  if (mounts.empty()) return;
  // A tree can be mounted twice, with less to be seen in one place: where the group itself is visible, else the first.
  const auto shows = [&](const Mount& mount) {
    const std::optional<std::string> below = BelowMount(mount, *path);
    return below && IsGroup(mount.point + *below, read);
  };
  const auto visible = std::find_if(mounts.begin(), mounts.end(), shows);
  const Mount& mount = visible != mounts.end() ? *visible : mounts.front();
  std::string below = VisiblePath(mount, *path, read);
  for (;;) {
    groups->push_back({mount.point + below, is_v2});
    if (below.empty() || below == "/") return;
    below.resize(below.rfind('/'));
  }
}

}  // namespace

std::vector<Cgroup> CgroupsOf(std::string_view controller, const SystemReader& read) {
  std::vector<Cgroup> groups;
  AddTree(controller, /*is_v2=*/false, read, &groups);
  AddTree(controller, /*is_v2=*/true, read, &groups);
  return groups;
}

std::optional<std::uint64_t> SystemNumber(const std::string& path, const SystemReader& read) {
  const std::optional<std::string> text = read(path);
  if (!text) return std::nullopt;
  std::uint64_t number = 0;
  const char* const end = text->data() + text->size();
  const auto [rest, error] = std::from_chars(text->data(), end, number);
  // A line end follows, or in cpu.max a blank.
  if (error != std::errc() || (rest != end && *rest != '\n' && *rest != ' ')) return std::nullopt;
  return number;
}

std::optional<std::uint64_t> NumberBehind(std::string_view key, std::string_view text) {
  for (const std::string_view line : Split(text, '\n')) {
    if (!line.starts_with(key)) continue;
    std::string_view rest = line.substr(key.size());
    if (rest.empty() || (rest[0] != ' ' && rest[0] != ':' && rest[0] != '\t')) continue;
    rest.remove_prefix(std::min(rest.find_first_of("0123456789"), rest.size()));
    std::uint64_t number = 0;
    const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), number);
    if (error != std::errc()) return std::nullopt;
    return rest.ends_with("kB") && number < UINT64_MAX / 1024 ? number * 1024 : number;
  }
  return std::nullopt;
}

}  // namespace q4
