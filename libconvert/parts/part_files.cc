#include "libconvert/parts/part_files.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <optional>
#include <string_view>
#include <utility>

#include "formats/base/base_issues.h"
#include "formats/base/limits.h"
#include "formats/base/status.h"
#include "formats/publish/atomic_file.h"
#include "formats/q4/shards.h"
#include "libconvert/parts/parts_issues.h"

namespace q4 {
namespace {

// The number of a record, from 0, by its name.
std::optional<std::size_t> ShardOfRecord(std::string_view name) {
  std::size_t number = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), number);
  if (error != std::errc() || number == 0 || number > limits::kShards) return std::nullopt;
  return fmt::format("{:05}", number) == name ? std::optional(number - 1) : std::nullopt;
}

// The name that a hidden partial file is to become: what stands before the random digits.
std::string_view TargetOfPartial(std::string_view name) {
  if (!name.starts_with('.')) return {};
  const std::size_t tail = name.find(".partial");
  if (tail == std::string_view::npos || tail == 0) return {};
  const std::size_t digits = name.rfind('.', tail - 1);
  if (digits == std::string_view::npos || digits == 0) return {};
  const std::string_view target = name.substr(1, digits - 1);
  return IsUniquePartial(name, target) ? target : std::string_view();
}

// Whether `name` is the name of a shard of `output`, whatever its numbers.
bool IsShardName(std::string_view name, const std::string& output) {
  const std::string begin = BaseNameOf(output).substr(0, BaseNameOf(output).size() - 3) + "-";
  if (!name.starts_with(begin)) return false;
  std::uint32_t shard = 0, count = 0;
  const char* at = name.data() + begin.size();
  const char* const end = name.data() + name.size();
  const auto first = std::from_chars(at, end, shard);
  if (first.ec != std::errc() || shard == 0 || !std::string_view(first.ptr, end).starts_with("-of-")) return false;
  const auto second = std::from_chars(first.ptr + 4, end, count);
  return second.ec == std::errc() && name == BaseNameOf(Q4ShardName(output, shard - 1, count));
}

absl::Status AddLeftovers(FileSystem& fs, const std::string& folder,
                          bool (*is_ours)(std::string_view, const std::string&), const std::string& output,
                          std::vector<LeftoverPart>* found) {
  Q4_ASSIGN_OR_RETURN(const std::vector<std::string> names, fs.ListDirectory(folder));
  for (const std::string& name : names) {
    const std::string_view target = TargetOfPartial(name);
    if (target.empty() || !is_ours(target, output)) continue;
    const std::string path = JoinPath(folder, name);
    Q4_ASSIGN_OR_RETURN(const PathInfo info, fs.Stat(path));
    if (info.is_regular && !info.is_symlink) found->push_back({path, info.size});
  }
  return absl::OkStatus();
}

}  // namespace

std::string PartShardPath(const std::string& output, std::size_t shard, std::size_t count) {
  return Q4ShardName(output, static_cast<std::uint32_t>(shard), static_cast<std::uint32_t>(count));
}

std::string RecordFolder(const std::string& output) { return output + ".parts"; }

std::string RecordPath(const std::string& output, std::size_t shard) {
  return JoinPath(RecordFolder(output), fmt::format("{:05}", shard + 1));
}

std::string CompletePath(const std::string& output, std::size_t count) {
  return count == 1 ? output : Q4ShardIndexName(output);
}

absl::StatusOr<std::unique_ptr<HeldDirectory>> HoldRecordFolder(FileSystem& fs, const std::string& output) {
  const std::string folder = RecordFolder(output);
  Q4_ASSIGN_OR_RETURN(const PathInfo info, fs.Stat(folder));
  if (info.is_symlink || (info.exists && !info.is_directory)) return Fail(kOutputNotADirectory, folder, {});
  if (!info.exists) return nullptr;
  Q4_RETURN_IF_ERROR(fs.CheckOurs(folder, /*shared=*/true));
  return fs.Hold(folder);
}

std::vector<std::string> PartNames(const std::string& output, std::size_t count) {
  std::vector<std::string> names{output, Q4ShardIndexName(output), RecordFolder(output)};
  for (std::size_t i = 0; i < count; ++i) {
    names.push_back(PartShardPath(output, i, count));
    names.push_back(RecordPath(output, i));
  }
  return names;
}

absl::Status CheckNotComplete(FileSystem& fs, const std::string& output) {
  for (const std::string& path : {Q4ShardIndexName(output), output}) {
    Q4_ASSIGN_OR_RETURN(const PathInfo info, fs.Stat(path));
    if (info.exists || info.is_symlink) return Fail(kModelComplete, path, {});
  }
  return absl::OkStatus();
}

absl::StatusOr<FoundRecords> ReadRecords(FileSystem& fs, const std::string& output) {
  FoundRecords found;
  const std::string folder = RecordFolder(output);
  Q4_ASSIGN_OR_RETURN(const std::unique_ptr<HeldDirectory> held, HoldRecordFolder(fs, output));
  if (held == nullptr) return found;
  Q4_ASSIGN_OR_RETURN(const std::vector<std::string> names, fs.ListDirectory(folder));
  for (const std::string& name : names) {
    const std::optional<std::size_t> shard = ShardOfRecord(name);
    if (!shard) continue;
    const std::string path = JoinPath(folder, name);
    absl::StatusOr<PartRecord> record = ReadRecord(fs, path);
    // A network file system may hold an old handle of a file that another machine has replaced: a second look is new.
    if (ExitCodeOf(record.status()) == ExitCode::kIo) record = ReadRecord(fs, path);
    // What cannot be read now is not missing: the merge may be tried again.
    if (IssueNumberOf(record.status()) == kCannotRead.number) return record.status();
    if (!record.ok()) {
      // One that a merge has removed since is told by the list, which the caller looks for.
      found.damaged.push_back(MessageOf(record.status()));
    } else if (record->shard->index().shard != *shard) {
      found.damaged.push_back(MessageOf(Fail(kPartRecord, path, "number of the shard")));
    } else {
      found.records.push_back(*std::move(record));
    }
  }
  return found;
}

absl::StatusOr<std::vector<LeftoverPart>> LeftoverParts(FileSystem& fs, const std::string& output) {
  std::vector<LeftoverPart> found;
  const auto is_of_output = [](std::string_view name, const std::string& of) {
    return IsShardName(name, of) || name == BaseNameOf(Q4ShardIndexName(of));
  };
  Q4_RETURN_IF_ERROR(AddLeftovers(fs, DirectoryOf(output), is_of_output, output, &found));
  Q4_ASSIGN_OR_RETURN(const std::unique_ptr<HeldDirectory> held, HoldRecordFolder(fs, output));
  if (held != nullptr) {
    const auto is_record = [](std::string_view name, const std::string&) { return ShardOfRecord(name).has_value(); };
    Q4_RETURN_IF_ERROR(AddLeftovers(fs, RecordFolder(output), is_record, output, &found));
  }
  return found;
}

}  // namespace q4
