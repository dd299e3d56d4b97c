// The directory is listed, then files that have a recorded size are digested, on all threads; then every entry is
// somebody's. All this is asked before anything is written, so a refusal changes nothing, and once more before
// publishing.
#include "libconvert/export/replace.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "formats/base/status.h"
#include "libconvert/base/parallel.h"
#include "libconvert/export/export_issues.h"
#include "libconvert/model/provenance_view.h"

namespace q4 {
namespace {

struct Entry {
  std::string name;  // relative
  PathInfo info;
};

// What records say of a name. More than one record may name it.
struct Recorded {
  std::uint64_t bytes = 0;
  std::string sha256;
  bool pending = false;  // of a run that did not end
};

// Several records at once: the directory's own, and those of partial directories.
struct Records {
  std::multimap<std::string, Recorded> files;
  std::set<std::string> directories;  // that recorded files lie in
  bool has_own = false;               // the directory has a record

  void Add(const std::vector<ExportRecordFile>& recorded, bool pending) {
    for (const ExportRecordFile& file : recorded) {
      files.emplace(file.name, Recorded{file.bytes, file.sha256, pending});
      // "a/b/c.json" lies in "a/b", and that in "a".
      for (std::size_t slash = file.name.find('/'); slash != std::string::npos;
           slash = file.name.find('/', slash + 1)) {
        directories.insert(file.name.substr(0, slash));
      }
    }
  }
};

absl::StatusOr<Records> ReadRecords(FileSystem& fs, const std::string& path) {
  Records records;
  Q4_ASSIGN_OR_RETURN(const auto own, ReadExportRecord(fs, path));
  records.has_own = !own.empty();
  records.Add(own, /*pending=*/false);
  Q4_ASSIGN_OR_RETURN(const auto leftovers, AtomicDirectory::Leftovers(fs, path));
  for (const std::string& leftover : leftovers) {
    Q4_ASSIGN_OR_RETURN(const auto pending, ReadExportRecord(fs, leftover));
    records.Add(pending, /*pending=*/true);
  }
  return records;
}

// Adds all entries below `root`/`inside`, but for directories that recorded files lie in, which are entered instead,
// and what runs of ours leave at the top. A link is never entered.
absl::Status ListEntries(FileSystem& fs, const Records& records, const std::string& root, const std::string& inside,
                         std::vector<Entry>* entries) {
  Q4_ASSIGN_OR_RETURN(const auto names, fs.ListDirectory(inside.empty() ? root : JoinPath(root, inside)));
  for (const std::string& entry : names) {
    if (inside.empty() && AtomicDirectory::IsOwnName(entry)) continue;
    const std::string name = inside.empty() ? entry : inside + "/" + entry;
    Q4_ASSIGN_OR_RETURN(const PathInfo info, fs.Stat(JoinPath(root, name)));
    if (info.is_directory && !info.is_symlink && records.directories.contains(name)) {
      Q4_RETURN_IF_ERROR(ListEntries(fs, records, root, name, entries));
    } else {
      entries->push_back({name, info});
    }
  }
  return absl::OkStatus();
}

enum class Owner { kOurs, kUnfinished, kOthers };

// Whose an entry is. Reads the file only where a record names it with this size.
absl::StatusOr<Owner> OwnerOf(FileSystem& fs, const Records& records, const std::string& root, const Entry& entry,
                              const ReplaceOptions& options) {
  if (entry.info.is_symlink || !entry.info.is_regular) return Owner::kOthers;
  if (entry.name == kExportRecordName) return records.has_own ? Owner::kOurs : Owner::kOthers;
  Owner owner = Owner::kOthers;
  const auto [first, last] = records.files.equal_range(entry.name);
  for (auto recorded = first; recorded != last; ++recorded) {
    if (recorded->second.bytes != entry.info.size) continue;
    Q4_ASSIGN_OR_RETURN(const auto file, fs.OpenForRead(JoinPath(root, entry.name), SymbolicLinks::kNever));
    Q4_ASSIGN_OR_RETURN(const std::string digest, options.digests->Of(*file, "sha256", options.cancel));
    if (digest != recorded->second.sha256) continue;
    // What a killed run has put there is nobody's yet, even where an older record happens to name the same bytes.
    if (recorded->second.pending) return Owner::kUnfinished;
    owner = Owner::kOurs;
  }
  return owner;
}

// Size, kind of digest and digest of a source, and the name that the provenance gives it. In this order, so that a file
// that has the size of many is digested once.
using Sources = std::map<std::tuple<std::uint64_t, std::string, std::string>, std::string>;

// Of all shards: each lists what it was made from.
absl::StatusOr<Sources> SourcesOf(const Q4Model& model) {
  Sources sources;
  for (const auto& shard : model.shards()) {
    // A provenance that cannot be parsed is an error: without it nobody knows whether a file is the original.
    Q4_ASSIGN_OR_RETURN(const ProvenanceView view, ParseProvenance(shard->index().provenance, shard->path()));
    for (const SourceFileRecord& source : view.sources) {
      sources.try_emplace({source.size, source.digest_kind, source.digest}, source.name);
    }
  }
  return sources;
}

// Compares sizes first: a digest costs a read of the whole file, and a source is as large as a model.
absl::Status CheckIsNone(FileSystem& fs, const Sources& sources, const std::string& path,
                         const ReplaceOptions& options) {
  Q4_ASSIGN_OR_RETURN(const auto file, fs.OpenForRead(path, SymbolicLinks::kFollow));
  for (auto source = sources.lower_bound({file->size(), "", ""}); source != sources.end(); ++source) {
    const auto& [size, kind, digest] = source->first;
    if (size != file->size()) break;
    Q4_ASSIGN_OR_RETURN(const std::string got, options.digests->Of(*file, kind, options.cancel));
    if (got == digest) return Fail(kExportIsSource, path, {}, "'" + source->second + "' of the provenance");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<DirectoryUse> CheckDirectory(FileSystem& fs, const Q4Model& model, const std::string& path,
                                            const ReplaceOptions& options) {
  Q4_ASSIGN_OR_RETURN(const Records records, ReadRecords(fs, path));
  std::vector<Entry> entries;
  Q4_RETURN_IF_ERROR(ListEntries(fs, records, path, "", &entries));
  DirectoryUse use;
  use.may_exist = true;
  // Said before a whole export is digested.
  if (records.has_own && !options.force) return Fail(kExportExists, path, {});
  Q4_ASSIGN_OR_RETURN(const Sources sources, SourcesOf(model));

  std::vector<std::string> others;
  const auto work = [&](std::uint64_t i) { return OwnerOf(fs, records, path, entries[i], options); };
  const auto commit = [&](std::uint64_t i, const absl::StatusOr<Owner>& owner) -> absl::Status {
    Q4_RETURN_IF_ERROR(owner.status());
    (*owner == Owner::kOthers ? others : use.ours).push_back(entries[i].name);
    if (*owner == Owner::kUnfinished) use.kept_record = kExportRecordName;
    return absl::OkStatus();
  };
  Q4_RETURN_IF_ERROR(ParallelInOrder(entries.size(), options.threads, work, commit));

  if (!others.empty() && !options.into) {
    // The original is told as what it is.
    for (const Entry& entry : entries) {
      if (entry.info.is_regular) Q4_RETURN_IF_ERROR(CheckIsNone(fs, sources, JoinPath(path, entry.name), options));
    }
    return Fail(kExportNotReplaceable, path, others.front(),
                std::string(records.files.contains(others.front()) ? "changed since q4export wrote it"
                                                                   : "not written by q4export") +
                    "; remove it, choose another output, or leave such files where they are with --into");
  }
  use.keep_others = !others.empty();
  for (const std::string& name : use.ours) {
    Q4_RETURN_IF_ERROR(CheckIsNone(fs, sources, JoinPath(path, name), options));
  }
  return use;
}

absl::Status CheckPlaces(FileSystem& fs, const std::string& path, const DirectoryUse& use,
                         const std::set<std::string>& names) {
  if (!use.keep_others) return absl::OkStatus();
  const std::set<std::string> ours(use.ours.begin(), use.ours.end());
  constexpr std::string_view kTaken = "a file that is not q4export's has the name of one that would be written";
  for (const std::string& name : names) {
    for (std::size_t slash = name.find('/'); slash != std::string::npos; slash = name.find('/', slash + 1)) {
      const std::string parent = name.substr(0, slash);
      Q4_ASSIGN_OR_RETURN(const PathInfo info, fs.Stat(JoinPath(path, parent)));
      const bool there = info.exists || info.is_symlink;
      if (there && (info.is_symlink || !info.is_directory)) return Fail(kExportNotReplaceable, path, parent, kTaken);
    }
    Q4_ASSIGN_OR_RETURN(const PathInfo info, fs.Stat(JoinPath(path, name)));
    if ((info.exists || info.is_symlink) && !ours.contains(name)) {
      return Fail(kExportNotReplaceable, path, name, kTaken);
    }
  }
  return absl::OkStatus();
}

absl::Status CheckFile(FileSystem& fs, const Q4Model& model, const std::string& path, const ReplaceOptions& options) {
  if (!options.force) return Fail(kExportExists, path, {});
  Q4_ASSIGN_OR_RETURN(const Sources sources, SourcesOf(model));
  Q4_RETURN_IF_ERROR(CheckIsNone(fs, sources, path, options));
  Q4_ASSIGN_OR_RETURN(const auto file, fs.OpenForRead(path, SymbolicLinks::kNever));
  if (file->size() == 0) return absl::OkStatus();
  Q4_ASSIGN_OR_RETURN(const bool marked, IsMarked(*file, options.cancel));
  return marked ? absl::OkStatus()
                : Fail(kExportNotReplaceable, path, {},
                       "not written by q4export, or changed since; remove it, or choose another output");
}

}  // namespace q4
