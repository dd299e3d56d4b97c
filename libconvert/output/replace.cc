// Files are opened to be looked at, at a few bytes of each, and only where there is something to replace.
#include "libconvert/output/replace.h"

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>

#include "formats/base/limits.h"
#include "formats/base/status.h"
#include "formats/q4/layout.h"
#include "formats/q4/reader.h"
#include "formats/q4/shards.h"
#include "libconvert/output/output_issues.h"

namespace q4 {
namespace {

// The first bytes of a file, at most `most`.
absl::StatusOr<std::string> HeadOf(FileSystem& fs, const std::string& path, std::size_t most) {
  Q4_ASSIGN_OR_RETURN(const auto file, fs.OpenForRead(path, SymbolicLinks::kNever));
  std::string head(static_cast<std::size_t>(std::min<std::uint64_t>(most, file->size())), '\0');
  Q4_RETURN_IF_ERROR(file->ReadAt(0, {reinterpret_cast<std::uint8_t*>(head.data()), head.size()}));
  return head;
}

bool IsOfKind(std::string_view head, OutputKind kind) {
  const std::string_view magic(reinterpret_cast<const char*>(kQ4Magic.data()), kQ4Magic.size());
  return kind == OutputKind::kContainer ? head.starts_with(magic) : IsQ4ShardListHead(head);
}

// The list of shards of an older output, without parts where it cannot be parsed; nullopt where there is none, or
// something else has its name.
absl::StatusOr<std::optional<Q4ShardList>> OldList(FileSystem& fs, const std::string& path) {
  Q4_ASSIGN_OR_RETURN(const PathInfo info, fs.Stat(path));
  if (!info.is_regular || info.is_symlink || info.size > limits::kShardIndexBytes) return std::nullopt;
  Q4_ASSIGN_OR_RETURN(const std::string text, ReadWholeFile(fs, path, limits::kShardIndexBytes, SymbolicLinks::kNever));
  if (!IsQ4ShardListHead(text)) return std::nullopt;
  absl::StatusOr<Q4ShardList> list = ParseQ4ShardList(text, path);
  return list.ok() ? *std::move(list) : Q4ShardList();
}

}  // namespace

absl::Status CheckPlace(FileSystem& fs, const std::string& path, OutputKind kind, bool replace) {
  Q4_ASSIGN_OR_RETURN(const PathInfo info, fs.Stat(path));
  if (!info.exists && !info.is_symlink) return absl::OkStatus();
  if (info.exists && !info.is_regular) {
    return Fail(kOutputNotAFile, path, {}, info.is_directory ? "a folder; name a file in it" : "");
  }
  if (!replace) return Fail(kWouldReplace, path, {});
  // The link would be replaced and the file behind it stay, which is hardly what --force was meant to do.
  if (info.is_symlink) return Fail(kNotOurs, path, {}, "got a symbolic link; remove it, or name the file behind it");
  // Nothing can be lost with it: mktemp makes such files.
  if (info.size == 0) return absl::OkStatus();
  Q4_ASSIGN_OR_RETURN(const std::string head, HeadOf(fs, path, kQ4ShardListHeadBytes));
  if (IsOfKind(head, kind)) return absl::OkStatus();
  return Fail(kNotOurs, path, {},
              kind == OutputKind::kContainer ? "got no .q4 container; remove it, or choose another output"
                                             : "got no list of shards; remove it, or choose another output");
}

absl::StatusOr<std::vector<std::string>> StaleFiles(FileSystem& fs, const InputFiles& inputs, const std::string& output,
                                                    const std::vector<std::string>& names) {
  const auto is_new = [&](const std::string& path) {
    return std::find(names.begin(), names.end(), path) != names.end();
  };
  std::vector<std::string> stale;
  const std::string list_path = Q4ShardIndexName(output);
  Q4_ASSIGN_OR_RETURN(const std::optional<Q4ShardList> list, OldList(fs, list_path));
  // The list first: without it its shards are no model any more.
  if (list && !is_new(list_path)) stale.push_back(list_path);
  for (const Q4ShardEntry& part : list ? list->parts : std::vector<Q4ShardEntry>()) {
    const std::string path = JoinPath(DirectoryOf(output), part.name);
    if (is_new(path)) continue;
    Q4_ASSIGN_OR_RETURN(const PathInfo info, fs.Stat(path));
    if (!info.is_regular || info.is_symlink) continue;
    const absl::StatusOr<std::unique_ptr<Q4Reader>> reader = Q4Reader::Open(fs, path);
    if (!reader.ok() && ExitCodeOf(reader.status()) == ExitCode::kIo) return reader.status();
    if (reader.ok() && (*reader)->seal().root == part.root && (*reader)->seal().file_bytes == part.bytes) {
      stale.push_back(path);
    }
  }
  if (!is_new(output)) {
    Q4_ASSIGN_OR_RETURN(const PathInfo info, fs.Stat(output));
    if (info.exists && info.size != 0) {
      const absl::Status place = CheckPlace(fs, output, OutputKind::kContainer, /*replace=*/true);
      if (ExitCodeOf(place) == ExitCode::kIo) return place;
      if (place.ok()) stale.push_back(output);
    }
  }
  for (const std::string& path : stale) {
    Q4_ASSIGN_OR_RETURN(const PathInfo info, fs.Stat(path));
    if (info.is_symlink) return std::vector<std::string>();
  }
  const absl::Status names_none = inputs.CheckNames(fs, stale, kOutputIsInput);
  if (IssueNumberOf(names_none) == kOutputIsInput.number) return std::vector<std::string>();
  Q4_RETURN_IF_ERROR(names_none);
  return stale;
}

}  // namespace q4
